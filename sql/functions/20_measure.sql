-- What monitoring asks for every few seconds: cheap whatever the backlog, so what is counted is counted up to a bound.

create or replace function measure(most int default 10000) returns table (name text, queue text, kind text, state text, value double precision)
language plpgsql stable security definer set search_path from current
-- Else a lane without statistics is read whole and sorted.
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
#variable_conflict use_column
declare
  v_most int := measure.most;
  v_now timestamptz := clock_timestamp();
begin
  if v_most is null or v_most not between 1 and 1000000 then
    raise exception 'posthouse: most is %', coalesce(v_most::text, 'null') using errcode = '22023', hint = 'most is 1 to 1000000; the default is 10000.';
  end if;

  return query
  with lanes as materialized (
      -- The union makes one of a lane that is being folded.
      select l.lane, l.queue, l.kind from lane l union select s.lane, s.queue, s.kind from (select * from lane_seen limit 1000) s),
    seen as materialized (
      select l.lane, l.queue, l.kind, c.ids, c.claimed_at, w.scanned, w.n, w.since
      from (select * from lanes limit 5000) l
      left join lateral (select b.lo, b.hi, b.pos_txid, b.pos_id, b.ids, b.claimed_at from batch b where b.lane = l.lane order by b.seq desc limit 1) c on true
      cross join lateral (
        select count(*) as scanned, count(*) filter (where q.free) as n, min(q.queued_at) filter (where q.free) as since
        from (select not is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id) as free, j.queued_at
          from job j where j.lane = l.lane and j.txid >= coalesce(pg_snapshot_xmin(c.lo), '0'::xid8)
          order by j.txid, j.id limit v_most) q) w),
    waits as (
      -- How long the first job of a lane's newest claim has waited: one look at the index a lane.
      select s.queue, s.kind, extract(epoch from s.claimed_at - min(j.queued_at)) as seconds
      from seen s cross join lateral (select j.queued_at from job j where j.id = s.ids[1]) j
      where s.claimed_at > v_now - interval '5 minutes' group by s.queue, s.kind, s.claimed_at),
    late as materialized (select d.lane, d.state, d.due_at from deferred d order by d.due_at, d.id limit v_most),
    busy as materialized (select h.lane, h.claimed_at from held() h limit v_most),
    behind as materialized (select p.lane, p.queued_at from parked p limit v_most),
    gone as materialized (select d.lane, d.state from dead d where d.ended_at > v_now - interval '1 hour' order by d.ended_at desc limit v_most)
  select 'jobs', s.queue, s.kind, 'available', sum(s.n)::double precision from seen s where s.n > 0 group by s.queue, s.kind
  union all select 'capped', s.queue, s.kind, 'available', 1 from seen s group by s.queue, s.kind having bool_or(s.scanned >= v_most)
  union all select 'oldest_seconds', s.queue, s.kind, 'available', greatest(extract(epoch from v_now - min(s.since)), 0)::double precision from seen s where s.n > 0 group by s.queue, s.kind
  union all select 'wait_seconds', w.queue, w.kind, null, greatest(max(w.seconds), 0)::double precision from waits w group by w.queue, w.kind
  union all select 'jobs', l.queue, l.kind, 'running', count(*)::double precision from busy b join lanes l on l.lane = b.lane group by l.queue, l.kind
  union all select 'oldest_seconds', l.queue, l.kind, 'running', greatest(extract(epoch from v_now - min(b.claimed_at)), 0)::double precision from busy b join lanes l on l.lane = b.lane group by l.queue, l.kind
  union all select 'jobs', l.queue, l.kind, 'parked', count(*)::double precision from behind b join lanes l on l.lane = b.lane group by l.queue, l.kind
  union all select 'jobs', l.queue, l.kind, d.state, count(*)::double precision from late d join lanes l on l.lane = d.lane group by l.queue, l.kind, d.state
  union all select 'dead_last_hour', l.queue, l.kind, d.state, count(*)::double precision from gone d join lanes l on l.lane = d.lane group by l.queue, l.kind, d.state
  union all select 'table_capped', null, null, t.state, 1 from (values
      ('deferred', (select count(*) from late)), ('running', (select count(*) from busy)), ('parked', (select count(*) from behind)),
      ('dead', (select count(*) from gone)), ('lanes', (select count(*) * v_most / 5000 from lanes))) t(state, n) where t.n >= v_most
  union all select 'due_late_seconds', null, null, null, greatest(extract(epoch from v_now - (select min(d.due_at) from deferred d)), 0)::double precision
  union all select 'workers', null, null, null, count(*)::double precision from worker w where w.reaped_at is null and w.ended_at is null
      and coalesce((select h.at from heartbeat h where h.worker = w.id order by h.at desc limit 1), w.started_at) > v_now - w.lease
  union all select 'worker_slots', null, null, null, coalesce(sum(w.slots), 0)::double precision from worker w where w.reaped_at is null and w.ended_at is null
      and coalesce((select h.at from heartbeat h where h.worker = w.id order by h.at desc limit 1), w.started_at) > v_now - w.lease
  union all select 'leader', null, null, null, (coalesce(l.at > v_now - interval '10 s' and w.ended_at is null, false))::int::double precision
      from (select) x left join (select q.worker, q.at from leader q order by q.id desc limit 1) l on true left join worker w on w.id = l.worker
  union all select 'leader_seen_seconds', null, null, null, greatest(extract(epoch from v_now - l.at), 0)::double precision from (select q.at from leader q order by q.id desc limit 1) l
  union all select 'leader_term_seconds', null, null, null, greatest(extract(epoch from v_now - l.since), 0)::double precision from (select q.since from leader q order by q.id desc limit 1) l
  union all select 'schedules', null, null, case when s.enabled and not s.paused then 'active' else 'paused' end, count(*)::double precision from schedule s group by 4
  union all select 'schedule_late_seconds', null, null, null, coalesce(greatest(max(extract(epoch from v_now - s.due_at)), 0), 0)::double precision
      from schedule s where s.enabled and not s.paused
  union all select 'schedule_ticks_last_hour', null, null, f.outcome, count(*)::double precision
      from (select q.outcome from schedule_fire q where q.at > v_now - interval '1 hour' order by q.at desc limit v_most) f group by f.outcome
  union all select 'schedule_fire_late_seconds', null, null, null, greatest(extract(epoch from max(f.at - f.tick)), 0)::double precision
      from (select q.at, q.tick from schedule_fire q where q.outcome = 'fired' and q.at > v_now - interval '5 minutes' order by q.at desc limit 100) f having count(*) > 0
  union all select 'paused', q.queue, null, null, 1 from queue q where q.paused
  union all select 'paused', null, k.kind, null, 1 from kind k where k.paused
  union all select 'server_connections', null, null, coalesce(a.state, 'other'), count(*)::double precision
      from pg_stat_activity a where a.datname = current_database() group by a.state;
end $$;
comment on function measure(int) is
'For monitoring, every few seconds: gauges by name, with queue, kind and state where they have any. Counts go up to `most` (1 to 1000000, default 10000) a lane of available jobs and a table of others; rows called capped and table_capped name those that reached it. Times in seconds.';
