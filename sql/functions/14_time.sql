-- Time: expiry of jobs that were not started in time, timeouts of their own, and cancelling what runs.

-- As text that sorts like the time and needs no setting to be read: the form of options.expires_at.
create or replace function utc_text(p_at timestamptz) returns text
language sql stable parallel safe
return to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Strict: a job without options costs nothing.
create or replace function is_expired(p_options jsonb, p_now text) returns boolean
language sql immutable parallel safe
return coalesce((p_options ->> 'expires_at') collate "C" <= p_now collate "C", false);
comment on function is_expired(jsonb, text) is 'Whether a job with these options must not be started any more at p_now (utc_text).';

-- What a claim hands to its worker: the time that is left instead of the time of day, so that clocks need not agree.
create or replace function with_time_left(p_options jsonb) returns jsonb
language sql volatile security definer set search_path from current as $$
  select p_options || jsonb_build_object('expires_in_ms',
    least(greatest(0, floor(extract(epoch from (p_options ->> 'expires_at')::timestamptz - clock_timestamp()) * 1000)), 315360000000)::bigint)
$$;

-- The checks of expires_at, expires_in and timeout; null when none is given.
create or replace function time_options(p_expires_at timestamptz, p_expires_in interval, p_timeout interval, p_run_at timestamptz, p_delay interval)
returns jsonb language plpgsql stable security definer set search_path from current as $$
declare
  v_now timestamptz := clock_timestamp();
  v_expires timestamptz := p_expires_at;
  v_options jsonb;
begin
  if p_expires_in is not null then
    if p_expires_at is not null then
      raise exception 'posthouse: both expires_at and expires_in are given' using errcode = '22023', hint = 'Give one of them.';
    end if;
    if p_expires_in <= interval '0' or p_expires_in > interval '10 years' then
      raise exception 'posthouse: expires_in is %', p_expires_in using errcode = '22023', hint = 'expires_in is more than 0 and at most 10 years, from now.';
    end if;
    v_expires := v_now + p_expires_in;
  end if;
  if v_expires is not null then
    if not isfinite(v_expires) or v_expires > v_now + interval '100 years' or v_expires < '0001-01-01 00:00:00+00' then
      raise exception 'posthouse: expires_at is %', v_expires using errcode = '22023', hint = 'expires_at is a finite time within 100 years; in the past, the job ends as expired at once.';
    end if;
    if v_expires > v_now and (v_expires <= p_run_at or v_expires <= v_now + p_delay) then
      raise exception 'posthouse: the job expires at %, before it may run', v_expires
        using errcode = '22023', hint = 'Let it expire after run_at or delay; expires_in counts from now, not from run_at.';
    end if;
    v_options := jsonb_build_object('expires_at', utc_text(v_expires));
  end if;
  if p_timeout is not null then
    if p_timeout < interval '1 millisecond' or p_timeout > interval '10 years' then
      raise exception 'posthouse: timeout is %', p_timeout using errcode = '22023', hint = 'timeout is 1 ms to 10 years; leave it out for the kind''s own.';
    end if;
    v_options := coalesce(v_options, '{}') || jsonb_build_object('timeout_ms', least(ceil(extract(epoch from p_timeout) * 1000), 315360000000)::bigint);
  end if;
  return v_options;
end $$;

-- Ends a job that no worker holds as p_state (cancelled or expired): ended. Else what it does: running, finished (ended in
-- whatever way), not_found; kept: it is to expire and its time has not come (an operator has given it more). p_wait false
-- never waits for another transaction and says busy instead.
create or replace function end_waiting(p_id bigint, p_state text, p_wait boolean) returns text
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  j record;
  c record;
  v_space int := key_space();
