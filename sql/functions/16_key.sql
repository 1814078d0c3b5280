-- Keys: at most so many jobs of a key run at once, 1 unless said otherwise, in the order in which claims meet them. A job
-- that is met while its key is busy is parked, once; the transaction that ends a job of the key hands the key on. All of
-- it happens under one lock a kind, and the state of a key is an appended row: the newest counts.

-- The key by which a job waits for others: its own, or, when the kind is serialized, its dedupe_key, or the kind's.
create or replace function turn_key(p_options jsonb) returns text
language sql immutable parallel safe
return coalesce(p_options ->> 'key', 'dedupe_key:' || (p_options ->> 'dedupe_key'), '');

create or replace function key_lock(p_kind text) returns int
language sql immutable parallel safe
return (hashtext('keys ' || key_lock.p_kind) & -4) | 3;

-- Who has a key: its newest turn. By the number that stands for the key in the index; the texts are compared in the row that
-- is found and, for that reason, not by an equality that the index knows. Resolved when it is created and without settings
-- or rights of its own, so that it becomes a part of the statement that calls it.
create or replace function turn_of(p_kind text, p_key text) returns setof key_turn
language sql stable rows 1
begin atomic
  select t.* from key_turn t
  where hashtextextended(t.key, hashtext(t.kind)) = hashtextextended(p_key, hashtext(p_kind))
    and t.kind is not distinct from p_kind and t.key is not distinct from p_key
  order by t.seq desc limit 1;
end;

create or replace function check_key(p_key text) returns void
language plpgsql immutable set search_path from current as $$
begin
  if p_key is null or octet_length(p_key) not between 1 and 512 then
    raise exception 'posthouse: key has % bytes', coalesce(octet_length(p_key)::text, 'no') using errcode = '22023', hint = 'key is a text of 1 to 512 bytes.';
  end if;
end $$;

-- The options of a job besides its dedupe key: time_options, the key and depends_options; null when there are none.
create or replace function job_options(p_time jsonb, p_key text, p_depends_on bigint[] default null, p_all_ok boolean default true) returns jsonb
language plpgsql immutable set search_path from current as $$
declare
  v_options jsonb := p_time;
begin
  if p_key is not null then
    perform check_key(p_key);
    v_options := coalesce(v_options, '{}') || jsonb_build_object('key', p_key);
  end if;
  if p_depends_on is null and p_all_ok then return v_options; end if;
  return nullif(coalesce(v_options, '{}') || coalesce(depends_options(p_depends_on, p_all_ok), '{}'), '{}');
end $$;

create or replace function is_serialized(p_kind text) returns boolean
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
begin
  return coalesce((select r.concurrency is not null from limit_rule r where r.name = p_kind and r.scope = 'serialized' order by r.origin desc limit 1), false);
end $$;
comment on function is_serialized(text) is 'Whether jobs of this kind run one after another: of each key, else of each dedupe_key, else of the kind.';

-- How many jobs of a key of this kind may run at once; null: any number.
create or replace function key_limit(p_kind text) returns int
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  r limit_rule;
begin
  if is_serialized(p_kind) then return 1; end if;
  select * into r from limit_rule q where q.name = p_kind and q.scope = 'key' order by q.origin desc limit 1;
  return case when found then r.concurrency else 1 end;
end $$;

-- The planner takes an array for ten rows, and joins such rows row by row.
create or replace function met_rows(p_ids bigint[], p_txids xid8[], p_keys text[], p_sizes bigint[])
returns table (id bigint, txid xid8, key text, size bigint, ord bigint)
language sql immutable rows 1000 set search_path from current as $$
  select * from unnest(p_ids, p_txids, p_keys, p_sizes) with ordinality
$$;

create or replace function ended_rows(p_kinds text[], p_keys text[], p_ids bigint[]) returns table (kind text, key text, id bigint)
language sql immutable rows 1000 set search_path from current as $$
  select * from unnest(p_kinds, p_keys, p_ids)
$$;

