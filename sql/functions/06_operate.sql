-- Operators: look at jobs, retry, delete; counts. cancel is in 11_time.sql.

-- A function, not a view, so that the planner hashes its rows instead of guessing that there is one.
create or replace function held() returns table (id bigint, lane bigint, worker bigint, claimed_at timestamptz, started boolean)
language sql stable security definer rows 2000 set search_path from current set enable_seqscan = off set jit = off as $$
  select i.id, b.lane, b.worker, b.claimed_at, i.ord::int - 1 < b.started_to
  from worker w
  cross join lateral (select h.low_token from heartbeat h where h.worker = w.id order by h.at desc limit 1) h
  join batch b on b.worker = w.id and b.token >= h.low_token and b.closed_at is null
  cross join unnest(b.ids) with ordinality i(id, ord)
  where w.reaped_at is null and (b.acked is null or get_bit(b.acked, i.ord::int - 1) = 0)
    and not exists (select from done d where d.worker = b.worker and d.token = b.token and d.pos = i.ord - 1)
$$;
comment on function held() is 'The jobs that workers hold now.';

-- Binary search: once a lane's batch has claimed a job, every later one has.
create or replace function batch_of(p_lane bigint, p_txid xid8, p_id bigint) returns batch
language plpgsql stable security definer set search_path from current as $$
declare
  v_low bigint := (select b.seq from batch b where b.lane = p_lane order by b.seq limit 1);
  v_high bigint := (select b.seq from batch b where b.lane = p_lane order by b.seq desc limit 1);
  v_mid bigint;
  r batch;
begin
  if v_low is null then return null; end if;
  while v_low < v_high loop
    v_mid := (v_low + v_high) / 2;
    select * into r from batch b where b.lane = p_lane and b.seq >= v_mid order by b.seq limit 1;
    if is_claimed(p_txid, p_id, r.lo, r.hi, r.pos_txid, r.pos_id) then
      v_high := v_mid;
    else
      v_low := r.seq + 1;
    end if;
  end loop;
  select * into r from batch b where b.lane = p_lane and b.seq >= v_low order by b.seq limit 1;
  if p_id = any(r.ids) then return r; end if;
  return null;
end $$;
comment on function batch_of(bigint, xid8, bigint) is 'The batch that claimed a job of the log; null when it is not claimed or the batch is pruned.';

create or replace function parents_in(p_options jsonb) returns bigint[]
language sql immutable parallel safe
return array(select x::bigint from jsonb_array_elements_text(p_options -> 'depends_on') x);
comment on function parents_in(jsonb) is 'All jobs for which a job with these options was to wait, ended or not.';

