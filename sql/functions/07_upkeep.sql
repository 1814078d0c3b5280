-- Partitions and retention. The leader calls these about once a minute. Every statement that locks job itself waits for at
-- most 50 ms, since inserts queue behind a waiting ACCESS EXCLUSIVE; what fails is tried again at the next round.

create or replace view partition as
  select c.oid::regclass as name, c.relname::text as relname,
    case when b.bound ~ 'FROM \(MINVALUE\)' then '-infinity' else substring(b.bound from 'FROM \(''([^'']*)''\)')::timestamptz end as lower,
    case when b.bound ~ 'TO \(MAXVALUE\)' then 'infinity' else substring(b.bound from 'TO \(''([^'']*)''\)')::timestamptz end as upper,
    i.inhdetachpending as detaching
  from pg_inherits i join pg_class c on c.oid = i.inhrelid cross join lateral (select pg_get_expr(c.relpartbound, c.oid) as bound) b
  where i.inhparent = 'job'::regclass;
comment on view partition is 'The partitions of job with their bounds.';

-- [lower, upper) becomes [lower, at) and a new [at, upper).
create or replace function split_partition(p_relname text, p_at timestamptz) returns void
language plpgsql security definer set search_path from current set lock_timeout = '50ms' set timezone = 'UTC' as $$
declare
  p record;
  v_new text := 'job_' || to_char(p_at, case when date_trunc('day', p_at) = p_at then 'YYYYMMDD' else 'YYYYMMDD"_"HH24MI' end);
begin
  select * into strict p from partition q where q.relname = p_relname and not q.detaching;
  execute format('create table %I (like job including all)', v_new);
  execute format('alter table job detach partition %I', p_relname);
  execute format('alter table job attach partition %I for values from (%s) to (%L)', p_relname,
    case when p.lower = '-infinity' then 'minvalue' else quote_literal(p.lower) end, p_at);
  execute format('alter table job attach partition %I for values from (%L) to (%s)', v_new, p_at,
    case when p.upper = 'infinity' then 'maxvalue' else quote_literal(p.upper) end);
end $$;

-- Keeps partitions attached ahead: three days of daily ones, or four hours of hourly ones when a day is larger than
-- meta.partition_bytes_a_day (20 GB). Returns how many were made; -1: a lock was busy, try again.
create or replace function rotate_ahead() returns int
language plpgsql security definer set search_path from current set timezone = 'UTC' as $$
declare
  v_large boolean := (select coalesce(sum(pg_total_relation_size(p.name)), 0) from partition p
      where p.upper > now() - interval '1 day' and p.lower <= now())
    > coalesce((select value::numeric from meta where key = 'partition_bytes_a_day'), 20e9);
  v_width interval := case when v_large then interval '1 hour' else interval '1 day' end;
  v_unit text := case when v_large then 'hour' else 'day' end;
  v_ahead interval := case when v_large then interval '4 hours' else interval '3 days' end;
  v_made int := 0;
  p record;
begin
  loop
    exit when (select count(*) from partition) >= 32;
    select q.* into p from partition q
      where not q.detaching and (q.lower > now() or q.upper = 'infinity') and q.lower < now() + v_ahead
        and (q.upper = 'infinity' or q.upper - q.lower > v_width)
      order by q.lower limit 1;
    exit when not found;
    perform split_partition(p.relname, date_trunc(v_unit, greatest(p.lower, now()) + v_width));
    v_made := v_made + 1;
  end loop;
  return v_made;
exception when lock_not_available or deadlock_detected then
  return -1;
end $$;

-- Whether a table with the shape of job (a partition or a detached one) holds a job that is not finished.
create or replace function has_unfinished(p_relname text) returns boolean
language plpgsql stable security definer set search_path from current set jit = off as $$
declare
  v_lane bigint;
  v_found boolean;
  c record;