-- Of the jobs that a claim has met, in order: which are claimed (seq null) and which are parked where, up to the first that
-- the batch has no room for; and writes that to the keys. Tables are read key by key, whatever the planner thinks of them.
create or replace function take_turns(p_kind text, p_limit int, p_ids bigint[], p_txids xid8[], p_keys text[], p_sizes bigint[], p_want int,
  out ids bigint[], out txids xid8[], out keys text[], out seqs bigint[])
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  max_bytes constant bigint := 16777216;
  enough constant int := 256;   -- with so many a batch may end at the first job that would have to be parked
begin
  with r as materialized (
      select * from met_rows(p_ids, p_txids, p_keys, p_sizes)),
    -- From here on a number stands for the key: what follows sorts and joins by it.
    k as materialized (
      select row_number() over () as nr, d.key, coalesce(t.seq, 0) as seq, coalesce(t.holders, '{}') as holders, coalesce(t.parked_to, 0) as parked_to,
        coalesce(t.parked_last, 0) as parked_last, coalesce(q.paused, false) as paused,
        case when q.paused or t.parked_last > t.parked_to then 0 else greatest(p_limit - coalesce(cardinality(t.holders), 0), 0) end as room
      from (select distinct r.key from r) d
      left join lateral turn_of(p_kind, d.key) t on true
      left join lateral (select q.paused from key_rule q where q.kind = p_kind and q.key = d.key and (select exists (select from key_rule z where z.kind = p_kind)) limit 1) q on true),
    h as (
      select r.ord, r.id, r.txid, r.key, r.size, k.nr, k.room, k.paused, k.parked_to, k.parked_last, r.id = any(k.holders) as holds from r join k on k.key = r.key),
    -- rank: among those of its key that hold it, or among those that do not.
    n as (
      select q.*, case when q.holds then not q.paused else q.rank <= q.room end as goes from (
        select h.*, row_number() over (partition by h.nr, h.holds order by h.ord) as rank from h) q),
    c as (
      select n.*, count(*) filter (where n.goes) over w as goers, sum(n.size) filter (where n.goes) over w as bytes
      from n window w as (order by n.ord rows unbounded preceding)),
    -- Up to the first that cannot be taken along.
    o as materialized (
      select c.* from c where c.ord < coalesce((select min(c.ord) from c where case when c.goes then c.goers > p_want or (c.bytes >= max_bytes and c.goers > 1) else c.goers >= enough end), 1000000)),
    -- A holder that comes back while its key is paused gets a place before the parked; any other that stays behind is one
    -- of those for which there was no room.
    s as materialized (
      select o.ord, o.id, o.txid, o.key, o.nr, o.holds, case when o.goes then null
        when o.holds then o.parked_to - z.n + o.rank else o.parked_last + o.rank - o.room end as seq
      from o left join (select p.nr, count(*) as n from o p where p.holds and not p.goes group by p.nr) z on z.nr = o.nr),
    t as (
      insert into key_turn (kind, key, seq, holders, parked_to, parked_last)
      select p_kind, k.key, k.seq + 1, case when s.left = '{}' then k.holders else array(select x from unnest(k.holders) x where x <> all(s.left)) end || s.came, k.parked_to - cardinality(s.left), k.parked_last + s.parked
      from k join (
        select s.nr, coalesce(array_agg(s.id) filter (where s.seq is null and not s.holds), '{}') as came,
          coalesce(array_agg(s.id) filter (where s.seq is not null and s.holds), '{}') as left,
          count(*) filter (where s.seq is not null and not s.holds) as parked,
          bool_or(s.seq is not null or not s.holds) as changes
        from s group by s.nr) s on s.nr = k.nr
      where s.changes)
  -- Sorted once, and not by each aggregate for itself.
  select array_agg(s.id), array_agg(s.txid), array_agg(s.key), array_agg(s.seq) into ids, txids, keys, seqs from (select * from s order by s.ord) s;
end $$;

