-- The pace of keys: how many jobs of a key may start in a second, and holds of a key by a handler's RetryAfter. Only kinds
-- that have either come here. A job that its key's pace keeps back is parked like one whose key is busy, and the leader
-- hands the key on when the next job may start.

create or replace function key_rate(p_kind text, out per_second numeric, out burst int)
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
begin
  select r.per_second, r.burst into key_rate.per_second, key_rate.burst
    from limit_rule r where r.name = p_kind and r.scope = 'key_rate' order by r.origin desc limit 1;
end $$;
comment on function key_rate(text) is 'How many jobs of each key of this kind may start in a second; null: any number.';

create or replace function is_paced(p_kind text) returns boolean
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
begin
  return exists (select from limit_rule r where r.name = p_kind and r.scope = 'key_rate')
    or exists (select from key_hold h where h.kind = p_kind limit 1);
end $$;

create or replace function key_held_until(p_kind text, p_key text, p_now timestamptz) returns timestamptz
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
begin
  return (select h.until from key_hold h where h.kind = p_kind and h.key = p_key and h.until > p_now order by h.until desc limit 1);
end $$;

create or replace function bucket_of_key(p_kind text, p_key text) returns text
language sql immutable parallel safe
return bucket_of_key.p_kind || ' ' || bucket_of_key.p_key;  -- no kind has a blank in it

-- How many jobs of a key may start at p_now (null: any number), and when one more may, unless that is now.
create or replace function key_pace(p_kind text, p_key text, p_now timestamptz, out room int, out next_at timestamptz)
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  v_rate record;
  v_tokens numeric;
begin
  next_at := key_held_until(p_kind, p_key, p_now);
  if next_at is not null then room := 0; end if;
  select r.per_second, r.burst into v_rate from key_rate(p_kind) r;
  if v_rate.per_second is null then return; end if;
  v_tokens := limit_tokens('key_rate', bucket_of_key(p_kind, p_key), v_rate.per_second, v_rate.burst, p_now);
  room := least(room, floor(least(v_tokens, 1000000))::int);
  room := greatest(room, 0);
  if v_tokens < 1 then next_at := greatest(next_at, p_now + (1 - v_tokens) / v_rate.per_second * interval '1 second'); end if;
end $$;

-- Jobs of a key have started. Under the lock of the kind's keys.
create or replace function key_started(p_kind text, p_key text, p_n int, p_now timestamptz) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  v_rate record;
begin
  select r.per_second, r.burst into v_rate from key_rate(p_kind) r;
  if v_rate.per_second is not null then
    perform limit_take('key_rate', bucket_of_key(p_kind, p_key), v_rate.per_second, v_rate.burst, p_n, p_now);
  end if;
end $$;

-- The leader shall look at a key at that time, unless it will do so then or a little later already.
create or replace function look_at_key(p_kind text, p_key text, p_at timestamptz) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  v_now timestamptz := clock_timestamp();
  v_at timestamptz := greatest(p_at, v_now);
begin
  insert into key_due (at, kind, key) select v_at, p_kind, p_key
    where not exists (select from key_due d where d.kind = p_kind and d.key = p_key and d.at > v_now and d.at <= v_at + interval '5 ms');
end $$;

-- What take_turns does, for a kind whose keys have a pace: of the jobs that may go as far as other jobs of the key are
-- concerned, those go for which the key has tokens, whether they are new or come back; none of a key that is held. A job
-- that had its turn and comes back too soon is parked before the others.
create or replace function take_paced_turns(p_kind text, p_limit int, p_ids bigint[], p_txids xid8[], p_keys text[], p_sizes bigint[], p_want int,
  out ids bigint[], out txids xid8[], out keys text[], out seqs bigint[])
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  max_bytes constant bigint := 16777216;
  v_now timestamptz := clock_timestamp();
  v record;
