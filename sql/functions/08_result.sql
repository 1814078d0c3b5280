-- Results: stored with the acks of their jobs, read by id. Progress of running jobs.

-- As move_rows has it.
create or replace function result_rows(p_results jsonb)
returns table (token bigint, pos int, id bigint, value text, bytes text, problem text)
language sql stable
begin atomic
  select m.* from jsonb_to_recordset(case when jsonb_typeof(p_results) = 'array' then p_results else '[]' end)
    m(token bigint, pos int, id bigint, value text, bytes text, problem text)
  union all
  select m.* from unnest((p_results ->> 'token')::bigint[], (p_results ->> 'pos')::int[], (p_results ->> 'id')::bigint[],
    (p_results ->> 'value')::text[], (p_results ->> 'bytes')::text[], (p_results ->> 'problem')::text[]) m(token, pos, id, value, bytes, problem);
end;

-- Called by finish before it sets the bits, so that the same fence holds: the batch is open, the member has not ended,
-- nobody has rescued it. A value that jsonb does not take must not keep its job from ending: it is dropped, with the
-- server's words.
create or replace function keep_results(p_worker bigint, p_tokens bigint[], p_results jsonb) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = on set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  r record;
begin
  if not exists (select from worker w where w.id = p_worker and w.ended_at is null) then return; end if;
  -- In the order in which everybody locks batches; a call that was sent again waits here for the first.
  perform from batch b where b.worker = p_worker and b.token = any(p_tokens) and b.closed_at is null order by b.token for update;
  begin
    -- As fenced_results has it, each batch read once. Without "on conflict", which would look in the index before each
    -- row: a job that has a result already is rare.
    with o as materialized (
        select b.token, b.ids, b.acked from unnest(p_tokens) t(token), lateral (
          select q.token, q.ids || '{}'::bigint[] as ids, q.acked from batch q
          where q.worker = p_worker and q.token = t.token and q.closed_at is null limit 1) b)
    insert into result (job, value, value_bytes, problem)
      select m.id, m.value::jsonb, decode(m.bytes, 'base64'), m.problem
      from result_rows(p_results) m join o on o.token = m.token
      where o.ids[m.pos + 1] = m.id and (o.acked is null or get_bit(o.acked, m.pos) = 0)
        and num_nonnulls(m.value, m.bytes) <= 1 and num_nonnulls(m.value, m.bytes, m.problem) >= 1
        and (not (select exists (select from done d where d.worker = p_worker and d.token = any(p_tokens) and d.rescued)) or not exists (select from done d where d.worker = p_worker and d.token = m.token and d.pos = m.pos and d.rescued));
    return;
  exception when data_exception or program_limit_exceeded or unique_violation then
    null;
  end;
  for r in select k.* from fenced_results(p_worker, p_tokens, p_results) k order by k.job loop
    begin
      insert into result (job, value, value_bytes, problem) values (r.job, r.value::jsonb, decode(r.bytes, 'base64'), r.problem)
        on conflict (job) do update set value = excluded.value, value_bytes = excluded.value_bytes, problem = excluded.problem, at = excluded.at;
    exception when data_exception or program_limit_exceeded then
      insert into result (job, problem) values (r.job, 'the server refused the result: ' || sqlerrm)
        on conflict (job) do update set value = null, value_bytes = null, problem = excluded.problem, at = excluded.at;
    end;
  end loop;
end $$;
comment on function keep_results(bigint, bigint[], jsonb) is
'Stores results of members that end with this acknowledgement: an array of {"token", "pos", "id"} with "value" (JSON as text) or "bytes" (base64), and "problem" when it is missing or not whole; or columns, as result_rows reads them.';

create or replace function fenced_results(p_worker bigint, p_tokens bigint[], p_results jsonb)
returns table (job bigint, value text, bytes text, problem text)
language sql volatile security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
  -- Large arrays are taken apart once and not for each of their members.
  with o as materialized (
      select b.token, b.ids from unnest(p_tokens) t(token), lateral (
        select q.token, q.ids || '{}'::bigint[] as ids from batch q
        where q.worker = p_worker and q.token = t.token and q.closed_at is null and q.n > 64 limit 1) b)
  select m.id, m.value, m.bytes, m.problem
  from result_rows(p_results) m
    join batch b on b.worker = p_worker and b.token = any(p_tokens) and b.token = m.token and b.closed_at is null
  where coalesce((select o.ids[m.pos + 1] from o where o.token = m.token), b.ids[m.pos + 1]) = m.id and (b.acked is null or get_bit(b.acked, m.pos) = 0)
    and num_nonnulls(m.value, m.bytes) <= 1 and num_nonnulls(m.value, m.bytes, m.problem) >= 1
    and exists (select from worker w where w.id = p_worker and w.ended_at is null)
    and not exists (select from done d where d.worker = p_worker and d.token = m.token and d.pos = m.pos and d.rescued)