-- max_attempts of a job that has none of its own: what the worker said that registered its kind last.
create or replace view jobs as
  select j.id, coalesce(l.kind, s.kind) as kind, coalesce(l.queue, s.queue) as queue, coalesce(l.priority, s.priority) as priority,
    case when not is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id) then 'available'
      when o.id is not null then 'running' else 'succeeded' end as state,
    j.attempt + is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id)::int as attempt,
    coalesce((j.options ->> 'max_attempts')::int, (
      select w.max_attempts[array_position(w.kinds, coalesce(l.kind, s.kind))] from worker w where coalesce(l.kind, s.kind) = any(w.kinds) order by w.id desc limit 1), 25) as max_attempts,
    j.options ->> 'key' as key, j.options ->> 'dedupe_key' as dedupe_key,
    coalesce((j.options ->> 'enqueued_at')::timestamptz, j.queued_at) as enqueued_at,
    j.queued_at as run_at,
    (batch_of(j.lane, j.txid, j.id)).claimed_at as started_at,
    case when o.id is null then (batch_of(j.lane, j.txid, j.id)).closed_at end as finished_at,
    (j.options ->> 'expires_at')::timestamptz as expires_at,
    (batch_of(j.lane, j.txid, j.id)).worker as worker,
    j.payload, j.payload_bytes, j.headers,
    (select e.message from attempt_error e where e.job = j.id order by e.attempt desc, e.at desc limit 1) as last_error,
    case when j.options ? 'depends_on' then parents_in(j.options) end as depends_on, null::bigint[] as waits_for
  from job j
  left join (select q.lane, q.kind, q.queue, q.priority, b.lo, b.hi, b.pos_txid, b.pos_id from lane q
      left join lateral (select * from batch b where b.lane = q.lane order by b.seq desc limit 1) b on true) c on c.lane = j.lane
  left join lane l on l.lane = j.lane
  left join lateral (select * from lane_seen s where s.lane = j.lane and l.lane is null limit 1) s on true
  left join held() o on o.id = j.id and o.lane = j.lane
  union all
  select d.id, coalesce(l.kind, s.kind), coalesce(l.queue, s.queue), coalesce(l.priority, s.priority), d.state, d.attempt,
    coalesce((d.options ->> 'max_attempts')::int, (
      select w.max_attempts[array_position(w.kinds, coalesce(l.kind, s.kind))] from worker w where coalesce(l.kind, s.kind) = any(w.kinds) order by w.id desc limit 1), 25), d.options ->> 'key', d.options ->> 'dedupe_key', d.queued_at,
    case when d.state = 'blocked' then (d.options ->> 'run_at')::timestamptz else d.due_at end, null, null, (d.options ->> 'expires_at')::timestamptz, null,
    d.payload, d.payload_bytes, d.headers,
    (select e.message from attempt_error e where e.job = d.id order by e.attempt desc, e.at desc limit 1),
    case when d.options ? 'depends_on' then parents_in(d.options) end, case when d.state = 'blocked' then array(select w.parent from dependency w where w.child = d.id order by 1) end
  from deferred d left join lane l on l.lane = d.lane
  left join lateral (select * from lane_seen s where s.lane = d.lane and l.lane is null limit 1) s on true
  union all
  select d.id, coalesce(l.kind, s.kind), coalesce(l.queue, s.queue), coalesce(l.priority, s.priority), 'available', d.attempt,
    coalesce((d.options ->> 'max_attempts')::int, (
      select w.max_attempts[array_position(w.kinds, coalesce(l.kind, s.kind))] from worker w where coalesce(l.kind, s.kind) = any(w.kinds) order by w.id desc limit 1), 25), d.options ->> 'key', d.options ->> 'dedupe_key', d.queued_at, d.queued_at, null, null, (d.options ->> 'expires_at')::timestamptz, null,
    d.payload, d.payload_bytes, d.headers,
    (select e.message from attempt_error e where e.job = d.id order by e.attempt desc, e.at desc limit 1), case when d.options ? 'depends_on' then parents_in(d.options) end, null
  from parked d left join lane l on l.lane = d.lane
  left join lateral (select * from lane_seen s where s.lane = d.lane and l.lane is null limit 1) s on true
  union all
  select d.id, coalesce(l.kind, s.kind), coalesce(l.queue, s.queue), coalesce(l.priority, s.priority), d.state, d.attempt,
    coalesce((d.options ->> 'max_attempts')::int, (
      select w.max_attempts[array_position(w.kinds, coalesce(l.kind, s.kind))] from worker w where coalesce(l.kind, s.kind) = any(w.kinds) order by w.id desc limit 1), 25), d.options ->> 'key', d.options ->> 'dedupe_key', d.queued_at, null, null, d.ended_at, (d.options ->> 'expires_at')::timestamptz,
    (select e.worker from attempt_error e where e.job = d.id order by e.attempt desc, e.at desc limit 1),
    d.payload, d.payload_bytes, d.headers, coalesce(d.reason,
    (select e.message from attempt_error e where e.job = d.id order by e.attempt desc, e.at desc limit 1)), case when d.options ? 'depends_on' then parents_in(d.options) end, null
  from dead d left join lane l on l.lane = d.lane
  left join lateral (select * from lane_seen s where s.lane = d.lane and l.lane is null limit 1) s on true;
comment on view jobs is 'Every job with one derived state: scheduled, blocked, available, running, retryable, succeeded, failed, cancelled, expired. By id it takes milliseconds; counting through it takes about a second a million jobs (use counts()).';

create or replace function retry(id bigint) returns boolean
language plpgsql security definer set search_path from current as $$
declare
  v_twin bigint;