-- Claims of a lane whose jobs have keys: what finish_and_claim does in its last step, with the intervals of the window,
-- under the lane's lock and that of the kind's keys. A job is claimed when it holds its key or there is room for one more
-- and nobody of the key is parked; else it is parked. Writes a batch whenever it has moved on, also without members.
create or replace function claim_keyed(p_worker bigint, p_token bigint, p_lane bigint, p_seq bigint, p_lo pg_snapshot, p_hi pg_snapshot,
  a xid8[], ai bigint[], b xid8[], bi bigint[], p_want int, p_start int)
returns table (token bigint, lane bigint, pos int, id bigint, attempt int, payload jsonb, payload_bytes bytea, headers jsonb, options jsonb)
language plpgsql security definer rows 100 set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  max_bytes constant bigint := 16777216;
  v_kind text := (select l.kind from lane l where l.lane = p_lane);
  v_limit int := coalesce(key_limit(v_kind), 1000000);
  v_scan int;
  v_ids bigint[];
  v_txids xid8[];
  v_keys text[];
  v_sizes bigint[];
  v_seqs bigint[];      -- null: claimed, else the place among the parked
  v_parked int;
  v_gone int;
  v_claimed int;
  v_rows int;
  v_express bigint;
begin
  -- Behind a busy key in large steps.
  v_scan := case when exists (select from batch q where q.lane = p_lane and q.seq = p_seq and q.n = 0) then 1000 else least(greatest(p_want + p_want / 4, 64), 400) end;
  select array_agg(s.id), array_agg(s.txid), array_agg(s.key), array_agg(s.size) into v_ids, v_txids, v_keys, v_sizes
    from (
      select j.* from unnest(a, ai, b, bi) r(a, ai, b, bi), lateral (
        select j.id, j.txid, turn_key(j.options) as key,
          case when j.options ? 'crashes' then max_bytes else coalesce(pg_column_size(j.payload), pg_column_size(j.payload_bytes), 0) end as size
        from job j
        where j.lane = p_lane and (j.txid, j.id) > (r.a, r.ai) and (j.txid, j.id) < (r.b, r.bi)
        order by j.txid, j.id limit v_scan) j
      limit v_scan) s;
  if v_ids is null then return; end if;

  if is_paced(v_kind) then
    select t.ids, t.txids, t.keys, t.seqs into v_ids, v_txids, v_keys, v_seqs from take_paced_turns(v_kind, v_limit, v_ids, v_txids, v_keys, v_sizes, p_want) t;
  else
    select t.ids, t.txids, t.keys, t.seqs into v_ids, v_txids, v_keys, v_seqs from take_turns(v_kind, v_limit, v_ids, v_txids, v_keys, v_sizes, p_want) t;
  end if;
  v_parked := cardinality(v_seqs) - cardinality(array_positions(v_seqs, null));
  v_claimed := cardinality(v_ids) - v_parked;
  if v_parked > 0 then
    v_express := express_of(p_lane);
    with gone as (
      delete from job j using unnest(v_ids, v_txids, v_keys, v_seqs) u(id, txid, key, seq)
      where u.seq is not null and j.lane = p_lane and j.txid = u.txid and j.id = u.id
      returning j.*, u.key, u.seq)
    insert into parked (kind, key, seq, id, lane, queued_at, attempt, payload, payload_bytes, headers, options)
      select v_kind, g.key, g.seq, g.id, v_express, coalesce((g.options ->> 'enqueued_at')::timestamptz, g.queued_at), g.attempt,
        g.payload, g.payload_bytes, g.headers, g.options from gone g order by g.key, g.seq;
    get diagnostics v_gone = row_count;
  end if;
  -- The claim must be on disk before anybody counts on it.
  if current_setting('synchronous_commit') = 'off' then perform set_config('synchronous_commit', 'on', true); end if;
  insert into batch (lane, seq, worker, token, lo, hi, pos_txid, pos_id, claimed_at, closed_at, n, started_to, ids, keys)
    select p_lane, p_seq + 1, p_worker, p_token, p_lo, p_hi, v_txids[cardinality(v_txids)], v_ids[cardinality(v_ids)], clock_timestamp(),
      case when v_claimed = 0 then clock_timestamp() end, v_claimed, least(p_start, v_claimed),
      coalesce(array_agg(u.id), '{}'), coalesce(array_agg(u.key), '{}')
    from unnest(v_ids, v_keys, v_seqs) u(id, key, seq) where u.seq is null;
  -- What is left of the part of the window that was looked at, in the same order.
  v_ids := array(select u.id from unnest(v_ids, v_seqs) u(id, seq) where u.seq is null);
  return query
    select p_token, p_lane, s.rn::int - 1, s.id, s.attempt, s.payload, s.payload_bytes, s.headers, s.options from (
      select j.*, row_number() over () as rn from (
        select j.* from unnest(a, ai, b, bi) r(a, ai, b, bi), lateral (
          select j.id, j.attempt, j.payload, j.payload_bytes, j.headers, j.options from job j
          where j.lane = p_lane and (j.txid, j.id) > (r.a, r.ai) and (j.txid, j.id) < (r.b, r.bi)
          order by j.txid, j.id limit v_claimed) j
        limit v_claimed) j) s
    where s.id = v_ids[s.rn];
  get diagnostics v_rows = row_count;
  if v_rows < v_claimed or v_gone < v_parked then
    raise exception 'posthouse: a job of this claim is in a partition that is just being detached'
      using errcode = '40001', hint = 'Try again: drop_detached brings it back.';
  end if;
