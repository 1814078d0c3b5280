-- Operators: pausing of kinds, priority of queues, dead letters in batches, and what there is to see. Counts come from
-- batches, small tables and the index above each lane's cursor, never from the whole of job.

create or replace function check_name(p_what text, p_name text) returns void
language plpgsql immutable set search_path from current as $$
begin
  if p_name is null or p_name !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$' then
    raise exception 'posthouse: % % is not a name', p_what, coalesce(quote_literal(p_name), 'null')
      using errcode = '22023',
        hint = format('A %s has 1 to 100 characters: letters, digits and _ . : / - with a letter or digit first.', p_what);
  end if;
end $$;

create or replace function pause_kind(kind text) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform check_name('kind', pause_kind.kind);
  insert into kind as k (kind, paused, paused_at) values (pause_kind.kind, true, clock_timestamp())
    on conflict on constraint kind_pkey do update set paused = true, paused_at = case when k.paused then k.paused_at else excluded.paused_at end;
end $$;
comment on function pause_kind(text) is 'From the next claim of each worker on, jobs of this kind are not claimed in any queue; those that workers hold run to their end. A kind that nobody has used yet may be paused.';

create or replace function resume_kind(kind text) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform check_name('kind', resume_kind.kind);
  update kind k set paused = false, paused_at = null where k.kind = resume_kind.kind;
  perform wake('new');
end $$;
comment on function resume_kind(text) is 'The reverse of pause_kind; wakes the workers.';

create or replace function ping_workers(ids bigint[]) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform wake('p' || u.id) from unnest(ping_workers.ids) u(id);
end $$;
comment on function ping_workers(bigint[]) is 'Asks these workers for a heartbeat at once. The answer is a newer row of heartbeat; a worker that cannot LISTEN (behind a transaction pooler) gives it when its next one is due.';

create or replace function set_queue_priority(queue text, priority int) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform check_name('queue', set_queue_priority.queue);
  if set_queue_priority.priority is null then
    raise exception 'posthouse: priority is null' using errcode = '22004', hint = 'The default of a queue is 0.';
  end if;
  insert into queue as q (queue, priority) values (set_queue_priority.queue, set_queue_priority.priority)
    on conflict on constraint queue_pkey do update set priority = excluded.priority;
end $$;
comment on function set_queue_priority(text, int) is 'Jobs of the queue with the higher priority go first, before the priority of jobs is looked at; default 0. From the next claim on.';

-- Dead letters, in batches: a caller goes on from the last id that it got, until that is null.

create or replace function check_dead(p_state text, p_limit int) returns void
language plpgsql immutable set search_path from current as $$
begin
  if p_state not in ('failed', 'cancelled', 'expired') then
    raise exception 'posthouse: state is %', quote_literal(p_state)
      using errcode = '22023', hint = 'state is failed, cancelled or expired; null for all of them.';
  end if;
  if p_limit is null or p_limit not between 1 and 10000 then
    raise exception 'posthouse: most is %', coalesce(p_limit::text, 'null') using errcode = '22023', hint = 'most is 1 to 10000.';
  end if;
end $$;

-- Rows that somebody else has locked are skipped: whoever has them retries, purges or deletes them.
create or replace function dead_batch(p_state text, p_kind text, p_queue text, p_before timestamptz, p_after bigint, p_limit int)
returns bigint[] language plpgsql security definer set search_path from current set jit = off as $$
declare
  v_lanes bigint[];
begin
  if p_kind is not null or p_queue is not null then
    select coalesce(array_agg(l.lane), '{}') into v_lanes from (
      select q.lane, q.kind, q.queue from lane q union all select s.lane, s.kind, s.queue from lane_seen s) l
      where (p_kind is null or l.kind = p_kind) and (p_queue is null or l.queue = p_queue);
  end if;
  return array(select d.id from dead d
    where d.id > coalesce(p_after, 0) and (p_state is null or d.state = p_state) and d.ended_at < coalesce(p_before, 'infinity')
      and (v_lanes is null or d.lane = any(v_lanes))
    order by d.id limit p_limit for update skip locked);
end $$;

create or replace function retry_dead(state text default 'failed', kind text default null, queue text default null,
  before timestamptz default null, after bigint default null, most int default 500, out retried bigint, out last bigint)
language plpgsql security definer set search_path from current as $$
declare
  v_ids bigint[];
begin
  perform check_dead(retry_dead.state, retry_dead.most);
  v_ids := dead_batch(retry_dead.state, retry_dead.kind, retry_dead.queue, retry_dead.before, retry_dead.after, retry_dead.most);
  select count(*) filter (where retry(u.id)), max(u.id) into retried, last from unnest(v_ids) u(id);
