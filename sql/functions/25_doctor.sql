-- What is wrong, or soon will be, and what mends it. Reads what every role may read of the server, and tables of this
-- schema that stay small; job is asked through backlog() alone.

create or replace function doctor()
returns table (subject text, level text, finding text, mend text)
language sql volatile security definer set search_path from current set jit = off as $$
  with t as materialized (select clock_timestamp() as now),
    live as materialized (
      select w.* from worker w, t where w.reaped_at is null and w.ended_at is null
        and coalesce((select h.at from heartbeat h where h.worker = w.id order by h.at desc limit 1), w.started_at) > t.now - w.lease),
    name as materialized (
      select l.lane, l.queue, l.kind from lane l union select s.lane, s.queue, s.kind from lane_seen s),
    waiting as materialized (
      select q.queue, q.kind, sum(q.jobs) as jobs, min(q.since) as since from (
        select b.queue, b.kind, b.jobs, b.oldest_at as since from backlog() b where b.state = 'available'
        union all
        select n.queue, n.kind, count(*), min(d.due_at) from deferred d join name n on n.lane = d.lane, t where d.due_at <= t.now group by 1, 2) q
      group by 1, 2),
    setting as (select s.name, s.setting from pg_settings s),
    lead as (select l.* from (select * from leader q order by q.id desc limit 1) l, t
      where l.at > t.now - interval '15 s' and exists (select from worker w where w.id = l.worker and w.ended_at is null)),
    use as (
      select count(*) filter (where a.backend_type = 'client backend') as taken,
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as room from pg_stat_activity a),
    found (subject, level, finding, mend, place) as (
      select 'identity', 'error', 'the schema belongs to another cluster or database: nothing is claimed',
          'After a restore or a clone that shall run its jobs: posthouse adopt', 1
        from meta m where m.key = 'identity' and m.value <> identity_now()
      union all
      select 'workers', 'error', format('no worker is alive, and %s jobs wait', sum(w.jobs)), 'Start one: posthouse work, or posthouse start', 2
        from waiting w where not exists (select from live) having sum(w.jobs) > 0
      union all
      select 'kind ' || w.kind, 'warning', format('%s jobs wait in queue %s since %s, and no live worker has this kind there', w.jobs, w.queue, date_trunc('second', w.since)),
          'Start a worker with a handler for it, or cancel the jobs: posthouse jobs list --kind ' || w.kind, 3
        from waiting w where exists (select from live)
          and not exists (select from live l where w.kind = any(l.kinds) and (cardinality(l.queues) = 0 or w.queue = any(l.queues)))
      union all
      select 'leader', 'warning', 'nobody leads: delayed jobs, retries and schedules wait', 'Start a worker that takes part in the duties; the next heartbeat of one elects it.', 4
        where exists (select from live) and not exists (select from lead)
      union all
      select 'deferred', 'warning', format('%s jobs are due and have not been promoted for %s', count(*), date_trunc('second', max(t.now - d.due_at))),
          'The leader is overloaded or blocked: posthouse status names old transactions, posthouse workers list the leader.', 5
        from deferred d, t where d.due_at < t.now - interval '1 minute' and exists (select from lead) having count(*) > 0
      union all
      select 'schedule ' || s.name, 'warning', format('is due since %s', date_trunc('second', s.due_at)),
          'Schedules are fired by the leader: posthouse schedules show, posthouse status', 6
        from schedule s, t where s.due_at < t.now - interval '1 minute'
      union all
      select 'worker ' || w.name, 'warning', format('pid %s on %s has been silent for %s of its lease of %s', w.pid, w.host, date_trunc('second', t.now - h.at), w.lease),
          'Look at its process and at the network between; after the lease its jobs go to others.', 7
        from live w, t, lateral (select q.at from heartbeat q where q.worker = w.id order by q.at desc limit 1) h where h.at < t.now - w.lease * 2 / 3
      union all
      select 'queue ' || q.queue, 'notice', format('is paused, and %s jobs wait', sum(w.jobs)), 'posthouse queues resume ' || q.queue, 8
        from queue q join waiting w on w.queue = q.queue where q.paused group by q.queue
      union all
      select 'kind ' || k.kind, 'notice', format('is paused, and %s jobs wait', sum(w.jobs)), 'posthouse kinds resume ' || k.kind, 8
        from kind k join waiting w on w.kind = k.kind where k.paused group by k.kind
      union all
      select 'dead letters', 'notice', format('%s jobs of kind %s failed for good within the last hour', count(*), n.kind),
          format('posthouse dead list --kind %s, then: posthouse dead retry --kind %s', n.kind, n.kind), 9
        from dead d join name n on n.lane = d.lane, t where d.ended_at > t.now - interval '1 hour' and d.state = 'failed' group by n.kind
      union all
      select x.what, case when t.now - x.since > interval '1 hour' or x.what <> 'transaction' then 'warning' else 'notice' end,
          concat_ws(', ', 'keeps PostgreSQL from removing dead rows', x.name, 'process ' || x.pid, 'role ' || x.role,
            'application ' || nullif(x.application, ''), x.state, 'since ' || date_trunc('second', x.since)::text),
          case x.what when 'transaction' then format('Let it end, or: select pg_terminate_backend(%s)', x.pid)
            when 'prepared transaction' then format('commit prepared or rollback prepared %L', x.name)
            else format('Drop the slot when nobody needs it: select pg_drop_replication_slot(%L)', x.name) end, 10
        from t, xmin_holders('10 minutes') x
      union all
      select 'notifications', 'warning', format('the queue of NOTIFY is %s %% full', round((pg_notification_queue_usage() * 100)::numeric)),
          'A session with LISTEN is in a long transaction: end it (pg_stat_activity). When the queue is full, commits with NOTIFY fail.', 11
        where pg_notification_queue_usage() > 0.1
      union all
      select 'transaction ids', case when age(d.datfrozenxid) > 1000000000 then 'error' else 'warning' end,
          format('the database''s oldest transaction is %s transactions old', age(d.datfrozenxid)),
          'vacuum (freeze) the oldest tables, and mend what holds it back (old transactions, slots); at two thousand million the server stops.', 12
        from pg_database d where d.datname = current_database() and age(d.datfrozenxid) > greatest(250000000, 1.25 * current_setting('autovacuum_freeze_max_age')::bigint)
      union all
      select 'connections', case when u.taken >= u.room then 'error' else 'warning' end, format('%s of %s are taken', u.taken, u.room),
          'A worker has two connections and one for LISTEN: raise max_connections, run fewer processes, or put a pooler between.', 13
        from use u where u.taken >= u.room * 0.9
      union all
      select 'setting ' || s.name, 'error', 'is off: a crash of the server may lose or damage committed jobs', format('alter system set %s = on', s.name), 14
        from setting s where s.name in ('fsync', 'full_page_writes') and s.setting = 'off'
      union all
      select 'setting synchronous_commit', 'warning', 'is off: a crash of the server loses the jobs that were committed last', 'alter system set synchronous_commit = on', 14
        from setting s where s.name = 'synchronous_commit' and s.setting = 'off'
      union all
      select 'setting ' || s.name, 'warning', 'is off: small tables that change often are never cleaned', format('alter system set %s = on', s.name), 14
        from setting s where s.name in ('autovacuum', 'track_counts') and s.setting = 'off'
      union all
      select 'table ' || c.relname, 'notice', format('%s dead rows beside %s live ones', s.n_dead_tup, s.n_live_tup),
          format('vacuum %I.%I; when it comes back, look for old transactions and for autovacuum''s settings', s.schemaname, c.relname), 15
        from pg_stat_all_tables s join pg_class c on c.oid = s.relid
        where s.schemaname = (select n.nspname from pg_class q join pg_namespace n on n.oid = q.relnamespace where q.oid = 'meta'::regclass)
          and s.n_dead_tup > greatest(100000, 2 * s.n_live_tup))
  select f.subject, f.level, f.finding, f.mend from found f
  order by case f.level when 'error' then 1 when 'warning' then 2 else 3 end, f.place, f.subject
$$;
comment on function doctor() is
'What is wrong or soon will be, worst first, each with what mends it; no row: nothing was found. level: error (jobs stand still, or may be lost), warning (will get worse), notice (somebody should know). `posthouse doctor` adds what only a client can see.';
