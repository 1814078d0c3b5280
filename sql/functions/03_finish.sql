-- The end of jobs: group acks, moves, and giving back what was not done.

create or replace function express_of(p_lane bigint) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  l record;
  v_lane bigint;
begin
  -- In one snapshot: between two, somebody could fold it from one into the other.
  select q.queue, q.kind, q.priority, q.express, q.keyed, q.share into strict l from (
    select a.queue, a.kind, a.priority, a.express, a.keyed, a.share from lane a where a.lane = p_lane
    union all select s.queue, s.kind, s.priority, s.express, s.keyed, s.share from lane_seen s where s.lane = p_lane) q limit 1;
  if l.express then return p_lane; end if;
  v_lane := case when l.share is not null then share_lane_of(l.queue, l.kind, l.priority, l.keyed, true, l.share)
    when l.keyed then keyed_lane_of(l.queue, l.kind, l.priority, true) else lane_of(l.queue, l.kind, l.priority, true) end;
  if not exists (select from lane q where q.lane = v_lane) and not exists (select from lane_seen s where s.lane = v_lane) then
    -- As a producer does: an operator's transaction that calls retry and stays open must not hold up who needs the twin.
    insert into lane_seen (lane, queue, kind, priority, express, keyed, share) values (v_lane, l.queue, l.kind, l.priority, true, l.keyed, l.share);
    perform wake('new');
  end if;
  return v_lane;
end $$;
comment on function express_of(bigint) is 'The express twin of a lane, made known when it is first needed.';

create or replace function fold_lanes() returns void
language plpgsql security definer set search_path from current as $$
begin
  if not exists (select from lane_seen) then return; end if;
  with s as (delete from lane_seen returning *)
  insert into lane (lane, queue, kind, priority, express, keyed, share)
    select distinct s.lane, s.queue, s.kind, s.priority, s.express, s.keyed, s.share from s order by 1 on conflict do nothing;
end $$;
comment on function fold_lanes() is 'Makes the lanes that were used first known to claims. Only for short transactions: it locks rows of lane_seen and lane.';

-- One statement for any number of jobs of any number of batches. Fenced: a member counts only while its batch is open
-- and its bit is not set, so that a late or resent call changes nothing. Returns the tokens that are not ours (any more).
create or replace function finish(p_worker bigint, p_tokens bigint[], p_acked text[], p_started int[], p_moves jsonb,
  p_results jsonb default null, p_tell boolean default true) returns bigint[]
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_count bigint;
  v_keyed boolean;
begin
  if p_tokens is null or cardinality(p_tokens) = 0 or lock_worker(p_worker) is null then return '{}'; end if;
  if p_moves is not null then
    if not exists (select from worker w where w.id = p_worker and w.ended_at is null) then return p_tokens; end if;
    perform apply_moves(p_worker, p_tokens, p_moves);
  end if;
  if p_results is not null then perform keep_results(p_worker, p_tokens, p_results); end if;
  with u as (
  update batch b set
    acked = case when a.acked is null then b.acked
      else coalesce(b.acked, repeat('0', b.n)::varbit) | a.acked::varbit end,
    started_to = greatest(b.started_to, a.started),
    closed_at = case when a.acked is null or position('0' in a.acked) = 0 then clock_timestamp() end
  from unnest(p_tokens, p_acked, p_started) a(token, acked, started)
  -- The array is for the planner: without statistics it would walk all batches of the worker.
  where b.worker = p_worker and b.token = any(p_tokens) and b.token = a.token and b.closed_at is null
    and exists (select from worker w where w.id = p_worker and w.ended_at is null)
  returning b.keys is not null as keyed)
  select count(*), bool_or(u.keyed) into v_count, v_keyed from u;
  if v_keyed then perform free_keys(p_worker, p_tokens, p_moves is not null); end if;
  if someone_waits() then perform tell_waiters(p_worker, p_tokens, p_acked); end if;
  if p_tell and limit_waits() then perform tell_limits(p_worker, p_tokens); end if;
  if has_dependents() then perform release_acked(p_worker, p_tokens, p_acked); end if;
  if v_count = cardinality(p_tokens) then return '{}'; end if;
  if not exists (select from worker w where w.id = p_worker and w.ended_at is null) then return p_tokens; end if;
  -- A batch of a living worker is closed by nobody else, so a closed one was closed by an earlier sending of this call.
  return array(select t from unnest(p_tokens) t
    where not exists (select from batch b where b.worker = p_worker and b.token = t));
