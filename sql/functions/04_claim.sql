-- Workers: register, look for work, claim, beat, leave.

create or replace function register_worker(name text, host text, pid bigint, version text, queues text[], kinds text[],
  lease_ms bigint, slots int, max_attempts int[] default null) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_id bigint;
begin
  if cardinality(kinds) = 0 or kinds is null then
    raise exception 'posthouse: register_worker: no kinds' using errcode = '22023', hint = 'Register at least one handler.';
  end if;
  if lease_ms is null or lease_ms not between 1000 and 600000 then
    raise exception 'posthouse: register_worker: lease_ms is %', lease_ms using errcode = '22023', hint = 'The lease is 1000 to 600000 ms.';
  end if;
  perform check_identity();
  insert into worker (name, host, pid, version, queues, kinds, lease, slots, max_attempts)
    values (register_worker.name, register_worker.host, register_worker.pid, register_worker.version, coalesce(register_worker.queues, '{}'),
      register_worker.kinds, register_worker.lease_ms * interval '1 millisecond', register_worker.slots,
      coalesce(register_worker.max_attempts, array_fill(25, array[cardinality(register_worker.kinds)])))
    returning worker.id into v_id;
  insert into heartbeat (worker, low_token, free, running) values (v_id, 0, register_worker.slots, 0);
  perform fold_lanes();
  return v_id;
end $$;

create or replace function identity_of(cluster bigint, database oid, name name) returns text
language sql stable
return format('%s/%s/%s', identity_of.cluster, identity_of.database, identity_of.name);

create or replace function identity_now() returns text
language sql stable security definer set search_path from current as $$
  select identity_of(c.system_identifier, d.oid, d.datname) from pg_control_system() c, pg_database d where d.datname = current_database()
$$;

create or replace function check_identity() returns void
language plpgsql security definer set search_path from current as $$
declare
  v_now text := identity_now();
  v_meta text;
begin
  insert into meta values ('identity', v_now) on conflict do nothing;
  -- Nobody ever worked here. Jobs of transactions that this cluster has not begun yet came in a dump all the same.
  if found and exists (select from (select a.lane from lane a union select s.lane from lane_seen s) l, lateral (
      select from job j where j.lane = l.lane and j.txid >= pg_snapshot_xmax(pg_current_snapshot()) limit 1) ahead) then
    raise exception 'posthouse: jobs in this schema were enqueued in another cluster; nothing is claimed'
      using errcode = '55000', hint = 'If they shall run here, run: posthouse adopt';
  end if;
  select value into v_meta from meta where key = 'identity';
  if v_meta is distinct from v_now then
    raise exception 'posthouse: this schema was moved here from another cluster or database (% then, % now); nothing is claimed', v_meta, v_now
      using errcode = '55000', hint = 'If the jobs in it shall run here, run: posthouse adopt';
  end if;
end $$;
comment on function check_identity() is 'Refuses a schema that came by dump and restore: its transaction ids mean nothing here. The first worker writes the identity.';

-- Resolved when it is created and without rights of its own, so that it becomes a part of the statement that calls it.
create or replace function served(p_worker bigint)
returns table (lane bigint, queue_priority int, priority int, express boolean)
language sql stable
begin atomic
  select l.lane, coalesce(q.priority, 0), l.priority, l.express
  from worker w
  join lane l on l.kind = any(w.kinds) and (cardinality(w.queues) = 0 or l.queue = any(w.queues))
  left join queue q on q.queue = l.queue
  left join kind k on k.kind = l.kind
  where w.id = p_worker and w.ended_at is null and q.paused is not true and k.paused is not true
    and not exists (select from limit_rule r where r.name = l.kind and r.scope = 'kind' and r.origin = 'held' and r.held_until > statement_timestamp());
end;

create or replace function lanes_of_worker(p_worker bigint)
returns table (lane bigint, queue_priority int, priority int, express boolean)
language sql stable security definer set search_path from current as $$ select * from served(p_worker) $$;