end $$;

-- Takes jobs that have ended off their keys and hands the keys on to whoever is parked. Arrays of one length; a null id
-- only hands on. Under the locks of the kinds' keys, which are newer than this statement's snapshot nowhere.
create or replace function hand_on_keys(p_kinds text[], p_keys text[], p_ids bigint[]) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_lanes bigint[];
  v_n bigint;
begin
  with e as materialized (
      select u.kind, u.key, coalesce(array_agg(u.id) filter (where u.id is not null), '{}') as ids
      from ended_rows(p_kinds, p_keys, p_ids) u group by 1, 2),
    l as materialized (
      select d.kind, coalesce(key_limit(d.kind), 1000000) as most, is_serialized(d.kind) as serialized, is_paced(d.kind) as paced from (select distinct e.kind from e) d),
    t as materialized (
      select e.kind, e.key, t.seq, t.parked_to, t.parked_last, cardinality(t.holders) as before,
        case when t.holders = e.ids then '{}' else array(select h from unnest(t.holders) h where h <> all(e.ids)) end as holders
      from e cross join lateral turn_of(e.kind, e.key) t),
    f as materialized (
      select f.kind, f.key, f.seq, f.parked_to, f.parked_last, f.before, f.holders,
        case when f.paced and f.room > 0 then least(f.room, coalesce(key_pace_room(f.kind, f.key, f.holders), f.room)) else f.room end as room from (
      -- Keys that are there only while the kind is serialized let everybody go when it is not.
      select t.*, l.paced, case when t.parked_last <= t.parked_to or coalesce(q.paused, false) then 0
        else least(greatest(case when not l.serialized and (t.key = '' or t.key like 'dedupe\_key:%') then 1000000 else l.most end - cardinality(t.holders), 0), 1000) end as room
      from t join l on l.kind = t.kind 
      -- Asked once whether any key is paused at all; so are others below.
      left join lateral (select q.paused from key_rule q where q.kind = t.kind and q.key = t.key and (select exists (select from key_rule)) limit 1) q on true) f),
    heads as materialized (
      select f.kind, f.key, p.seq, p.at from f cross join lateral (
        select p.seq, p.ctid as at from parked p where p.kind = f.kind and p.key = f.key and p.seq > f.parked_to order by p.seq limit f.room) p where f.room > 0),
    -- Never waits for somebody who is cancelling one; its key then waits for the leader.
    got as materialized (
      select p.ctid as at from parked p where p.ctid = any(array(select h.at from heads h)) for update skip locked),
    missed as materialized (
      select h.kind, h.key, min(h.seq) as seq from heads h left join got g on g.at = h.at where g.at is null group by 1, 2),
    gone as (
      delete from parked p where p.ctid = any(array(
        select h.at from heads h join got g on g.at = h.at left join missed m on m.kind = h.kind and m.key = h.key where coalesce(h.seq < m.seq, true))) returning p.*),
    notes as (
      insert into key_check (kind, key) select m.kind, m.key from missed m),
    back as (
      insert into job (id, lane, attempt, payload, payload_bytes, headers, options)
      select g.id, g.lane, g.attempt, g.payload, g.payload_bytes, g.headers,
        coalesce(g.options, '{}') || jsonb_build_object('enqueued_at', coalesce(g.options -> 'enqueued_at', to_jsonb(g.queued_at)))
      from gone g order by g.kind, g.key, g.seq),
    turns as (
      insert into key_turn (kind, key, seq, holders, parked_to, parked_last)
      select f.kind, f.key, f.seq + 1, f.holders || coalesce(g.ids, '{}'),
        case when f.room > coalesce(h.n, 0) and m.seq is null and f.parked_last > f.parked_to then f.parked_last else coalesce(g.seq, f.parked_to) end, f.parked_last
      from f
      left join (select g.kind, g.key, array_agg(g.id order by g.seq) as ids, max(g.seq) as seq from gone g group by 1, 2) g on g.kind = f.kind and g.key = f.key
      left join (select h.kind, h.key, count(*) as n from heads h group by 1, 2) h on h.kind = f.kind and h.key = f.key
      left join missed m on m.kind = f.kind and m.key = f.key
      where cardinality(f.holders) < f.before or g.ids is not null or (f.room > coalesce(h.n, 0) and m.seq is null and f.parked_last > f.parked_to))
  select count(*), array_agg(distinct g.lane) into v_n, v_lanes from gone g;
  if v_n > 0 then perform ring(u.lane) from unnest(v_lanes) u(lane); end if;
  return v_n;
