-- The commonest small call: the next job of one lane is wanted. Whatever is not the plain case is left to
-- finish_and_claim, which does and answers the same.

-- Plain: nothing to report, no limit and nothing paused anywhere (see has_rules), no keys, no own transaction id (it
-- would have to be taken out of the snapshot, see snapshot_now), and the job lies in the first interval of its lane's
-- window that is not used up; or, when the window had no transaction open at its end, in the first interval of the next
-- one. The lock of the lane comes before the statement, whose snapshot is therefore newer than the cursor. The statement
-- runs for one job, and what it costs is its start: each table it names costs about as much as the job itself
-- (docs/decisions/0008).
create or replace function finish_and_claim_one(p_worker bigint, p_done bigint, p_token bigint, p_lane bigint, p_wake boolean default true)
returns table (token bigint, lane bigint, pos int, id bigint, attempt int, payload jsonb, payload_bytes bytea, headers jsonb, options jsonb)
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_sort = off
set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  if p_done is null and current_setting('transaction_isolation') = 'read committed' and pg_current_xact_id_if_assigned() is null
      and not has_rules() and lock_worker(p_worker) is not null and pg_try_advisory_xact_lock(key_space(), hashint8(p_lane) & -4)
      and set_config('synchronous_commit', 'off', true) is not null then
    return query
      with c as materialized (
          select b.seq, b.lo, b.hi, pg_snapshot_xmax(b.hi) as ends, pg_current_snapshot() as now, s.txid, s.id,
            -- A transaction that is open at the end of the window ends the interval; else it goes on into the next one.
            coalesce((select x from pg_snapshot_xip(n.hi) x where x >= s.txid order by x limit 1), pg_snapshot_xmax(n.hi)) as until
          from lane l, worker w, lateral (select q.seq, q.lo, q.hi, q.pos_txid, q.pos_id from batch q where q.lane = p_lane order by q.seq desc limit 1) b,
            lateral (select case when b.pos_txid < pg_snapshot_xmax(b.lo) then pg_snapshot_xmax(b.lo) else b.pos_txid end as txid,
              case when b.pos_txid < pg_snapshot_xmax(b.lo) then -1 else b.pos_id end as id) s,
            lateral (select case when pg_snapshot_xmin(b.hi) <> pg_snapshot_xmax(b.hi) then b.hi else pg_current_snapshot() end as hi) n
          where l.lane = p_lane and not l.keyed and w.id = p_worker and w.ended_at is null
            and l.kind = any(w.kinds) and (cardinality(w.queues) = 0 or l.queue = any(w.queues))
            and (b.pos_txid >= pg_snapshot_xmax(b.lo) or pg_snapshot_xmin(b.lo) = pg_snapshot_xmax(b.lo))),
        k as materialized (
          select c.seq, case when j.txid < c.ends then c.lo else c.hi end as lo, case when j.txid < c.ends then c.hi else c.now end as hi, j.*
          from c, lateral (
            select j.id, j.txid, j.attempt, j.payload, j.payload_bytes, j.headers, j.options from job j
            where j.lane = p_lane and (j.txid, j.id) > (c.txid, c.id) and (j.txid, j.id) < (c.until, -1)
            order by j.txid, j.id limit 1) j),
        i as (
          insert into batch (lane, seq, worker, token, lo, hi, pos_txid, pos_id, claimed_at, n, started_to, ids)
          select p_lane, k.seq + 1, p_worker, p_token, k.lo, k.hi, k.txid, k.id, clock_timestamp(), 1, 1, array[k.id] from k)
      select p_token, p_lane, 0, k.id, k.attempt, k.payload, k.payload_bytes, k.headers, k.options from k;
    if found then
      if p_wake then perform wake_one(p_worker); end if;  -- there is probably more
      return;
    end if;
  end if;
  return query select * from finish_and_claim(p_worker, array_remove(array[p_done], null), array[null::text], array[1], null,
    p_token, array[p_lane], 1, 1);
end $$;
comment on function finish_and_claim_one(bigint, bigint, bigint, bigint, boolean) is
'finish_and_claim for the succeeded batch p_done (null: none) and one job of one lane, which may start at once: the same answer, sooner. wake: whether an idle worker may be woken for what is left.';