-- The worker's lanes that have work, best first and then served longest ago. Exact in what it says of each lane, one index probe a lane and partition:
-- rows above the cursor and above lo's xmax are unclaimed; of older ones only transactions that were open in lo or hi can be.
create or replace function look(p_worker bigint) returns bigint[]
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_sort = on
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_lanes bigint[];
begin
  perform fold_lanes();
  select array_agg(e.lane order by e.queue_priority desc, e.priority desc, e.express desc, c.claimed_at nulls first, e.lane) into v_lanes
  from served(p_worker) e
  left join lateral (select b.lo, b.hi, b.pos_txid, b.pos_id, b.claimed_at from batch b where b.lane = e.lane order by b.seq desc limit 1) c on true
  where exists (select from job j where j.lane = e.lane
      and (j.txid, j.id) > (case when c.lo is null then '0'::xid8 when c.pos_txid < pg_snapshot_xmax(c.lo) then pg_snapshot_xmax(c.lo) else c.pos_txid end,
        case when c.lo is null or c.pos_txid < pg_snapshot_xmax(c.lo) then -1 else c.pos_id end))
    or exists (select from pg_snapshot_xip(c.hi) x, job j where j.lane = e.lane and j.txid = x)
    or exists (select from pg_snapshot_xip(c.lo) x, job j where j.lane = e.lane and j.txid = x and pg_visible_in_snapshot(x, c.hi)
      and (j.txid, j.id) > (c.pos_txid, c.pos_id));
  return coalesce(v_lanes, '{}');
end $$;

-- Acks and claims in one round trip and one commit. See docs/internals/engine.md for parameters and rows. A call that
-- only claims needs no flushed commit (a lost claim is simply claimed again), so it turns synchronous_commit off for its
-- own transaction: call it in a transaction of its own, at READ COMMITTED.
create or replace function finish_and_claim(p_worker bigint, p_tokens bigint[], p_acked text[], p_started int[], p_moves jsonb,
  p_token bigint, p_lanes bigint[], p_n int, p_start int, p_results jsonb default null)