begin
  -- A bucket of the future: the clock was set back. From here on the time counts anew.
  for v in select distinct u.key from unnest(p_keys) u(key)
    where (select b.at from limit_bucket b where b.scope = 'key_rate' and b.name = bucket_of_key(p_kind, u.key) order by b.seq desc limit 1) > v_now
  loop
    perform key_started(p_kind, v.key, 0, v_now);
  end loop;
  with r as materialized (
      select * from met_rows(p_ids, p_txids, p_keys, p_sizes)),
    k as materialized (
      select d.key, coalesce(t.seq, 0) as seq, coalesce(t.holders, '{}') as holders, coalesce(t.parked_to, 0) as parked_to,
        coalesce(t.parked_last, 0) as parked_last, coalesce(q.paused, false) as paused, coalesce(e.room, 1000000) as pace,
        case when q.paused or t.parked_last > t.parked_to then 0 else greatest(p_limit - coalesce(cardinality(t.holders), 0), 0) end as room
      from (select distinct r.key from r) d
      left join lateral turn_of(p_kind, d.key) t on true
      left join lateral (select q.paused from key_rule q where q.kind = p_kind and q.key = d.key limit 1) q on true
      cross join lateral key_pace(p_kind, d.key, v_now) e),
    h as (
      select r.*, k.room, k.pace, k.paused, k.parked_to, k.parked_last, r.id = any(k.holders) as holds from r join k on k.key = r.key),
    m as (
      select h.*, case when h.holds then not h.paused else row_number() over (partition by h.key, h.holds order by h.ord) <= h.room end as may from h),
    n as (
      select m.*, m.may and count(*) filter (where m.may) over (partition by m.key order by m.ord rows unbounded preceding) <= m.pace as goes from m),
    c as (
      select n.*, count(*) filter (where n.goes) over w as goers, sum(n.size) filter (where n.goes) over w as bytes
      from n window w as (order by n.ord rows unbounded preceding)),
    o as materialized (
      select c.* from c where c.ord < coalesce((select min(c.ord) from c where c.goes and (c.goers > p_want or (c.bytes >= max_bytes and c.goers > 1))), 1000000)),
    s as materialized (
      select o.ord, o.id, o.txid, o.key, o.holds, case when o.goes then null
        when o.holds then o.parked_to - count(*) over (partition by o.key, o.goes, o.holds) + row_number() over (partition by o.key, o.goes, o.holds order by o.ord)
        else o.parked_last + row_number() over (partition by o.key, o.goes, o.holds order by o.ord) end as seq
      from o),
    t as (
      insert into key_turn (kind, key, seq, holders, parked_to, parked_last)
      select p_kind, k.key, k.seq + 1, array(select x from unnest(k.holders) x where x <> all(s.left)) || s.came, k.parked_to - cardinality(s.left), k.parked_last + s.parked
      from k join (
        select s.key, coalesce(array_agg(s.id) filter (where s.seq is null and not s.holds), '{}') as came,
          coalesce(array_agg(s.id) filter (where s.seq is not null and s.holds), '{}') as left,
          count(*) filter (where s.seq is not null and not s.holds) as parked,
          bool_or(s.seq is not null or not s.holds) as changes
        from s group by s.key) s on s.key = k.key
      where s.changes)
  select array_agg(s.id order by s.ord), array_agg(s.txid order by s.ord), array_agg(s.key order by s.ord), array_agg(s.seq order by s.ord)
    into ids, txids, keys, seqs from s;
  for v in select u.key, count(*) filter (where u.seq is null)::int as started from unnest(keys, seqs) u(key, seq) group by u.key order by u.key
  loop
    if v.started > 0 then perform key_started(p_kind, v.key, v.started, v_now); end if;
    -- Whoever is parked, now or before, while other jobs of the key leave room, waits for the pace alone.
    perform look_at_key(p_kind, v.key, coalesce(e.next_at, v_now))
      from turn_of(p_kind, v.key) t
      cross join lateral key_pace(p_kind, v.key, v_now) e
      where t.parked_last > t.parked_to and cardinality(t.holders) < p_limit;
  end loop;