end $$;

-- The share of finish(): members of these batches that have ended since the last call.
create or replace function free_keys(p_worker bigint, p_tokens bigint[], p_moved boolean) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_kinds text[];
  v_keys text[];
  v_ids bigint[];
begin
  -- A job that is to be tried again, or was given back, keeps its turn.
  select array_agg(l.kind), array_agg(i.key), array_agg(i.id) into v_kinds, v_keys, v_ids
    from batch b join lane l on l.lane = b.lane cross join unnest(b.ids, b.keys) with ordinality i(id, key, ord)
    where b.worker = p_worker and b.token = any(p_tokens) and b.keys is not null
      and (b.closed_at is not null or get_bit(b.acked, i.ord::int - 1) = 1) and (b.freed is null or get_bit(b.freed, i.ord::int - 1) = 0)
      and not (p_moved and (exists (select from deferred d where d.id = i.id) or exists (select from job j where j.id = i.id and j.txid = pg_current_xact_id())));
  update batch b set freed = case when b.closed_at is null then b.acked else repeat('1', b.n)::varbit end
    where b.worker = p_worker and b.token = any(p_tokens) and b.keys is not null and b.n > 0;
  if v_ids is null then return; end if;
  perform pg_advisory_xact_lock(key_space(), k.lock) from (select distinct key_lock(u.kind) as lock from unnest(v_kinds) u(kind) order by 1) k;
  perform hand_on_keys(v_kinds, v_keys, v_ids);
end $$;

-- For whoever ends jobs elsewhere than in finish(): the leader shall look at their keys. Takes no lock and waits for nobody.
create or replace function note_key(p_lane bigint, p_options jsonb) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  v_kind text := (select l.kind from lane l where l.lane = p_lane union all select s.kind from lane_seen s where s.lane = p_lane limit 1);
begin
  insert into key_check (kind, key) select v_kind, turn_key(p_options)
    where v_kind is not null and exists (select from turn_of(v_kind, turn_key(p_options)));
end $$;

-- A limit was changed: keys with jobs that wait may have room now.
create or replace function note_keys(p_kind text) returns void
language sql volatile security definer set search_path from current as $$
  insert into key_check (kind, key)
    select q.kind, q.key from (select distinct on (t.key) t.* from key_turn t where t.kind = p_kind order by t.key, t.seq desc) q
    where q.parked_last > q.parked_to
