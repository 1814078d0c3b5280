-- Elected work: leadership, promotion of due jobs, rescue from dead workers. Nothing here relies on there being one
-- leader only: each step is guarded by its own lock or predicate.

create or replace function lead(p_worker bigint) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  l leader;
begin
  if not pg_try_advisory_xact_lock(key_space(), (hashtext('leader') & -4) | 3) then return 0; end if;
  if not exists (select from worker w, meta m where w.id = p_worker and w.ended_at is null and m.key = 'identity' and m.value = identity_now()) then
    return 0;
  end if;
  select * into l from leader q order by q.id desc limit 1;
  -- A renewal that lies ahead was made before the clock was set back: whoever stands for election leads.
  if found and l.at between clock_timestamp() - interval '10 s' and clock_timestamp() + interval '10 s' then
    if l.worker = p_worker then return l.term; end if;
    if exists (select from worker w where w.id = l.worker and w.ended_at is null) then return 0; end if;
  end if;
  insert into leader (term, worker, promoted_to) values (coalesce(l.term, 0) + 1, p_worker, '-infinity') returning leader.term into l.term;
  return l.term;
end $$;
comment on function lead(bigint) is 'The worker''s term when it leads (from now on or already), else 0. A term ends 10 s after its last renewal.';

-- One round of the leader. Null: this worker does not lead.
create or replace function duties(p_worker bigint) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
  l leader;
  v_from timestamptz;
  v_now timestamptz := clock_timestamp();
  v_promoted bigint;
  v_rescued bigint;
  v_fired bigint := 0;
  v_next timestamptz;
  v_fire timestamptz;
  v_released bigint;
begin
  select * into l from leader q order by q.id desc limit 1;
  if not found or l.worker <> p_worker or l.at < v_now - interval '10 s' then return null; end if;
  -- Deleted rows stay in the index while some snapshot is old, so the scan starts where the last renewal left off; every
  -- tenth renewal starts from the beginning, for rows that were committed late. A clock that was set back has promoted_to ahead.
  v_from := case when l.id % 10 = 0 then '-infinity' else least(l.promoted_to, v_now - interval '10 s') end;
  v_promoted := promote(v_from, 5000);
  v_rescued := reap(l.since);
  perform end_late();
  v_released := tend_children();
  v_fire := next_fire(v_from);
  if v_fire <= v_now then
    v_fired := fire_schedules(clock_timestamp(), v_from);
    -- What is due still is being edited at this moment, or waits for trouble to pass: until the next ordinary round.
    v_fire := next_fire(case when v_fired >= 5000 then v_from else v_now end);
  end if;
  if l.at not between v_now - interval '3 s' and v_now then
    insert into leader (term, worker, since, promoted_to)
      values (l.term, p_worker, l.since, case when v_promoted >= 5000 then v_from else v_now - interval '10 s' end);
  end if;
  select d.due_at into v_next from deferred d where d.due_at >= v_from and d.due_at < 'infinity' order by d.due_at limit 1;
  v_next := least(v_next, v_fire, case when v_released >= 5000 then v_now end);
  perform note_due_keys(v_from);
  perform tend_keys();  -- last, since its locks stay
  v_next := least(v_next, next_key_look(v_from));
  return jsonb_build_object('promoted', v_promoted, 'rescued', v_rescued, 'fired', v_fired,
    'next_due_ms', case when v_next is null then -1 else greatest(0, ceil(extract(epoch from v_next - clock_timestamp()) * 1000)::bigint) end);
end $$;

create or replace function promote(p_from timestamptz default '-infinity', p_limit int default 5000) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off as $$
declare
  v_lanes bigint[];
  v_twins bigint[];
  v_moved bigint;
  v_id bigint[];
  v_due timestamptz := clock_timestamp();  -- a variable, which an index can use
  v_now text;
begin
  select array_agg(d.id), array_agg(distinct d.lane order by d.lane) into v_id, v_lanes from (
    select q.id, q.lane from deferred q where q.due_at >= p_from and q.due_at <= v_due
    order by q.due_at, q.id limit p_limit for update skip locked) d;
  if v_id is null then return 0; end if;
  select array_agg(express_of(u.lane) order by u.i) into v_twins from unnest(v_lanes) with ordinality u(lane, i);
  v_now := utc_text(clock_timestamp());
  with gone as (
      delete from deferred d using unnest(v_id) u(id) where d.id = u.id
      returning d.*, case when is_expired(d.options, v_now) then 'expired'
        when exists (select from cancel_request r where r.job = d.id) then 'cancelled' end as ends),
    dies as (
      insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
      select g.id, g.lane, g.ends, clock_timestamp(), g.queued_at, g.attempt, end_reason(g.ends), g.payload, g.payload_bytes, g.headers, g.options
      from gone g where g.ends is not null),
    back as (
      insert into job (id, lane, attempt, payload, payload_bytes, headers, options)
      select g.id, t.twin, g.attempt, g.payload, g.payload_bytes, g.headers,
        coalesce(g.options, '{}') || jsonb_build_object('enqueued_at', g.queued_at)
      from gone g join unnest(v_lanes, v_twins) t(lane, twin) on t.lane = g.lane
      where g.ends is null order by g.due_at, g.id)
  select count(*) into v_moved from gone;
  perform ring(r.lane) from (select distinct t.lane from unnest(v_twins) t(lane)) r;
  return v_moved;