end $$;

-- For whoever hands a key on: how many parked jobs its pace lets go, less those that were let go and are not claimed yet.
create or replace function key_pace_room(p_kind text, p_key text, p_holders bigint[]) returns int
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  e record;
begin
  select * into e from key_pace(p_kind, p_key, clock_timestamp());
  -- As long as somebody is parked and no job of the key is about to be claimed, the leader has a time to look.
  if e.next_at is not null then perform look_at_key(p_kind, p_key, e.next_at); end if;
  if e.room is null or e.room = 0 then return e.room; end if;
  return greatest(e.room - (select count(*) from unnest(p_holders) h(id)
    where key_state(h.id) = 'waiting' and not exists (select from deferred d where d.id = h.id)), 0);
end $$;
comment on function key_pace_room(text, text, bigint[]) is 'How many parked jobs of a key its rate and its hold let go now; null: any number. Notes when the leader shall look again.';

-- The share of the leader: keys whose time to look has come are noted.
create or replace function note_due_keys(p_from timestamptz) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set jit = off as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if not exists (select from key_due d where d.at >= p_from and d.at <= v_now) then return; end if;
  with gone as (
    delete from key_due d where d.ctid = any(array(
      select q.ctid from key_due q where q.at >= p_from and q.at <= v_now order by q.at limit 5000 for update skip locked)) returning d.kind, d.key)
  insert into key_check (kind, key) select distinct g.kind, g.key from gone g;
end $$;

-- When the leader shall look again on account of keys; null: nothing is known.
create or replace function next_key_look(p_from timestamptz) returns timestamptz
language plpgsql volatile security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
begin
  -- What is noted and was not done: somebody else had the lock of its kind.
  if exists (select from key_check) then return clock_timestamp(); end if;
  return (select d.at from key_due d where d.at >= p_from order by d.at limit 1);
end $$;

-- A handler of a job with a key was told to come back later: no job of the key starts before, in the whole fleet.
create or replace function hold_key(kind text, key text, hold interval, said_by text default null) returns timestamptz
language plpgsql security definer set search_path from current as $$
declare
  v_until timestamptz;
begin
  perform check_name('kind', hold_key.kind);
  perform check_key(hold_key.key);
  if hold is null or hold <= interval '0' or hold > interval '1 hour' then
    raise exception 'posthouse: hold is %', coalesce(hold::text, 'null') using errcode = '22023', hint = 'hold is more than 0 and at most 1 hour, from now; to stop a key for longer, pause it.';
  end if;
  v_until := coalesce(greatest(key_held_until(hold_key.kind, hold_key.key, clock_timestamp()), clock_timestamp() + hold), clock_timestamp() + hold);
  insert into key_hold (kind, key, until, said_by) values (hold_key.kind, hold_key.key, v_until, coalesce(hold_key.said_by, session_user));
  perform look_at_key(hold_key.kind, hold_key.key, v_until);
  return v_until;
end $$;
comment on function hold_key(text, text, interval, text) is
'No job of the kind with this key is claimed for that long (more than 0, at most 1 hour) from the commit on, by any worker; those that run go on. A hold that ends later stays. resume_key ends it. Returns its end. Workers call it for the RetryAfter of a handler whose job has a key.';

-- The share of prune(): holds that are over, and buckets that are full, which is as if there were none.
create or replace function prune_key_pace(p_limit int) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = on set jit = off as $$
declare
  v_now timestamptz := clock_timestamp();
  v_n bigint;
  v_all bigint;