$$;

create or replace function complete_with(p_worker bigint, p_token bigint, p_pos int, p_job bigint, p_value jsonb, p_bytes bytea, p_problem text) returns boolean
language plpgsql security definer set search_path from current as $$
begin
  if not complete(p_worker, p_token, p_pos, p_job) then return false; end if;
  insert into result (job, value, value_bytes, problem) values (p_job, p_value, p_bytes, p_problem)
    on conflict (job) do update set value = excluded.value, value_bytes = excluded.value_bytes, problem = excluded.problem, at = excluded.at;
  return true;
end $$;
comment on function complete_with(bigint, bigint, int, bigint, jsonb, bytea, text) is
'As complete, and stores the job''s result (JSON or bytes, or why there is none) in the same transaction.';

-- One snapshot for all of it, so that a job that moves from table to table is in exactly one.
create or replace function outcome(variadic ids bigint[])
returns table (id bigint, state text, result jsonb, result_bytes bytea, result_problem text, error text, progress real, progress_text text,
  progress_at timestamptz)
language sql stable security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
  select u.id,
    case when r.job is not null then 'succeeded'
      when d.state is not null then d.state
      when f.state is not null then f.state
      when j.id is null then case when in_limbo() then 'unknown' else 'not_found' end
      when not is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id) then 'available'
      when b.open then 'running' else 'succeeded' end,
    r.value, r.value_bytes, r.problem,
    coalesce(d.reason, (select e.message from attempt_error e where e.job = u.id order by e.attempt desc, e.at desc limit 1)),
    p.fraction, p.text, p.at
  from unnest(ids) with ordinality u(id, ord)
  left join result r on r.job = u.id
  left join dead d on d.id = u.id
  left join deferred f on f.id = u.id
  left join lateral (select q.id, q.lane, q.txid from job q where q.id = u.id limit 1) j on true
  left join lateral (select q.lo, q.hi, q.pos_txid, q.pos_id from batch q where q.lane = j.lane order by q.seq desc limit 1) c on true
  left join lateral (
    select q.worker, q.token, q.seq is not null and q.closed_at is null and (q.acked is null or get_bit(q.acked, array_position(q.ids, j.id) - 1) = 0)
      and not exists (select from done o where o.worker = q.worker and o.token = q.token and o.pos = array_position(q.ids, j.id) - 1) as open
    from batch_of(j.lane, j.txid, j.id) q) b on true
  left join progress p on p.job = u.id and b.open and p.worker = b.worker and p.token = b.token
  order by u.ord
$$;
comment on function outcome(bigint[]) is
'How jobs stand, by id: the states of the view jobs, not_found, or unknown for a moment in which a partition is dropped; the result of one that succeeded, or why it is missing or not whole; the last error; what a running one has reported of its progress (0 to 1). One row an id, in order.';

-- For show, so nothing waits for the disk; fenced as an acknowledgement is.
create or replace function report_progress(p_worker bigint, p_reports jsonb) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  insert into progress (job, worker, token, at, fraction, text)
    select m.id, p_worker, m.token, clock_timestamp(), m.fraction, m.text
    from jsonb_to_recordset(p_reports) m(token bigint, pos int, id bigint, fraction real, text text)
      join batch b on b.worker = p_worker and b.token = m.token and b.closed_at is null
    where b.ids[m.pos + 1] = m.id and (b.acked is null or get_bit(b.acked, m.pos) = 0)
      and exists (select from worker w where w.id = p_worker and w.ended_at is null)
    order by m.id
    on conflict (job) do update set worker = excluded.worker, token = excluded.token, at = excluded.at, fraction = excluded.fraction, text = excluded.text;
end $$;
comment on function report_progress(bigint, jsonb) is 'Progress of jobs that the worker holds: an array of {"token", "pos", "id", "fraction", "text"}.';