begin
  execute format('select min(lane) from %I', p_relname) into v_lane;
  while v_lane is not null loop
    select b.lo, b.hi, b.pos_txid, b.pos_id into c from batch b where b.lane = v_lane order by b.seq desc limit 1;
    if not found then return true; end if;
    execute format('select exists (select from %I j where j.lane = $1 and j.txid >= pg_snapshot_xmin($2) and not is_claimed(j.txid, j.id, $2, $3, $4, $5))
      or exists (select from held() o join %I j on j.id = o.id and j.lane = o.lane where o.lane = $1)', p_relname, p_relname)
      into v_found using v_lane, c.lo, c.hi, c.pos_txid, c.pos_id;
    if v_found then return true; end if;
    execute format('select lane from %I where lane > $1 order by lane limit 1', p_relname) into v_lane using v_lane;
  end loop;
  return false;
end $$;

-- Partitions past retention in which everything is finished; to be detached concurrently, then given to drop_detached.
create or replace function droppable() returns setof text
language plpgsql stable security definer set search_path from current as $$
declare
  p record;
  v_before timestamptz := clock_timestamp() - greatest(coalesce((select value::interval from meta where key = 'retention_succeeded'), interval '1 day'), interval '0');
begin
  for p in select q.relname from partition q where q.upper < v_before and q.upper < clock_timestamp() - interval '10 minutes' and not q.detaching order by q.lower loop
    if not has_unfinished(p.relname) then return next p.relname; end if;
  end loop;
end $$;

create or replace function detached() returns setof text
language sql stable security definer set search_path from current as $$
  select c.relname::text from pg_class c
  where c.relnamespace = quote_ident(current_schema())::regnamespace and c.relkind = 'r' and c.relname ~ '^job_[0-9]{8}' and not c.relispartition
$$;

-- Whether a partition is being detached or has been, and is not dropped: its jobs are not to be seen in job.
create or replace function in_limbo() returns boolean
language sql stable security definer set search_path from current as $$
  select exists (select from pg_inherits i where i.inhparent = 'job'::regclass and i.inhdetachpending) or exists (select from detached())
$$;

-- Drops a detached partition, or moves what is unfinished in it into the log again first (a job that was appended while
-- the partition was being detached).
create or replace function drop_detached(p_relname text) returns boolean
language plpgsql security definer set search_path from current set lock_timeout = '50ms' as $$
begin
  if not exists (select from detached() d where d = p_relname) then return false; end if;
  if has_unfinished(p_relname) then
    execute format('with gone as (
        delete from %I j where exists (select from held() o where o.id = j.id and o.lane = j.lane) or not exists (
          select from (select b.* from batch b where b.lane = j.lane order by b.seq desc limit 1) c
          where is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id)) returning j.*)
      insert into job (id, lane, txid, attempt, payload, payload_bytes, headers, options)
      select id, lane, case when exists (select from held() o where o.id = gone.id) then txid else pg_current_xact_id() end,
        attempt, payload, payload_bytes, headers,
        coalesce(options, ''{}'') || jsonb_build_object(''enqueued_at'', coalesce(options -> ''enqueued_at'', to_jsonb(queued_at))) from gone', p_relname);
  end if;
  execute format('drop table %I', p_relname);
  return true;
exception when lock_not_available then
  return false;
end $$;

-- Closed partitions that have not been frozen yet; insert-only tables freeze late.
create or replace function unfrozen() returns setof text
language sql stable security definer set search_path from current as $$
  select p.relname from partition p where p.upper < clock_timestamp() - interval '1 hour' and not p.detaching
    and not exists (select from meta m where m.key = 'frozen:' || p.relname)
$$;

-- Deletes what is past its retention, at most p_limit rows of each table; returns how many.
create or replace function prune(p_limit int default 5000) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_now timestamptz := clock_timestamp();
  v_log timestamptz := v_now - coalesce((select value::interval from meta where key = 'retention_succeeded'), interval '1 day');
  v_dead timestamptz := v_now - coalesce((select value::interval from meta where key = 'retention_dead'), interval '30 days');
  v_results timestamptz := v_now - coalesce((select value::interval from meta where key = 'retention_results'), interval '1 day');
  v_n bigint;
  v_all bigint := 0;
begin
  v_all := v_all + prune_unique(p_limit);
  perform prune_keys_of_dead(v_dead, p_limit);
  delete from dead d where d.id in (select q.id from dead q where q.ended_at < v_dead order by q.ended_at, q.id limit p_limit);
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from attempt_error e where e.ctid = any(array(select q.ctid from attempt_error q where q.at < v_dead limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from result r where r.ctid = any(array(select q.ctid from result q where q.at < v_results limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from progress p where p.ctid = any(array(select q.ctid from progress q where q.at < v_now - interval '1 minute'
    and not exists (select from batch b where b.worker = q.worker and b.token = q.token and b.closed_at is null) limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from schedule_fire f where f.ctid = any(array(select q.ctid from schedule_fire q where q.at < v_dead order by q.at limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  -- Of each worker the newest heartbeat stays, of each lane the newest batch: without it the lane's jobs would run again.
  delete from heartbeat h where h.ctid = any(array(select q.ctid from heartbeat q where q.at < v_now - interval '1 hour'
    and exists (select from heartbeat n where n.worker = q.worker and n.at > q.at) limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from batch b where (b.lane, b.seq) in (
    select q.lane, q.seq from batch q where q.claimed_at < least(v_log, (select min(p.lower) from partition p))
      and q.closed_at < v_log and exists (select from batch n where n.lane = q.lane and n.seq > q.seq) limit p_limit);
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from done d where d.ctid = any(array(select q.ctid from done q where not q.rescued and exists (
    select from batch b where b.worker = q.worker and b.token = q.token and b.closed_at is not null) limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from leader l where l.at < v_now - interval '1 hour' and l.id < (select max(n.id) from leader n);
  delete from done d where d.at < v_now - interval '1 day' and exists (select from worker w where w.id = d.worker and w.reaped_at is not null);
  delete from worker w where w.reaped_at < v_now - interval '7 days';
  delete from heartbeat h where not exists (select from worker w where w.id = h.worker);
  v_all := v_all + prune_broker_jobs(least(v_log, (select min(p.lower) from partition p)), p_limit);
  v_all := v_all + prune_limits();
  v_all := v_all + prune_key_turns(p_limit);
  v_all := v_all + prune_key_pace(p_limit);
  delete from meta m where m.key like 'frozen:%' and not exists (select from partition p where p.relname = substring(m.key from 8));
  -- Last, since their locks stay.
  perform prune_rules();
  perform prune_dependencies(p_limit);
  return v_all;
end $$;