returns table (token bigint, lane bigint, pos int, id bigint, attempt int, payload jsonb, payload_bytes bytea, headers jsonb, options jsonb)
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  max_bytes constant int := 16777216;      -- stored payload bytes of one batch
  max_batches constant int := 16;
  mx constant bigint := 9223372036854775807;
  v_space int := key_space();
  v_lost bigint[];
  v_tell boolean := false;  -- somebody waits for a limit that what ends here may have filled
  v_lanes bigint[];
  v_express boolean[];
  v_locked bigint;
  v_pass int;
  v_i int;
  v_lane bigint;
  v_left int := p_n;
  v_want int;
  v_got int;
  v_batches int := 0;
  v_normal_first boolean := (p_token / 16) % 4 = 3;
  v_fresh boolean;
  v_twin boolean;
  v_rules boolean[];       -- of each lane: whether a limit may count it
  v_limited boolean;
  v_keyed boolean;
  v_room int;
  v_wait bigint;
  v_limit text;
  v_full text[] := '{}';   -- limits that are full, found by this call
  v_waits bigint[] := '{}';
  v_seq bigint;
  v_lo pg_snapshot;
  v_hi pg_snapshot;
  v_now pg_snapshot;
  v_pos_txid xid8;
  v_pos_id bigint;
  a xid8[];
  ai bigint[];
  b xid8[];
  bi bigint[];
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'posthouse: claim under isolation level %', current_setting('transaction_isolation')
      using errcode = '25001', hint = 'Claims read their lane''s cursor after its lock, which needs READ COMMITTED.';
  end if;
  if p_tokens is not null and cardinality(p_tokens) > 0 then
    v_lost := finish(p_worker, p_tokens, p_acked, p_started, p_moves, p_results, false);
    v_tell := limit_waits();
    if cardinality(v_lost) > 0 then
      return query select t, 0::bigint, -1, 0::bigint, 0, null::jsonb, null::bytea, null::jsonb, null::jsonb from unnest(v_lost) t;
    end if;
  else
    if lock_worker(p_worker) is null or set_config('synchronous_commit', 'off', true) is null then return; end if;
  end if;
  if p_n <= 0 then
    if v_tell then perform tell_limits(p_worker, p_tokens); end if;
    return;
  end if;

  v_lanes := p_lanes;
  if v_lanes is null or cardinality(v_lanes) = 0 then v_lanes := look(p_worker); end if;
  -- Higher queue priority, then job priority, then express before normal (three calls of four), then as the caller has
  -- them: a worker gives the lane first that was served longest ago.
  if cardinality(v_lanes) = 1 then
    v_express := array[false];  -- the cursor's statement will tell
    v_rules := array[false];
  else
    select array_agg(e.lane order by e.queue_priority desc, e.priority desc, e.express <> v_normal_first desc, e.ord),
        array_agg(e.express order by e.queue_priority desc, e.priority desc, e.express <> v_normal_first desc, e.ord),
        array_agg(e.rules order by e.queue_priority desc, e.priority desc, e.express <> v_normal_first desc, e.ord)
      into v_lanes, v_express, v_rules
      from (
        select l.lane, coalesce(q.priority, 0) as queue_priority, l.priority, l.express, u.ord,
          exists (select from limit_rule r where r.name = any(array['', l.kind, l.queue])) as rules
        from unnest(v_lanes) with ordinality u(lane, ord) join lane l on l.lane = u.lane left join queue q on q.queue = l.queue) e;
    if v_lanes is null then
      if v_tell then perform tell_limits(p_worker, p_tokens); end if;
      if buffer_waits() then perform tell_idle(p_worker); end if;
      return;
    end if;
  end if;

  -- Pass 1 takes the lanes whose lock is free, an express lane up to three quarters of what is wanted; pass 2 gives the
  -- express lanes what is left; pass 3 waits a second for one lane that somebody else held, when nothing was found at all.
  <<passes>>
  for v_pass in 1..3 loop
    for v_i in 1..cardinality(v_lanes) loop
      exit passes when v_left <= 0 or v_batches >= max_batches;
      v_lane := v_lanes[v_i];
      v_want := v_left;
      if v_pass = 1 then
        if v_express[v_i] and p_n >= 4 then v_want := least(v_left, p_n * 3 / 4); end if;
        if v_rules[v_i] then
          -- A lane whose limit is full is not even locked, so that nobody waits for whom it holds back. A kind may have
          -- hundreds of lanes.
          if cardinality(v_full) > 0 then
            v_limit := (select u.f from lane l, unnest(v_full) u(f)
              where l.lane = v_lane and u.f = any(array['kind ' || l.kind, 'queue ' || l.queue, 'all ']) limit 1);
            if v_limit is not null then
              v_wait := v_waits[array_position(v_full, v_limit)];
              return query select v_wait, v_lane, -2, 0::bigint, 0, null::jsonb, null::bytea, null::jsonb, null::jsonb where v_wait is not null;
              continue;
            end if;
          end if;
          select r.room, r.wait_ms, r.full_limit into v_room, v_wait, v_limit from limit_room(v_lane, v_want, false, false, v_full, v_waits) r;
          if v_room = 0 then
            return query select v_wait, v_lane, -2, 0::bigint, 0, null::jsonb, null::bytea, null::jsonb, null::jsonb where v_wait is not null;
            v_full := v_full || v_limit;
            v_waits := v_waits || v_wait;
            continue;
          end if;
        end if;
        if not pg_try_advisory_xact_lock(v_space, hashint8(v_lane) & -4) then
          v_locked := coalesce(v_locked, v_lane);
          continue;
        end if;
      elsif v_pass = 2 then
        continue when not v_express[v_i] or p_n < 4 or not pg_try_advisory_xact_lock(v_space, hashint8(v_lane) & -4);
      else
        exit passes when v_batches > 0 or v_locked is null;
        v_lane := v_locked;
        exit passes when not wait_for_lane(v_lane);
      end if;

      -- The cursor is the newest batch. It is read after the lock, in a statement of its own.
      select q.seq, q.lo, q.hi, q.pos_txid, q.pos_id, l.express, l.keyed, exists (select from limit_rule r where r.name = any(array['', l.kind, l.queue]))
        into v_seq, v_lo, v_hi, v_pos_txid, v_pos_id, v_twin, v_keyed, v_limited
        from worker w join lane l on l.lane = v_lane and l.kind = any(w.kinds) and (cardinality(w.queues) = 0 or l.queue = any(w.queues))
        left join queue u on u.queue = l.queue
        left join kind k on k.kind = l.kind
        left join lateral (select b.seq, b.lo, b.hi, b.pos_txid, b.pos_id from batch b where b.lane = v_lane order by b.seq desc limit 1) q on true
        where w.id = p_worker and w.ended_at is null and u.paused is not true and k.paused is not true;
      if not found then
        exit passes when v_pass = 3;
        continue;
      end if;
      if v_twin and v_pass = 1 then v_express[v_i] := true; end if;
      if v_limited and not v_keyed then
        v_keyed := is_serialized((select l.kind from lane l where l.lane = v_lane));
      end if;
      if v_keyed and not lock_keys(v_lane, v_pass = 3) then
        exit passes when v_pass = 3;
        v_locked := coalesce(v_locked, v_lane);
        continue;
      end if;
      if v_limited then
        if v_pass = 1 and v_rules[v_i] then
          v_room := 1;  -- seen above
        else
          select r.room, r.wait_ms, r.full_limit into v_room, v_wait, v_limit from limit_room(v_lane, v_want, false, false, v_full, v_waits) r;
        end if;
        if v_room > 0 then
          select r.room, r.wait_ms, r.full_limit into v_room, v_wait, v_limit from limit_room(v_lane, v_want, true, v_pass = 3, v_full, v_waits) r;
        end if;
        if v_room is null then
          -- Somebody claims under the same limit: as if the lane were taken.
          exit passes when v_pass = 3;
          v_locked := coalesce(v_locked, v_lane);
          continue;
        end if;
        if v_room = 0 then
          return query select v_wait, v_lane, -2, 0::bigint, 0, null::jsonb, null::bytea, null::jsonb, null::jsonb where v_wait is not null;
          v_full := v_full || v_limit;
          v_waits := v_waits || v_wait;
          exit passes when v_pass = 3;
          continue;
        end if;
        v_limited := v_room < v_want;  -- from here on: whether a limit is what ends the batch
        v_want := v_room;
      else
        v_room := null;
      end if;
      v_fresh := v_seq is null;
      if v_fresh then v_seq := 0; v_lo := '1:1:'; v_hi := snapshot_now(); v_pos_txid := '0'; v_pos_id := 0; end if;
      loop
        -- The window as an ordered list of open intervals (a, ai) < (txid, id) < (b, bi): a point for each transaction that was
        -- open in lo and is visible in hi, then the gaps between the members of xip(hi) in [xmax(lo), xmax(hi)).
        if pg_snapshot_xmin(v_lo) = pg_snapshot_xmax(v_lo) and pg_snapshot_xmin(v_hi) = pg_snapshot_xmax(v_hi) then
          -- Nothing was open in either: one interval.
          if v_pos_txid < pg_snapshot_xmax(v_lo) then
            a := array[pg_snapshot_xmax(v_lo)]; ai := array[-1];
          else
            a := array[v_pos_txid]; ai := array[v_pos_id];
          end if;
          b := array[pg_snapshot_xmax(v_hi)]; bi := array[-1];
        else
          with c(v, hole) as (
              select pg_snapshot_xmax(v_lo), false
              union all
              select x, true from pg_snapshot_xip(v_hi) x where x >= pg_snapshot_xmax(v_lo)),
            r as (
              select x as a, -1::bigint as ai, x as b, mx as bi from pg_snapshot_xip(v_lo) x where pg_visible_in_snapshot(x, v_hi)
              union all
              select v, case when hole then mx else -1 end, coalesce(lead(v) over (order by v, hole), pg_snapshot_xmax(v_hi)), -1 from c),
            q as (
              select case when (r.a, r.ai) < (v_pos_txid, v_pos_id) then v_pos_txid else r.a end as a,
                case when (r.a, r.ai) < (v_pos_txid, v_pos_id) then v_pos_id else r.ai end as ai, r.b, r.bi
              from r where (r.b, r.bi) > (v_pos_txid, v_pos_id))
          select array_agg(q.a order by q.a, q.ai), array_agg(q.ai order by q.a, q.ai), array_agg(q.b order by q.a, q.ai), array_agg(q.bi order by q.a, q.ai)
            into a, ai, b, bi from q where (q.a, q.ai) < (q.b, q.bi);
        end if;
        if v_keyed then
          return query select * from claim_keyed(p_worker, p_token + v_batches, v_lane, v_seq, v_lo, v_hi, a, ai, b, bi, v_want, p_start);
        elsif v_want = 1 then
          -- The same without the arithmetic of sizes.
          return query
            with k as materialized (
                select j.* from unnest(a, ai, b, bi) r(a, ai, b, bi), lateral (
                  select j.id, j.txid, j.attempt, j.payload, j.payload_bytes, j.headers, j.options from job j
                  where j.lane = v_lane and (j.txid, j.id) > (r.a, r.ai) and (j.txid, j.id) < (r.b, r.bi)
                  order by j.txid, j.id limit 1) j
                limit 1),
              i as (
                insert into batch (lane, seq, worker, token, lo, hi, pos_txid, pos_id, claimed_at, n, started_to, ids)
                select v_lane, v_seq + 1, p_worker, p_token + v_batches, v_lo, v_hi, k.txid, k.id, clock_timestamp(), 1, least(p_start, 1), array[k.id] from k)
            select p_token + v_batches, v_lane, 0, k.id, k.attempt, k.payload, k.payload_bytes, k.headers, k.options from k;
        else
          return query
            with w as (
                select j.*, row_number() over () as rn,
                  -- A job that was in a crash gets a batch of its own.
                  sum(case when j.options ? 'crashes' then max_bytes
                      else coalesce(pg_column_size(j.payload), pg_column_size(j.payload_bytes), 0) end) over (rows unbounded preceding) as size
                from (
                  select j.* from unnest(a, ai, b, bi) r(a, ai, b, bi), lateral (
                    select j.id, j.txid, j.attempt, j.payload, j.payload_bytes, j.headers, j.options from job j
                    where j.lane = v_lane and (j.txid, j.id) > (r.a, r.ai) and (j.txid, j.id) < (r.b, r.bi)
                    order by j.txid, j.id limit v_want) j
                  limit v_want) j),
              k as materialized (select * from w where w.size < max_bytes or w.rn = 1),
              i as (
                insert into batch (lane, seq, worker, token, lo, hi, pos_txid, pos_id, claimed_at, n, started_to, ids)
                select v_lane, v_seq + 1, p_worker, p_token + v_batches, v_lo, v_hi, (array_agg(k.txid))[count(*)], (array_agg(k.id))[count(*)],
                  clock_timestamp(), count(*), least(p_start, count(*)), array_agg(k.id)
                from k having count(*) > 0)
            select p_token + v_batches, v_lane, k.rn::int - 1, k.id, k.attempt, k.payload, k.payload_bytes, k.headers, k.options from k;
        end if;
        get diagnostics v_got = row_count;
        if v_got = 0 and v_keyed and exists (select from batch q where q.lane = v_lane and q.seq = v_seq + 1) then
          -- All that it met waits for its key; there may be more behind.
          v_batches := v_batches + 1;
          return query select 0::bigint, v_lane, -2, 0::bigint, 0, null::jsonb, null::bytea, null::jsonb, null::jsonb;
          exit;
        end if;
        exit when v_got > 0 or v_fresh;
        v_now := snapshot_now();
        v_fresh := true;
        v_lo := v_hi; v_hi := v_now; v_pos_txid := '0'; v_pos_id := 0;
      end loop;
      if v_got > 0 then
        v_left := v_left - v_got;
        v_batches := v_batches + 1;
        p_start := greatest(p_start - v_got, 0);
        if v_keyed and v_got between 256 and v_want - 1 then
          -- It ended at a busy key, which jobs of this batch may have made busy: once they have ended, nobody has to be parked.
          return query select 1::bigint, v_lane, -2, 0::bigint, 0, null::jsonb, null::bytea, null::jsonb, null::jsonb;
        end if;
        if v_room is not null then
          perform limit_claimed(v_lane, v_got);
          if v_limited and v_got = v_room then
            return query select v_wait, v_lane, -2, 0::bigint, 0, null::jsonb, null::bytea, null::jsonb, null::jsonb;
          end if;
        end if;
      end if;
      exit passes when v_pass = 3;
    end loop;
  end loop;
  if v_tell then perform tell_limits(p_worker, p_tokens); end if;
  -- Full, and there is probably more: wake one idle worker, now and then.
  if v_left <= 0 and (p_token / 16) % 4 = 0 then perform wake_one(p_worker); end if;
  if v_left = p_n and cardinality(v_full) = 0 and buffer_waits() then perform tell_idle(p_worker); end if;