$$;

-- The leader's share, one round: keys that were noted. Of their holders those go that have ended, as the tables say.
create or replace function tend_keys(p_limit int default 1000) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  v_n bigint := 0;
  v_ended bigint[];
  c record;
begin
  if not exists (select from key_check) then return 0; end if;
  for c in select distinct q.kind, q.key from (select k.kind, k.key from key_check k limit p_limit) q order by 1, 2 loop
    continue when not pg_try_advisory_xact_lock(key_space(), key_lock(c.kind));
    delete from key_check k where k.ctid = any(array(select q.ctid from key_check q where q.kind = c.kind and q.key = c.key for update skip locked));
    -- The newest turn is read after the lock, the states of its jobs in one snapshot each.
    select array_agg(h.id) into v_ended from (
        select t.holders from turn_of(c.kind, c.key) t) t
      cross join unnest(t.holders) h(id) where key_state(h.id) not in ('waiting', 'running');
    v_n := v_n + hand_on_keys(array_fill(c.kind, array[greatest(cardinality(v_ended), 1)]), array_fill(c.key, array[greatest(cardinality(v_ended), 1)]),
      coalesce(v_ended, array[null::bigint]));
  end loop;
  return v_n;
end $$;
comment on function tend_keys(int) is 'Looks at keys of which a job ended elsewhere than with its worker, and at those that were resumed; hands them on. Returns how many jobs that made available. Part of duties().';

create or replace function pause_key(kind text, key text) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform check_name('kind', pause_key.kind);
  perform check_key(pause_key.key);
  insert into key_rule as r (kind, key, paused, paused_at) values (pause_key.kind, pause_key.key, true, clock_timestamp())
    on conflict on constraint key_rule_pkey do update set paused = true, paused_at = case when r.paused then r.paused_at else excluded.paused_at end;
end $$;
comment on function pause_key(text, text) is 'From the next claim of each worker on, jobs of this kind with this key are not claimed; those that workers hold run to their end. key: 1 to 512 bytes; one that nobody has used yet may be paused.';

create or replace function resume_key(kind text, key text) returns void
language plpgsql security definer set search_path from current as $$
declare
  v_held boolean;
begin
  perform check_name('kind', resume_key.kind);
  perform check_key(resume_key.key);
  delete from key_hold h where h.kind = resume_key.kind and h.key = resume_key.key;
  v_held := found;
  delete from key_rule r where r.kind = resume_key.kind and r.key = resume_key.key;
  if found or v_held then insert into key_check (kind, key) values (resume_key.kind, resume_key.key); end if;
end $$;
comment on function resume_key(text, text) is 'The reverse of pause_key, and the end of a hold by a handler''s RetryAfter. The leader hands the key on in its next round, within a second.';

-- The share of prune(): turns that newer ones have replaced, and keys that nobody has used for ten minutes. Some of the
-- keys that are busy are looked at, should a turn be held by a job that has ended unnoticed.
create or replace function prune_key_turns(p_limit int) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_now timestamptz := clock_timestamp();
  v_n bigint;
begin
  delete from key_turn t where t.ctid = any(array(select q.ctid from key_turn q
    where exists (select from key_turn n where hashtextextended(n.key, hashtext(n.kind)) = hashtextextended(q.key, hashtext(q.kind)) and n.seq > q.seq and n.kind is not distinct from q.kind and n.key is not distinct from q.key)
      or (q.holders = '{}' and q.parked_last <= q.parked_to and q.at < v_now - interval '10 minutes') limit p_limit));
  get diagnostics v_n = row_count;
  if v_n < p_limit and not exists (select from key_check) then
    insert into key_check (kind, key)
      select q.kind, q.key from (select distinct on (t.kind, t.key) t.* from key_turn t order by t.kind, t.key, t.seq desc) q
      where (q.holders <> '{}' or q.parked_last > q.parked_to) and q.at < v_now - interval '1 minute' order by random() limit 500;
  end if;
  return v_n;
end $$;