end $$;
comment on function retry_dead(text, text, text, timestamptz, bigint, int) is
'Does what retry does to a batch of dead letters: at most `most` (1 to 10000, default 500) with ids above `after`, that ended before `before`, of this state (default failed; null: any), kind and queue (null: any). Returns how many became available and the last id looked at, which is the next call''s `after`; null: there are no more. Give a fixed `before`, or jobs that fail again meanwhile are retried again.';

create or replace function purge_dead(state text default null, kind text default null, queue text default null,
  before timestamptz default null, after bigint default null, most int default 5000, out purged bigint, out last bigint)
language plpgsql security definer set search_path from current as $$
declare
  v_ids bigint[];
begin
  perform check_dead(purge_dead.state, purge_dead.most);
  v_ids := dead_batch(purge_dead.state, purge_dead.kind, purge_dead.queue, purge_dead.before, purge_dead.after, purge_dead.most);
  delete from attempt_error e where e.job = any(v_ids);
  delete from dead d where d.id = any(v_ids);
  get diagnostics purged = row_count;
  last := (select max(u.id) from unnest(v_ids) u(id));
end $$;
comment on function purge_dead(text, text, text, timestamptz, bigint, int) is
'Deletes a batch of dead letters with the errors of their attempts: at most `most` (1 to 10000, default 5000) with ids above `after`, that ended before `before`, of this state, kind and queue (null: any). Returns how many, and the last id, which is the next call''s `after`; null: there are no more.';

-- What waits and what runs, with the age of the oldest.
create or replace function backlog() returns table (queue text, kind text, state text, jobs bigint, oldest_at timestamptz)
language sql stable security definer set search_path from current set jit = off as $$
  with name as materialized (
      select q.lane, q.queue, q.kind from lane q union select s.lane, s.queue, s.kind from lane_seen s),
    u as (
      select l.queue, l.kind, 'available' as state, w.n, w.since
        from name l left join lateral (select b.lo, b.hi, b.pos_txid, b.pos_id from batch b where b.lane = l.lane order by b.seq desc limit 1) c on true
        cross join lateral (
          select count(*) as n, (select f.queued_at from job f
              where f.lane = l.lane and f.txid >= coalesce(pg_snapshot_xmin(c.lo), '0'::xid8)
                and not is_claimed(f.txid, f.id, c.lo, c.hi, c.pos_txid, c.pos_id) order by f.txid, f.id limit 1) as since
          from job j where j.lane = l.lane and j.txid >= coalesce(pg_snapshot_xmin(c.lo), '0'::xid8)
            and not is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id)) w
      union all
      select l.queue, l.kind, 'available', p.n, p.since from (select q.lane, count(*) as n, min(q.queued_at) as since from parked q group by 1) p join name l on l.lane = p.lane
      union all
      select l.queue, l.kind, 'running', count(*), min(o.claimed_at) from held() o join name l on l.lane = o.lane group by 1, 2)
  select u.queue, u.kind, u.state, sum(u.n)::bigint, min(u.since) from u where u.n > 0 group by 1, 2, 3 order by 1, 2, 3
$$;
comment on function backlog() is 'Available and running jobs by queue and kind, and since when the oldest waits (for its place among the available) or runs.';

create or replace function stats() returns table (queue text, kind text, state text, jobs bigint, oldest_at timestamptz, last_minute bigint, last_hour bigint)
language sql stable security definer set search_path from current set jit = off as $$
  with name as materialized (
      select q.lane, q.queue, q.kind from lane q union select s.lane, s.queue, s.kind from lane_seen s),
    t as materialized (select clock_timestamp() as now),
    b as materialized (
      select q.lane, sum(q.n - q.moved) as n,
        sum(q.n - q.moved) filter (where q.closed_at > t.now - interval '1 minute') as last_minute,
        sum(q.n - q.moved) filter (where q.closed_at > t.now - interval '1 hour') as last_hour
      from batch q, t group by q.lane),
    w as materialized (select * from backlog()),
    u as (
      select w.queue, w.kind, w.state, w.jobs, w.oldest_at, null::bigint as last_minute, null::bigint as last_hour from w
      union all
      -- Held jobs are members of batches that are open still.
      select l.queue, l.kind, 'succeeded', sum(b.n)::bigint - coalesce((select w.jobs from w where w.queue = l.queue and w.kind = l.kind and w.state = 'running'), 0),
          null, coalesce(sum(b.last_minute), 0)::bigint, coalesce(sum(b.last_hour), 0)::bigint
        from b join name l on l.lane = b.lane group by l.queue, l.kind
      union all
      select l.queue, l.kind, d.state, count(*), min(d.queued_at), null, null from deferred d join name l on l.lane = d.lane group by 1, 2, 3
      union all
      select l.queue, l.kind, d.state, count(*), min(d.ended_at), count(*) filter (where d.ended_at > t.now - interval '1 minute'),
          count(*) filter (where d.ended_at > t.now - interval '1 hour')
        from dead d join name l on l.lane = d.lane cross join t group by 1, 2, 3)
  select u.queue, u.kind, u.state, u.jobs, u.oldest_at, u.last_minute, u.last_hour from u where u.jobs > 0 order by 1, 2, 3