end $$;
comment on function finish_and_claim(bigint, bigint[], text[], int[], jsonb, bigint, bigint[], int, int, jsonb) is
'Acks as finish does, then claims up to p_n jobs of the given lanes (null or empty: of those that look finds) in at most 16 batches with tokens from p_token. A row with pos -1 names a token whose lease is lost; one with pos -2 a lane that a limit holds back, or whose large batch has ended at a busy key; its token: the milliseconds until a rate lets the next job start or until it is worth another claim, or -1.';

-- The keys of a kind, until the transaction ends. False: somebody else claims or ends jobs of it.
create or replace function lock_keys(p_lane bigint, p_wait boolean) returns boolean
language plpgsql security definer set search_path from current set lock_timeout = '200ms' as $$
declare
  v_kind text := (select l.kind from lane l where l.lane = p_lane);
begin
  if pg_try_advisory_xact_lock(key_space(), key_lock(v_kind)) then return true; end if;
  if not p_wait then return false; end if;
  perform pg_advisory_xact_lock(key_space(), key_lock(v_kind));
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end $$;

-- Bounded, since the lock may be held by a user's open transaction (cancel) while the acks of this call wait to commit.
create or replace function wait_for_lane(p_lane bigint) returns boolean
language plpgsql security definer set search_path from current set lock_timeout = '1s' as $$
begin
  perform pg_advisory_xact_lock(key_space(), hashint8(p_lane) & -4);
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end $$;