begin
  -- A job that moves from table to table meanwhile (promotion, retry, rescue) is looked for again.
  for i in 1..100 loop
    if not p_wait and exists (select from deferred d where d.id = p_id)
       and not exists (select from deferred d where d.id = p_id for update skip locked) then
      return 'busy';
    end if;
    with gone as (delete from deferred d where d.id = p_id
        and (p_state <> 'expired' or is_expired(d.options, utc_text(clock_timestamp()))) returning d.*)
    insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
      select g.id, g.lane, p_state, clock_timestamp(), g.queued_at, g.attempt, end_reason(p_state), g.payload, g.payload_bytes, g.headers, g.options from gone g;
    if found then
      perform note_key(d.lane, d.options) from dead d where d.id = p_id;
      return 'ended';
    end if;
    if not p_wait and exists (select from parked p where p.id = p_id)
       and not exists (select from parked p where p.id = p_id for update skip locked) then
      return 'busy';
    end if;
    with gone as (delete from parked p where p.id = p_id
        and (p_state <> 'expired' or is_expired(p.options, utc_text(clock_timestamp()))) returning p.*)
    insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
      select g.id, g.lane, p_state, clock_timestamp(), g.queued_at, g.attempt, end_reason(p_state), g.payload, g.payload_bytes, g.headers, g.options from gone g;
    if found then return 'ended'; end if;
    select q.lane, q.txid, is_expired(q.options, utc_text(clock_timestamp())) as late into j from job q where q.id = p_id;
    if found then
      if p_state = 'expired' and not j.late then return 'kept'; end if;
      -- Under the lane's lock no claim is in flight; what the cursor says then is final.
      if p_wait then
        perform pg_advisory_xact_lock(v_space, hashint8(j.lane) & -4);
      elsif not pg_try_advisory_xact_lock(v_space, hashint8(j.lane) & -4) then
        return 'busy';
      end if;
      select b.lo, b.hi, b.pos_txid, b.pos_id into c from batch b where b.lane = j.lane order by b.seq desc limit 1;
      if not is_claimed(j.txid, p_id, c.lo, c.hi, c.pos_txid, c.pos_id) then
        with gone as (delete from job q where q.id = p_id and q.lane = j.lane and q.txid = j.txid returning q.*)
        insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
          select g.id, g.lane, p_state, clock_timestamp(), coalesce((g.options ->> 'enqueued_at')::timestamptz, g.queued_at), g.attempt,
            end_reason(p_state), g.payload, g.payload_bytes, g.headers, g.options from gone g;
        if found then
          perform note_key(d.lane, d.options) from dead d where d.id = p_id;
          return 'ended';
        end if;
      elsif p_state = 'expired' then
        return 'running';  -- or it has ended: all the same here
      elsif exists (select from held() o where o.id = p_id) then
        return 'running';
      elsif exists (select from job q where q.id = p_id and q.lane = j.lane and q.txid = j.txid) then
        return 'finished';
      end if;
    elsif exists (select from dead d where d.id = p_id) then
      return 'finished';
    elsif exists (select from deferred d where d.id = p_id) or exists (select from parked p where p.id = p_id) then
      if p_state = 'expired' then return 'kept'; end if;
    elsif not exists (select from job q where q.id = p_id union all select from deferred d where d.id = p_id union all select from parked p where p.id = p_id
        union all select from dead d where d.id = p_id) then
      return 'not_found';
    end if;
  end loop;
  raise exception 'posthouse: job % moves faster than it can be cancelled', p_id using errcode = '40001', hint = 'Try again.';
end $$;

create or replace function end_reason(p_state text) returns text
language sql immutable parallel safe
return case p_state when 'expired' then 'not started before expires_at' else p_state end;

create or replace function cancel(id bigint) returns text
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  v_end text;
  v_worker bigint;
begin
  perform need_read_committed('cancel');
  for i in 1..100 loop
    v_end := end_waiting(cancel.id, 'cancelled', true);
    if v_end = 'ended' then
      delete from cancel_request r where r.job = cancel.id;
      return 'cancelled';
    end if;
    if v_end <> 'running' then return v_end; end if;
    select o.worker into v_worker from held() o where o.id = cancel.id;
    if found then
      insert into cancel_request (job, worker) values (cancel.id, v_worker)
        on conflict (job) do update set worker = excluded.worker, at = excluded.at;
      -- It may have ended before the row was there.
      if exists (select from held() o where o.id = cancel.id) then
        perform wake('c' || v_worker);
        return 'requested';
      end if;
      delete from cancel_request r where r.job = cancel.id;
    end if;
  end loop;
  raise exception 'posthouse: job % moves faster than it can be cancelled', cancel.id using errcode = '40001', hint = 'Try again.';
end $$;
comment on function cancel(bigint) is 'Cancels a job: cancelled (it had not been claimed, or waited for its next attempt, and will not run); requested (it runs: its worker asks the handler to stop; the job ends as cancelled unless it succeeds first, and is not tried again); finished (it has ended before); not_found.';

create or replace function cancels_of(p_worker bigint) returns bigint[]
language plpgsql stable security definer set search_path from current set enable_seqscan = off set jit = off as $$
begin
  if not exists (select from cancel_request r where r.worker = p_worker) then return '{}'; end if;
  return coalesce((select array_agg(o.id order by o.id) from held() o
    where o.worker = p_worker and o.id in (select r.job from cancel_request r where r.worker = p_worker)), '{}');
end $$;
comment on function cancels_of(bigint) is 'The jobs that this worker holds and shall stop.';

-- The leader's share, one round. Jobs whose expires_at has passed and that nobody has claimed end; requests to cancel are
-- followed to where the job is now (a rescue or a retry that did not see the request), and forgotten when it has ended.
-- Returns how many jobs ended. Never waits for anybody.
create or replace function end_late(p_limit int default 1000) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  v_now timestamptz := clock_timestamp();  -- a variable, which an index can use
  v_ended bigint := 0;
  v_end text;
  v_worker bigint;
  r record;
begin
  for r in select e.ctid, e.job from expiry e where e.at <= v_now order by e.at limit p_limit for update skip locked loop
    v_end := end_waiting(r.job, 'expired', false);
    continue when v_end = 'busy';
    v_ended := v_ended + (v_end = 'ended')::int;
    delete from expiry e where e.ctid = r.ctid;
  end loop;
  for r in select c.job, c.worker from cancel_request c limit p_limit for update skip locked loop
    v_end := end_waiting(r.job, 'cancelled', false);
    continue when v_end = 'busy';
    if v_end = 'running' then
      select o.worker into v_worker from held() o where o.id = r.job;
      if found and v_worker <> r.worker then
        update cancel_request c set worker = v_worker where c.job = r.job;
        perform wake('c' || v_worker);
      end if;
    else
      v_ended := v_ended + (v_end = 'ended')::int;
      delete from cancel_request c where c.job = r.job;
    end if;
  end loop;
  return v_ended;
end $$;
comment on function end_late(int) is 'Ends at most p_limit jobs that have expired unclaimed, and follows requests to cancel; returns how many jobs ended. Part of duties().';