end $$;
comment on function finish(bigint, bigint[], text[], int[], jsonb, jsonb, boolean) is
'Group ack of a worker. acked[i]: null closes the batch as succeeded, else one 0 or 1 a member, cumulative. results: null, or as keep_results takes them. tell false: the caller tells whoever waits for a limit. Returns the tokens whose lease is lost.';

-- Many small objects cost more than what is done with them, so a worker sends columns: an object whose values are arrays,
-- each as PostgreSQL writes it. Without settings of its own, so that it becomes a part of the statement that calls it.
create or replace function move_rows(p_moves jsonb)
returns table (token bigint, pos int, id bigint, outcome text, delay_ms bigint, type text, message text, stack text, hold_ms bigint, crashes int)
language sql stable
begin atomic
  select m.* from jsonb_to_recordset(case when jsonb_typeof(p_moves) = 'array' then p_moves else '[]' end)
    m(token bigint, pos int, id bigint, outcome text, delay_ms bigint, type text, message text, stack text, hold_ms bigint, crashes int)
  union all
  select m.* from unnest((p_moves ->> 'token')::bigint[], (p_moves ->> 'pos')::int[], (p_moves ->> 'id')::bigint[], (p_moves ->> 'outcome')::text[],
    (p_moves ->> 'delay_ms')::bigint[], (p_moves ->> 'type')::text[], (p_moves ->> 'message')::text[], (p_moves ->> 'stack')::text[],
    (p_moves ->> 'hold_ms')::bigint[], (p_moves ->> 'crashes')::int[]) m(token, pos, id, outcome, delay_ms, type, message, stack, hold_ms, crashes);
end;

-- The moves that count, with the lanes of their batches. Each batch is read once; large arrays are taken apart once and
-- not for each of their members.
create or replace function fenced_moves(p_worker bigint, p_tokens bigint[], p_moves jsonb)
returns table (token bigint, pos int, id bigint, outcome text, delay_ms bigint, type text, message text, stack text, hold_ms bigint, crashes int, lane bigint)
language plpgsql volatile security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  return query
  with o as materialized (
      select b.* from unnest(p_tokens) t(token), lateral (
        select q.token, q.lane, q.acked, q.ids || '{}'::bigint[] as ids from batch q
        where q.worker = p_worker and q.token = t.token and q.closed_at is null limit 1) b)
  select m.*, o.lane
  from move_rows(p_moves) m join o on o.token = m.token
  where o.ids[m.pos + 1] = m.id and (o.acked is null or get_bit(o.acked, m.pos) = 0)
    -- Asked once whether there is any: completions in handlers' own transactions are seldom.
    and (not (select exists (select from done d where d.worker = p_worker and d.token = any(p_tokens)))
      or not exists (select from done d where d.worker = p_worker and d.token = m.token and d.pos = m.pos));
end $$;

create or replace function apply_moves(p_worker bigint, p_tokens bigint[], p_moves jsonb) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_now timestamptz := clock_timestamp();
  v_late text := utc_text(v_now);
  v_lanes bigint[];
  v_twins bigint[];
  v_wanted bigint;
  v_gone bigint;
  v_back boolean;