create or replace function claim(p_worker bigint, p_token bigint, p_lanes bigint[], p_n int, p_start int)
returns table (token bigint, lane bigint, pos int, id bigint, attempt int, payload jsonb, payload_bytes bytea, headers jsonb, options jsonb)
language sql security definer set search_path from current as $$
  select * from finish_and_claim(p_worker, null, null, null, null, p_token, p_lanes, p_n, p_start)
$$;

create or replace function wake_one(p_worker bigint) returns void
language plpgsql security definer set search_path from current as $$
declare
  v_id bigint;
begin
  select o.id into v_id
    from worker o cross join lateral (select h.free, h.at from heartbeat h where h.worker = o.id order by h.at desc limit 1) h
    where o.reaped_at is null and o.ended_at is null and o.id <> p_worker and h.free > 0 and h.at > clock_timestamp() - o.lease
      and o.kinds && (select w.kinds from worker w where w.id = p_worker)
    order by random() limit 1;
  if v_id is not null then perform wake('w' || v_id); end if;
end $$;

-- Idle workers cost the server little but their heartbeats, and each statement of it as much as it names tables.
create or replace function beat(p_worker bigint, p_low_token bigint, p_free int, p_running int,
  p_rss_bytes bigint default null, p_cpu_ms bigint default null, p_children int default null) returns jsonb
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_vacant boolean;
  v_cancel boolean;
  v_open bigint[];