end $$;
comment on function promote(timestamptz, int) is 'Moves due jobs into the express twins of their lanes; returns how many.';

-- Workers whose lease has lapsed. Time counts from the last sign of life, but not before the server's start: after an
-- outage nobody has been able to beat. A leader that is new, or back from a pause of its own, first lets everybody beat.
create or replace function reap(p_leader_since timestamptz default '-infinity') returns bigint
language plpgsql security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
  w record;
  v_rescued bigint := 0;
  v_space int := key_space();
begin
  for w in
    select q.id, q.ended_at from worker q
    left join lateral (select h.at from heartbeat h where h.worker = q.id order by h.at desc limit 1) h on true
    where q.reaped_at is null
      and (q.ended_at is not null or greatest(coalesce(h.at, q.started_at), pg_postmaster_start_time()) < clock_timestamp() - q.lease)
      and p_leader_since < clock_timestamp() - least(q.lease, interval '6 s')
    order by q.id
  loop
    -- Somebody claims or acks for it at this moment: look again at the next round.
    continue when not pg_try_advisory_xact_lock(v_space, (hashint8(w.id) & -4) | 1);
    update worker q set ended_at = clock_timestamp(), end_reason = 'lease lapsed' where q.id = w.id and q.ended_at is null
      and coalesce((select h.at from heartbeat h where h.worker = w.id order by h.at desc limit 1), '-infinity') < clock_timestamp() - q.lease;
    if not found and w.ended_at is null then continue; end if;
    v_rescued := v_rescued + settle(w.id);
    -- It may have been the keeper.
    if w.ended_at is null then perform wake('keep'); end if;
  end loop;
  return v_rescued;
end $$;

-- A database that was restored from a dump: unfinished jobs go to deferred, due now; finished rows get an id that every
-- snapshot counts as seen; each lane starts with a fresh window.
create or replace function adopt() returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_moved bigint;
  v_now bigint := pg_current_xact_id()::text::bigint;
  -- The transaction of the restore; null when nothing was restored.
  v_restored bigint := (select v_now - age(m.xmin) from meta m where m.key = 'identity' and m.value <> identity_now());
begin
  perform need_read_committed('adopt');
  lock table job, batch, worker in share row exclusive mode;
  perform fold_lanes();
  with unfinished as materialized (
    select j.id from job j
    left join lateral (select b.* from batch b where b.lane = j.lane order by b.seq desc limit 1) c on true
    -- A job that was enqueued here since the restore: its transaction is one of this cluster's, no later than the one that
    -- wrote the row, which may be a subtransaction. Nothing of it has been claimed, whatever the other cluster's windows say.
    where not is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id)
      or j.txid::text::bigint between v_restored and v_now - age(j.xmin)
    union
    select i.id from batch b cross join unnest(b.ids) with ordinality i(id, ord)
    where b.closed_at is null and (b.acked is null or get_bit(b.acked, i.ord::int - 1) = 0)
      and not exists (select from done d where d.worker = b.worker and d.token = b.token and d.pos = i.ord - 1)),
    gone as (delete from job j using unfinished u where j.id = u.id returning j.*)
  insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
    select g.id, g.lane, 'scheduled', clock_timestamp(), coalesce((g.options ->> 'enqueued_at')::timestamptz, g.queued_at), g.attempt,
      g.payload, g.payload_bytes, g.headers, g.options from gone g;
  get diagnostics v_moved = row_count;
  update job set txid = '3';
  update batch b set closed_at = clock_timestamp(), moved = b.moved + (
      select count(*)::int from unnest(b.ids) with ordinality i(id, ord) where (b.acked is null or get_bit(b.acked, i.ord::int - 1) = 0)
        and not exists (select from done d where d.worker = b.worker and d.token = b.token and d.pos = i.ord - 1))
    where b.closed_at is null;
  insert into batch (lane, seq, worker, token, lo, hi, pos_txid, pos_id, claimed_at, closed_at, n, started_to, ids)
    select l.lane, coalesce((select max(b.seq) from batch b where b.lane = l.lane), 0) + 1, 0,
      coalesce((select max(b.token) from batch b where b.worker = 0), 0) + row_number() over (),
      snapshot_now(), snapshot_now(), '0', 0, clock_timestamp(), clock_timestamp(), 0, 0, '{}'
    from lane l;
  insert into key_check (kind, key) select distinct t.kind, t.key from key_turn t;
  update dependency_check set fence = null;
  update worker set ended_at = coalesce(ended_at, clock_timestamp()), reaped_at = coalesce(reaped_at, clock_timestamp()),
    end_reason = coalesce(end_reason, 'adopted') where reaped_at is null;
  insert into meta values ('identity', identity_now()) on conflict (key) do update set value = excluded.value;
  return v_moved;
end $$;
comment on function adopt() is 'Accepts this schema in this cluster and database; returns how many unfinished jobs will run again.';
