-- What on_duplicate replace and reschedule do to the job that holds the dedupe key.

-- Reschedule needs a time to push to.
create or replace function check_reschedule(p_on_duplicate text, p_run_at timestamptz, p_delay interval) returns void
language plpgsql immutable security definer set search_path from current as $$
begin
  if p_on_duplicate = 'reschedule' and p_run_at is null and p_delay is null then
    raise exception 'posthouse: on_duplicate is reschedule without run_at or delay'
      using errcode = '22023', hint = 'Say when the job shall run: run_at or delay.';
  end if;
end $$;

-- Gives a job that has not started another payload (replace) or another time (reschedule; null: now). False: it has
-- started, or is no more. Sure either way: a job in deferred is kept by its row's lock, one in its lane's log by the lane's,
-- under which no claim is in flight. Both are held until the transaction ends; the lane's only when something was changed.
create or replace function amend_job(p_job bigint, p_how text, p_payload jsonb, p_payload_bytes bytea, p_headers jsonb, p_due timestamptz)
returns boolean language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  j record;
begin
  perform need_read_committed('on_duplicate ' || p_how);
  -- A job that moves from table to table meanwhile (promotion, cancel, rescue) is looked for again.
  for i in 1..100 loop
    if p_how = 'replace' then
      update deferred d set payload = p_payload, payload_bytes = p_payload_bytes, headers = coalesce(p_headers, d.headers)
        where d.id = p_job and d.state in ('scheduled', 'blocked') and d.attempt = 0;
    else
      -- A blocked one goes on waiting for other jobs.
      update deferred d set due_at = case d.state when 'blocked' then d.due_at else coalesce(p_due, clock_timestamp()) end,
          options = case d.state when 'blocked' then d.options || jsonb_build_object('run_at', utc_text(coalesce(p_due, clock_timestamp()))) else d.options end
        where d.id = p_job and d.state in ('scheduled', 'blocked') and d.attempt = 0;
    end if;
    if found then return true; end if;
    -- Parked behind a busy key: replaced where it is; put off, it loses its place.
    if p_how = 'replace' then
      update parked p set payload = p_payload, payload_bytes = p_payload_bytes, headers = coalesce(p_headers, p.headers)
        where p.id = p_job and p.attempt = 0;
    elsif p_due is null then
      perform from parked p where p.id = p_job and p.attempt = 0;
    else
      with gone as (delete from parked p where p.id = p_job and p.attempt = 0 returning p.*)
      insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
        select g.id, g.lane, 'scheduled', p_due, g.queued_at, g.attempt, g.payload, g.payload_bytes, g.headers, g.options from gone g;
    end if;
    if found then return true; end if;
    select q.lane, q.txid, q.attempt into j from job q where q.id = p_job;
    if found then
      if j.attempt > 0 or is_claimed_now(j.lane, j.txid, p_job) then return false; end if;
      -- In a block of its own, which gives the lane's lock back when there is nothing to do under it.
      begin
        perform pg_advisory_xact_lock(key_space(), hashint8(j.lane) & -4);
        if is_claimed_now(j.lane, j.txid, p_job) then
          raise exception using errcode = 'P0H01', message = 'claimed meanwhile';
        elsif p_how = 'replace' then
          -- Where it is, so that it keeps its place: claims read the row under this lock.
          update job q set payload = p_payload, payload_bytes = p_payload_bytes, headers = coalesce(p_headers, q.headers)
            where q.id = p_job and q.lane = j.lane and q.txid = j.txid;
        elsif p_due is null then
          perform from job q where q.id = p_job and q.lane = j.lane and q.txid = j.txid;
        else
          with gone as (delete from job q where q.id = p_job and q.lane = j.lane and q.txid = j.txid returning q.*)
          insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
            select g.id, g.lane, 'scheduled', p_due, coalesce((g.options ->> 'enqueued_at')::timestamptz, g.queued_at), g.attempt,
              g.payload, g.payload_bytes, g.headers, g.options from gone g;
        end if;
        if found then return true; end if;
        raise exception using errcode = 'P0H01', message = 'moved meanwhile';
      exception when sqlstate 'P0H01' then
        null;
      end;
    elsif exists (select from deferred d where d.id = p_job) then
      if exists (select from deferred d where d.id = p_job and (d.state = 'retryable' or d.attempt > 0)) then return false; end if;
    elsif exists (select from parked p where p.id = p_job) then
      if exists (select from parked p where p.id = p_job and p.attempt > 0) then return false; end if;
    elsif exists (select from dead d where d.id = p_job) then
      return false;
    elsif not exists (select from job q where q.id = p_job union all select from deferred d where d.id = p_job union all select from parked p where p.id = p_job
        union all select from dead d where d.id = p_job) then
      if not in_limbo() then return false; end if;
      raise exception 'posthouse: job % may be in a partition that is just being detached', p_job
        using errcode = '40001', hint = 'Try again.';
    end if;
  end loop;
  raise exception 'posthouse: job % moves faster than it can be changed', p_job using errcode = '40001', hint = 'Try again.';
end $$;
comment on function amend_job(bigint, text, jsonb, bytea, jsonb, timestamptz) is
'replace: payload (and headers, unless null) of a job that has not started; reschedule: its time. False: it has started or ended.';

create or replace function is_claimed_now(p_lane bigint, p_txid xid8, p_job bigint) returns boolean
language plpgsql volatile security definer set search_path from current
set enable_seqscan = off set jit = off as $$
begin
  return coalesce((select is_claimed(p_txid, p_job, c.lo, c.hi, c.pos_txid, c.pos_id)
    from batch c where c.lane = p_lane order by c.seq desc limit 1), false);
end $$;
comment on function is_claimed_now(bigint, xid8, bigint) is 'Whether a job of the log is claimed, in a snapshot of its own.';