begin
  -- The identity as identity_now() has it, which would be planned anew in each call.
  select not exists (select from (select l.worker, l.at from leader l order by l.id desc limit 1) l, worker o
      where o.id = l.worker and o.ended_at is null and l.at > clock_timestamp() - interval '10 s'),
    exists (select from cancel_request r where r.worker = p_worker),
    array(select b.token from batch b where b.worker = p_worker and b.token >= p_low_token and b.closed_at is null order by b.token)
    into v_vacant, v_cancel, v_open
    from worker w, meta m, pg_control_system() c, pg_database d
    where w.id = p_worker and w.ended_at is null and m.key = 'identity' and d.datname = current_database()
      and m.value = identity_of(c.system_identifier, d.oid, d.datname);
  if not found then
    return jsonb_build_object('alive', false, 'leader_vacant', false, 'open', '[]'::jsonb);
  end if;
  perform set_config('synchronous_commit', 'off', true);
  insert into heartbeat (worker, low_token, free, running, rss_bytes, cpu_ms, children)
    values (p_worker, p_low_token, p_free, p_running, p_rss_bytes, p_cpu_ms, p_children);
  return jsonb_build_object('alive', true, 'leader_vacant', v_vacant, 'open', to_jsonb(v_open),
    'cancel', case when v_cancel then to_jsonb(cancels_of(p_worker)) else '[]' end);