begin
  update deferred d set due_at = clock_timestamp() where d.id = retry.id;
  if not found then
    perform retake_key(d.id, d.lane, d.options) from (select q.* from dead q where q.id = retry.id for update) d where d.options ? 'dedupe_key';
    with gone as (delete from dead d where d.id = retry.id returning d.*)
    insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
      select g.id, g.lane, 'retryable', clock_timestamp(), g.queued_at, g.attempt, g.payload, g.payload_bytes, g.headers,
        case when g.attempt >= coalesce((g.options ->> 'max_attempts')::int, 25)
          then coalesce(g.options, '{}') || jsonb_build_object('max_attempts', g.attempt + 1) else g.options end
      from gone g;
  end if;
  if not found then return false; end if;
  if has_dependents() then delete from dependency d where d.child = retry.id; end if;
  delete from cancel_request c where c.job = retry.id;
  with gone as (delete from deferred d where d.id = retry.id returning d.*), r as (select g.*, express_of(g.lane) as twin from gone g)
  insert into job (id, lane, attempt, payload, payload_bytes, headers, options)
    select r.id, r.twin, r.attempt, r.payload, r.payload_bytes, r.headers,
      case when is_expired(r.options, utc_text(clock_timestamp())) then r.options - 'expires_at' else coalesce(r.options, '{}') end
        - 'child_crashes' - 'run_at' || jsonb_build_object('enqueued_at', r.queued_at) from r returning lane into v_twin;
  perform ring(v_twin);
  return true;
end $$;
comment on function retry(bigint) is 'Makes a scheduled, blocked, retryable, failed, cancelled or expired job available now, whatever it waited for, with one more attempt when its attempts are used up and without its expires_at when that has passed; fails with 23505 when another job has its dedupe_key by now. False: no such job in such a state.';

create or replace function delete_job(id bigint) returns boolean
language plpgsql security definer set search_path from current as $$
declare
  d dead;
begin
  perform need_read_committed('delete_job');
  if end_waiting(delete_job.id, 'cancelled', true) in ('running', 'not_found') then return false; end if;
  delete from dead q where q.id = delete_job.id returning q.* into d;
  if not found then return false; end if;
  if d.options ? 'dedupe_key' then perform drop_key(d.id, d.lane, d.options); end if;
  return true;
end $$;
comment on function delete_job(bigint) is 'Removes a job that is not running and not in the log as succeeded; false otherwise.';

create or replace function counts() returns table (queue text, kind text, state text, jobs bigint)
language plpgsql stable security definer set search_path from current
set enable_seqscan = on set jit = off as $$
begin
  return query
  with name as (
      select q.lane, q.queue, q.kind from lane q union select s.lane, s.queue, s.kind from lane_seen s),
    c as (
      select l.lane, l.queue, l.kind, b.lo, b.hi, b.pos_txid, b.pos_id from name l
      left join lateral (select * from batch b where b.lane = l.lane order by b.seq desc limit 1) b on true),
    -- What is above the cursor is counted on the index; the rest is arithmetic on batches.
    waiting as (
      select c.queue, c.kind, 'available' as state, count(*) as n from c join lateral (
        select from job j where j.lane = c.lane and j.txid >= coalesce(pg_snapshot_xmin(c.lo), '0'::xid8)
          and not is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id)) j on true group by 1, 2),
    held as (
      select c.queue, c.kind, 'running' as state, count(*) as n from held() o join c on c.lane = o.lane group by 1, 2),
    gone as (
      select c.queue, c.kind, 'succeeded' as state, sum(b.n - b.moved)::bigint as n from batch b join c on c.lane = b.lane group by 1, 2),
    ended as (
      select g.queue, g.kind, g.state, g.n - coalesce(h.n, 0) as n from gone g left join held h on h.queue = g.queue and h.kind = g.kind),
    other as (
      select l.queue, l.kind, d.state, count(*) as n from (select lane, deferred.state from deferred union all select lane, dead.state from dead union all select lane, 'available' from parked) d
      join name l on l.lane = d.lane group by 1, 2, 3)
  select u.queue, u.kind, u.state, sum(u.n)::bigint from (
      select * from waiting union all select * from held union all select * from ended union all select * from other) u
    where u.n > 0 group by 1, 2, 3 order by 1, 2, 3;
end $$;
comment on function counts() is 'Jobs by queue, kind and state, from arithmetic on batches and the index of what waits: a tenth of what counting through the view costs.';

create or replace function pause_queue(queue text) returns void
language sql security definer set search_path from current as $$
  insert into queue as q (queue, paused, paused_at) values (pause_queue.queue, true, clock_timestamp())
    on conflict (queue) do update set paused = true, paused_at = case when q.paused then q.paused_at else excluded.paused_at end
$$;
create or replace function resume_queue(queue text) returns void
language plpgsql security definer set search_path from current as $$
begin
  update queue q set paused = false, paused_at = null where q.queue = resume_queue.queue;
  perform wake('new');
end $$;