begin
  perform from batch b where b.worker = p_worker and b.token = any(p_tokens) and b.closed_at is null order by b.token for update;
  -- What is available again at once: what is released, and what is to be tried again without a delay. Asked of the text,
  -- so that others pay nothing; a delay that is written otherwise goes the way of every delay.
  v_back := case jsonb_typeof(p_moves)
    when 'object' then p_moves ->> 'outcome' like '%release%' or (p_moves ->> 'outcome' like '%retry%' and p_moves ->> 'delay_ms' ~ '[{,]0[,}]')
    else p_moves @? '$[*] ? (@.outcome == "release" || (@.outcome == "retry" && @.delay_ms == 0))' end;
  if v_back then
    -- Its twins; in lane order, so that two workers never wait for each other crosswise.
    select array_agg(l.lane), array_agg(express_of(l.lane)) into v_lanes, v_twins from (
      select b.lane from batch b where b.worker = p_worker and b.token = any(p_tokens) and b.token in (
        select m.token from move_rows(p_moves) m where m.outcome = 'release' or (m.outcome = 'retry' and m.delay_ms = 0))
      group by 1 order by 1) l;
  end if;
  with m as materialized (
      select m.* from fenced_moves(p_worker, p_tokens, p_moves) m),
    -- Not by an equality of lanes: the index that begins with the lane would be read from end to end for each job.
    gone as (delete from job j using m where j.id = m.id and j.lane is not distinct from m.lane
      returning j.*, m.token, m.outcome, m.delay_ms, m.type, m.message, m.stack, m.hold_ms, m.crashes,
        -- What would make it available again does not, once it is to be cancelled or has expired.
        case when (select exists (select from cancel_request)) and exists (select from cancel_request r where r.job = j.id) then 'cancel'
          when m.outcome in ('retry', 'snooze', 'release') and is_expired(j.options, v_late) then 'expire'
          when v_back and m.outcome = 'retry' and m.delay_ms = 0 then 'again'
          else m.outcome end as ends),
    failed as (
      insert into attempt_error (job, attempt, at, worker, type, message, stack)
      select g.id, g.attempt + 1, v_now, p_worker, g.type, g.message, g.stack from gone g where g.outcome in ('retry', 'fail') or (g.outcome = 'cancel' and g.type is not null)),
    waits as (
      insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
      select g.id, g.lane, case g.ends when 'retry' then 'retryable' else 'scheduled' end,
        v_now + greatest(coalesce(g.delay_ms, 0), 0) * interval '1 millisecond',
        coalesce((g.options ->> 'enqueued_at')::timestamptz, g.queued_at),
        g.attempt + case g.ends when 'retry' then 1 else 0 end, g.payload, g.payload_bytes, g.headers,
        case when g.crashes is null then g.options else coalesce(g.options, '{}') || jsonb_build_object('child_crashes', g.crashes) end
      from gone g where g.ends in ('retry', 'snooze')),
    dies as (
      insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
      select g.id, g.lane, case g.ends when 'cancel' then 'cancelled' when 'expire' then 'expired' else 'failed' end, v_now,
        coalesce((g.options ->> 'enqueued_at')::timestamptz, g.queued_at),
        g.attempt + case when g.outcome in ('retry', 'fail', 'cancel') then 1 else 0 end,
        case g.ends when 'cancel' then 'cancelled' when 'expire' then end_reason('expired') else coalesce(nullif(g.message, ''), g.type) end,
        g.payload, g.payload_bytes, g.headers, g.options
      from gone g where g.ends in ('fail', 'cancel', 'expire')),
    back as (
      insert into job (id, lane, attempt, payload, payload_bytes, headers, options)
      select g.id, t.twin, g.attempt + (g.ends = 'again')::int, g.payload, g.payload_bytes, g.headers,
        coalesce(g.options, '{}') || jsonb_build_object('enqueued_at', coalesce(g.options -> 'enqueued_at', to_jsonb(g.queued_at)))
          || case when g.ends = 'again' and g.crashes is not null then jsonb_build_object('child_crashes', g.crashes) else '{}' end
      from gone g join unnest(v_lanes, v_twins) t(lane, twin) on t.lane = g.lane where g.ends in ('release', 'again') order by g.id),
    held as (
      -- Of a job with a key that key alone.
      select count(case when h.key is null then hold_kind(h.kind, h.hold_ms * interval '1 millisecond', 'worker ' || p_worker)
        else hold_key(h.kind, h.key, h.hold_ms * interval '1 millisecond', 'worker ' || p_worker) end) from (
        select l.kind, g.options ->> 'key' as key, least(max(g.hold_ms), 3600000) as hold_ms from gone g join lane l on l.lane = g.lane
        where g.hold_ms > 0 group by 1, 2 order by 1, 2) h),
    counted as (
      update batch b set moved = b.moved + c.n from (select token, count(*)::int as n from gone group by token) c
      where b.worker = p_worker and b.token = any(p_tokens) and b.token = c.token)
  select (select count(*) from m), (select count(*) from gone) + 0 * (select * from held) into v_wanted, v_gone;
  if v_gone < v_wanted and in_limbo() then
    raise exception 'posthouse: a job of this acknowledgement is in a partition that is just being detached'
      using errcode = '40001', hint = 'Try again: drop_detached brings it back.';
  end if;
  perform ring(t.lane) from (select distinct u.lane from unnest(v_twins) u(lane)) t;