end $$;

create or replace function leave(p_worker bigint) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform pg_advisory_xact_lock(key_space(), (hashint8(p_worker) & -4) | 1);
  update worker w set ended_at = clock_timestamp(), end_reason = 'stopped' where w.id = p_worker and w.ended_at is null;
  if found then
    perform settle(p_worker);
  end if;
end $$;
comment on function leave(bigint) is 'The orderly end of an incarnation: whatever it still holds goes back uncounted.';

-- Bells: session locks of the keeper's LISTEN connection.
create or replace function bell(lanes bigint[]) returns bigint[]
language sql security definer set search_path from current as $$
  select coalesce(array_agg(l), '{}') from unnest(bell.lanes) l where pg_try_advisory_lock(key_space(), (hashint8(l) & -4) | 2)
$$;
create or replace function unbell(lanes bigint[]) returns void
language sql security definer set search_path from current as $$
  select pg_advisory_unlock(key_space(), (hashint8(l) & -4) | 2) from unnest(unbell.lanes) l
$$;
create or replace function keep(profile text) returns boolean
language sql security definer set search_path from current as $$
  select pg_try_advisory_lock(key_space(), (hashtext('keeper ' || profile) & -4) | 3)
$$;
create or replace function peers(p_worker bigint) returns int
language sql stable security definer set search_path from current as $$
  select count(*)::int from worker w join worker o on o.kinds = w.kinds and o.queues = w.queues
  where w.id = p_worker and o.reaped_at is null and o.ended_at is null
$$;
comment on function peers(bigint) is 'How many live workers serve just these queues and kinds, itself included. They share what each would have to do now and then.';
create or replace function fence() returns xid8
language sql volatile security definer set search_path from current as $$ select pg_current_xact_id() $$;
create or replace function fence_passed(fence xid8) returns boolean
language sql volatile security definer set search_path from current as $$
  select pg_snapshot_xmin(pg_current_snapshot()) > fence
$$;