$$;
comment on function stats() is 'What counts() says, and of each state the oldest: available and running since they are, scheduled and retryable since they were enqueued, failed, cancelled and expired since they ended. last_minute and last_hour: how many came to this end; a batch counts when the last of its jobs has ended.';

create or replace function ahead(id bigint, most int default 1000) returns bigint
language sql stable security definer set search_path from current set jit = off as $$
  select count(*) from (
    select from parked m join parked j on j.kind = m.kind and j.key = m.key and j.seq < m.seq where m.id = ahead.id
    union all
    select from job m
    left join lateral (select b.lo, b.hi, b.pos_txid, b.pos_id from batch b where b.lane = m.lane order by b.seq desc limit 1) c on true
    cross join lateral (
      select from job j where j.lane = m.lane and j.txid >= coalesce(pg_snapshot_xmin(c.lo), '0'::xid8) and (j.txid, j.id) < (m.txid, m.id)
        and not is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id)) j
    where m.id = ahead.id limit least(greatest(ahead.most, 0), 100000)) q
$$;
comment on function ahead(bigint, int) is 'How many available jobs of the same lane are claimed before this one, or of a job whose key is busy how many wait before it for the key; counts up to `most` (at most 100000).';

create or replace function xmin_holders(older_than interval default '1 minute')
returns table (what text, name text, pid int, role text, application text, state text, since timestamptz, xmin_age bigint)
language sql stable security definer set search_path from current as $$
  select 'transaction', null, a.pid, a.usename::text, a.application_name, a.state, a.xact_start,
      greatest(age(a.backend_xmin), age(a.backend_xid))::bigint
    from pg_stat_activity a
    where (a.backend_xmin is not null or a.backend_xid is not null) and (a.datid = (select d.oid from pg_database d where d.datname = current_database()) or a.datid is null or a.datid = 0)
      and a.pid <> pg_backend_pid() and coalesce(a.xact_start, a.backend_start) < clock_timestamp() - older_than
  union all
  select 'prepared transaction', p.gid, null, p.owner::text, null, null, p.prepared, age(p.transaction)::bigint
    from pg_prepared_xacts p where p.database = current_database() and p.prepared < clock_timestamp() - older_than
  union all
  select 'replication slot', s.slot_name::text, s.active_pid, null, null, case when s.active then 'active' else 'inactive' end, null, age(s.xmin)::bigint
    from pg_replication_slots s where s.xmin is not null
  order by 8 desc nulls last
$$;
comment on function xmin_holders(interval) is 'What keeps PostgreSQL from removing dead rows in this database: transactions and prepared transactions older than older_than, replication slots with an xmin. xmin_age: in transactions.';

create or replace function status() returns table (schema_version text, program_version text, leader bigint, leader_name text, leader_since timestamptz,
  leader_seen_at timestamptz, workers bigint, slots bigint, running bigint, available bigint, queues_paused text[], kinds_paused text[],
  oldest_available_at timestamptz, next_due_at timestamptz, dead_last_hour bigint, at timestamptz)
language sql stable security definer set search_path from current set jit = off as $$
  with t as materialized (select clock_timestamp() as now),
    l as (
      select l.worker, w.name, l.since, l.at from (select * from leader q order by q.id desc limit 1) l, worker w, t
      where w.id = l.worker and w.ended_at is null and l.at > t.now - interval '10 s'),
    w as (
      select count(*) as n, coalesce(sum(w.slots), 0)::bigint as slots from worker w, t
      where w.reaped_at is null and w.ended_at is null
        and coalesce((select h.at from heartbeat h where h.worker = w.id order by h.at desc limit 1), w.started_at) > t.now - w.lease),
    b as (
      select coalesce(sum(q.jobs) filter (where q.state = 'running'), 0)::bigint as running,
        coalesce(sum(q.jobs) filter (where q.state = 'available'), 0)::bigint as available,
        min(q.oldest_at) filter (where q.state = 'available') as oldest from backlog() q)
  select (select m.value from meta m where m.key = 'schema_version'), (select m.value from meta m where m.key = 'program_version'),
    l.worker, l.name, l.since, l.at, w.n, w.slots, b.running, b.available,
    array(select q.queue from queue q where q.paused order by 1), array(select k.kind from kind k where k.paused order by 1),
    b.oldest, (select min(d.due_at) from deferred d where d.due_at < 'infinity'),
    (select count(*) from dead d where d.ended_at > t.now - interval '1 hour' and d.state <> 'cancelled'), t.now
  from t cross join w cross join b left join l on true
$$;
comment on function status() is 'One row: version, leader, live workers, what is paused, since when the oldest available job waits, dead letters of the last hour (failed or expired).';