end $$;

-- Takes the unended members of open batches from a worker: never started ones uncounted, possibly started ones (only
-- when p_crashed) with a crash and, unless there are more of them than the worker has slots, an attempt. Null p_tokens: all open batches. Returns how many jobs were moved, and
-- leaves alone, in a batch that stays open, a job whose completion sits in an open transaction.
create or replace function take_back(p_worker bigint, p_tokens bigint[], p_crashed boolean) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  v_now timestamptz := clock_timestamp();
  v_late text := utc_text(v_now);
  v_space int := key_space();
  v_low bigint := coalesce((select h.low_token from heartbeat h where h.worker = p_worker order by h.at desc limit 1), 0);
  v_defaults jsonb := (select jsonb_object_agg(k, m) from worker w, unnest(w.kinds, w.max_attempts) u(k, m) where w.id = p_worker);
  v_moved bigint := 0;
  v_n bigint;
  v_express bigint;
  v_default int;
  v_limbo boolean := in_limbo();
  v_left int[];
  -- Quick jobs are allowed to start far ahead of the slots. When more of them may have been running than could have been,
  -- it is not known which were: then it is a crash of each, after which each is claimed by itself, and nobody's attempt.
  v_certain boolean := not p_crashed or (select w.slots from worker w where w.id = p_worker) >= (
    select coalesce(sum(q.started_to - coalesce(bit_count(substring(q.acked from 1 for q.started_to)), 0)
        - (select count(*) from done d where d.worker = p_worker and d.token = q.token and d.pos < q.started_to
            and (q.acked is null or get_bit(q.acked, d.pos) = 0))), 0)
    from batch q where q.worker = p_worker and q.token >= v_low and q.closed_at is null and (p_tokens is null or q.token = any(p_tokens)));
  b batch;