begin
  delete from key_hold h where h.ctid = any(array(select q.ctid from key_hold q where q.until < v_now limit p_limit));
  get diagnostics v_all = row_count;
  delete from limit_bucket b where b.ctid = any(array(
    select q.ctid from limit_bucket q left join lateral key_rate(split_part(q.name, ' ', 1)) r on true
    where q.scope = 'key_rate' and (r.per_second is null
      or q.tokens + greatest(0, extract(epoch from v_now - q.at)) * r.per_second >= coalesce(r.burst, greatest(1, ceil(r.per_second)))
      or exists (select from limit_bucket n where n.scope = q.scope and n.name = q.name and n.seq > q.seq)) limit p_limit));
  get diagnostics v_n = row_count;
  return v_all + v_n;
end $$;

create or replace function key_list(p_kind text default null, p_limit int default 1000)
returns table (kind text, key text, paused boolean, "limit" int, holders bigint[], parked bigint, since timestamptz, paused_at timestamptz, held_until timestamptz, free_at timestamptz)
language sql volatile security definer set search_path from current as $$
  select q.kind, q.key, coalesce(r.paused, false), key_limit(q.kind), coalesce(t.holders, '{}'),
    (select count(*) from parked p where p.kind = q.kind and p.key = q.key), t.at, r.paused_at,
    key_held_until(q.kind, q.key, clock_timestamp()), (select e.next_at from key_pace(q.kind, q.key, clock_timestamp()) e)
  from (
    select k.kind, k.key from key_turn k where p_kind is null or k.kind = p_kind
    union select k.kind, k.key from key_rule k where p_kind is null or k.kind = p_kind
    union select k.kind, k.key from key_hold k where k.until > clock_timestamp() and (p_kind is null or k.kind = p_kind)) q
  left join key_rule r on r.kind = q.kind and r.key = q.key
  left join lateral turn_of(q.kind, q.key) t on true
  where t.holders <> '{}' or t.parked_last > t.parked_to or r.paused or key_held_until(q.kind, q.key, clock_timestamp()) is not null
  order by 6 desc, 1, 2 limit p_limit
$$;
comment on function key_list(text, int) is 'Keys that are busy, paused or have jobs waiting, those with the most first: kind, key, whether it is paused, how many may run at once (null: any number), the jobs that have the key (running, about to, or between two attempts), how many are parked behind them, since when that is so, since when it is paused, until when a handler''s RetryAfter holds it, and when its pace (hold and rate) lets the next job start, null: now.';

-- What keeps a job waiting on account of its key; no row when nothing does, or it has none.
create or replace function key_of_job(id bigint) returns table (kind text, key text, paused boolean, "limit" int, holders bigint[], ahead bigint, paused_at timestamptz, held_until timestamptz, free_at timestamptz, per_second numeric)
language sql stable security definer set search_path from current as $$
  select j.kind, j.key, coalesce(r.paused, false), key_limit(j.kind), array_remove(coalesce(t.holders, '{}'), key_of_job.id),
    case when j.seq is not null then (select count(*) from parked p where p.kind = j.kind and p.key = j.key and p.seq < j.seq)
      else (select count(*) from parked p where p.kind = j.kind and p.key = j.key) end,
    r.paused_at, key_held_until(j.kind, j.key, clock_timestamp()), (select e.next_at from key_pace(j.kind, j.key, clock_timestamp()) e),
    (select e.per_second from key_rate(j.kind) e)
  from (
    select p.kind, p.key, p.seq, true as keyed from parked p where p.id = key_of_job.id
    union all
    select l.kind, turn_key(q.options), null, l.keyed from job q join lane l on l.lane = q.lane where q.id = key_of_job.id) j
  left join key_rule r on r.kind = j.kind and r.key = j.key
  left join lateral turn_of(j.kind, j.key) t on true
  where j.keyed or is_serialized(j.kind)
$$;
comment on function key_of_job(bigint) is 'Of a job that waits, the key by which it waits: whether that is paused, how many may run at once, which jobs have it, how many parked ones go before this one, since when the key is paused, until when a handler''s RetryAfter holds it, when its rate lets the next job start (null: now), and that rate.';