begin
  for b in select * from batch q where q.worker = p_worker and q.token >= v_low and q.closed_at is null
      and (p_tokens is null or q.token = any(p_tokens)) order by q.token for update
  loop
    v_express := express_of(b.lane);
    select coalesce((v_defaults ->> l.kind)::int, 25) into v_default from lane l where l.lane = b.lane;
    with u as materialized (
        select i.ord::int - 1 as pos, i.id, i.ord <= b.started_to as started
        from unnest(b.ids) with ordinality i(id, ord)
        where (b.acked is null or get_bit(b.acked, i.ord::int - 1) = 0)
          and not exists (select from done d where d.worker = p_worker and d.token = b.token and d.pos = i.ord::int - 1)),
      k as materialized (
        select u.*, (not u.started or pg_try_advisory_xact_lock(v_space, (hashint8(u.id) & -4) | 3))
            and (not v_limbo or exists (select from job j where j.id = u.id and j.lane = b.lane)) as free
        from u),
      -- A completion that was committed after this statement's snapshot, but before its lock was tried, conflicts here.
      tomb as (
        insert into done (worker, token, pos, job, rescued) select p_worker, b.token, k.pos, k.id, true from k where k.started and k.free
        on conflict do nothing returning pos),
      m as materialized (
        select k.id, p_crashed and k.started and v_certain as counts, p_crashed and k.started as started from k
        where k.free and (not k.started or k.pos in (select t.pos from tomb t))),
      gone as (delete from job j using m where j.id = m.id and j.lane is not distinct from b.lane
        returning j.*, m.started, m.counts,
          case when exists (select from cancel_request r where r.job = j.id) then 'cancelled'
            when m.counts and j.attempt + 1 >= coalesce((j.options ->> 'max_attempts')::int, v_default) then 'failed'
            when is_expired(j.options, v_late) then 'expired' end as ends),
      err as (
        insert into attempt_error (job, attempt, at, worker, type, message)
        select g.id, g.attempt + 1, v_now, p_worker, 'worker lost', 'the worker ended or stopped answering while the job was running'
        from gone g where g.counts),
      dies as (
        insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
        select g.id, g.lane, g.ends, v_now, coalesce((g.options ->> 'enqueued_at')::timestamptz, g.queued_at), g.attempt + g.counts::int,
          case g.ends when 'failed' then 'worker lost on the last attempt' else end_reason(g.ends) end,
          g.payload, g.payload_bytes, g.headers, g.options
        from gone g where g.ends is not null),
      back as (
        insert into job (id, lane, attempt, payload, payload_bytes, headers, options)
        select g.id, v_express, g.attempt + g.counts::int, g.payload, g.payload_bytes, g.headers,
          coalesce(g.options, '{}') || jsonb_build_object('enqueued_at', coalesce(g.options -> 'enqueued_at', to_jsonb(g.queued_at)))
            || case when g.started then jsonb_build_object('crashes', coalesce((g.options ->> 'crashes')::int, 0) + 1) else '{}' end
        from gone g where g.ends is null order by g.id)
    select count(*), (select array_agg(k.pos) from k where not k.free) into v_n, v_left from gone;
    v_moved := v_moved + v_n;
    if v_left is not null then
      update batch q set moved = moved + v_n,
        acked = (select string_agg(case when p = any(v_left) then '0' else '1' end, '' order by p) from generate_series(0, b.n - 1) p)::varbit
      where q.lane = b.lane and q.seq = b.seq;
    else
      update batch q set moved = moved + v_n, closed_at = v_now where q.lane = b.lane and q.seq = b.seq;
    end if;
    if v_n > 0 then perform ring(v_express); end if;
    if b.keys is not null then
      insert into key_check (kind, key) select l.kind, k.key from lane l, (select distinct u.key from unnest(b.keys) u(key)) k where l.lane = b.lane;
    end if;
  end loop;
  return v_moved;
end $$;

-- What an incarnation that has ended still holds; called again while something is left.
create or replace function settle(p_worker bigint) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_moved bigint := take_back(p_worker, null, (select w.end_reason <> 'stopped' from worker w where w.id = p_worker));
begin
  update worker w set reaped_at = clock_timestamp() where w.id = p_worker
    and not exists (select from batch b where b.worker = p_worker and b.closed_at is null
      and b.token >= coalesce((select h.low_token from heartbeat h where h.worker = p_worker order by h.at desc limit 1), 0));
  return v_moved;
end $$;

create or replace function give_back(p_worker bigint, p_tokens bigint[]) returns bigint
language plpgsql security definer set search_path from current as $$
begin
  perform pg_advisory_xact_lock_shared(key_space(), (hashint8(p_worker) & -4) | 1);
  if not exists (select from worker w where w.id = p_worker and w.ended_at is null) then return 0; end if;
  return take_back(p_worker, p_tokens, false);
end $$;
comment on function give_back(bigint, bigint[]) is 'For claims whose reply was lost: their jobs were never started; none of them counts an attempt.';

create or replace function complete(p_worker bigint, p_token bigint, p_pos int, p_job bigint) returns boolean
language plpgsql security definer set search_path from current as $$
begin
  perform pg_advisory_xact_lock_shared(key_space(), (hashint8(p_job) & -4) | 3);
  if not exists (select from batch b, worker w where b.worker = p_worker and b.token = p_token and b.closed_at is null
      and b.ids[p_pos + 1] = p_job and (b.acked is null or get_bit(b.acked, p_pos) = 0) and w.id = p_worker and w.ended_at is null) then
    return false;
  end if;
  -- The tombstone of a rescue that this transaction's snapshot cannot see conflicts here.
  insert into done (worker, token, pos, job) values (p_worker, p_token, p_pos, p_job) on conflict do nothing;
  if not found then return false; end if;
  if has_dependents() then perform release_children(array[p_job]); end if;
  return true;
end $$;
comment on function complete(bigint, bigint, int, bigint) is
'Completes a job inside the handler''s own transaction: commits and rolls back with it. False: the lease is lost, nothing was written.';
