-- Dedupe keys and tokens. A key row names the job that took the key last; whether that job still holds it is read from
-- where the job is. So no job pays for a release when it ends, and nothing that can happen to a job leaves a key behind.

create or replace function check_unique(p_key text, p_on_duplicate text, p_scope text, p_window interval) returns void
language plpgsql immutable security definer set search_path from current as $$
begin
  if p_on_duplicate is null or p_on_duplicate not in ('skip', 'error', 'replace', 'reschedule') then
    raise exception 'posthouse: on_duplicate is %', coalesce(quote_literal(p_on_duplicate), 'null')
      using errcode = '22023', hint = 'on_duplicate is skip (the default), error, replace or reschedule.';
  end if;
  if p_scope is null or p_scope not in ('unfinished', 'until_claimed') then
    raise exception 'posthouse: dedupe_scope is %', coalesce(quote_literal(p_scope), 'null')
      using errcode = '22023', hint = 'dedupe_scope is unfinished (the default) or until_claimed.';
  end if;
  if p_window <= interval '0' or p_window > interval '10 years' then
    raise exception 'posthouse: dedupe_window is %', p_window
      using errcode = '22023', hint = 'dedupe_window is more than 0 and at most 10 years; leave it out for none.';
  end if;
  if p_key is null and (p_on_duplicate <> 'skip' or p_scope <> 'unfinished' or p_window is not null) then
    raise exception 'posthouse: on_duplicate, dedupe_scope or dedupe_window is given without dedupe_key'
      using errcode = '22023', hint = 'Give dedupe_key as well, or leave them out.';
  end if;
  if octet_length(p_key) not between 1 and 512 then
    raise exception 'posthouse: dedupe_key has % bytes', octet_length(p_key)
      using errcode = '22023', hint = 'dedupe_key is a text of 1 to 512 bytes.';
  end if;
end $$;

-- What became of a job, for keys: waiting, running, done (succeeded), dead, or gone (deleted, or past its retention).
-- Stable, so that all of its statements share one snapshot: a job that moves from table to table is in one of them.
create or replace function key_state(p_job bigint) returns text
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  j record;
  b batch;
  v_name text;
begin
  select q.lane, q.txid into j from job q where q.id = p_job;
  if not found then
    if exists (select from deferred d where d.id = p_job) or exists (select from parked p where p.id = p_job) then return 'waiting'; end if;
    if exists (select from dead d where d.id = p_job) then return 'dead'; end if;
    if not in_limbo() then return 'gone'; end if;
    -- A partition that is being detached is not part of job any more, and may hold an unfinished job for a moment.
    begin
      for v_name in select format('%I', d) from detached() d
        union all select i.inhrelid::regclass::text from pg_inherits i where i.inhparent = 'job'::regclass and i.inhdetachpending
      loop
        execute format('select q.lane, q.txid from %s q where q.id = $1', v_name) into j using p_job;
        exit when j.lane is not null;
      end loop;
    exception when undefined_table then
      raise exception 'posthouse: a partition was dropped while job % was looked for', p_job using errcode = '40001', hint = 'Try again.';
    end;
    if j.lane is null then return 'gone'; end if;
  end if;
  if not coalesce((select is_claimed(j.txid, p_job, c.lo, c.hi, c.pos_txid, c.pos_id)
      from batch c where c.lane = j.lane order by c.seq desc limit 1), false) then
    return 'waiting';
  end if;
  b := batch_of(j.lane, j.txid, p_job);
  if b.token is null or b.closed_at is not null then return 'done'; end if;
  -- From here on as in held().
  if (b.acked is null or get_bit(b.acked, array_position(b.ids, p_job) - 1) = 0)
    and not exists (select from done d where d.worker = b.worker and d.token = b.token and d.pos = array_position(b.ids, p_job) - 1)
    and exists (select from worker w where w.id = b.worker and w.reaped_at is null)
    and b.token >= (select h.low_token from heartbeat h where h.worker = b.worker order by h.at desc limit 1) then
    return 'running';
  end if;
  return 'done';
end $$;
comment on function key_state(bigint) is 'What became of a job, as dedupe keys see it: waiting, running, done, dead or gone.';

create or replace function holds_key(u unique_key) returns boolean
language plpgsql stable security definer set search_path from current as $$
declare
  v_state text := key_state(u.job);
begin
  return v_state = 'waiting' or (v_state = 'running' and u.scope = 'unfinished')
    or (v_state <> 'dead' and coalesce(u.until > clock_timestamp(), false));
end $$;
comment on function holds_key(unique_key) is 'Whether the job that took a key last still holds it.';

-- Who enqueues a key waits for the transaction that is taking the same key. Bounded, unless the session has a bound of
-- its own: true when this call has set one, to be taken off again. An expression, which plpgsql evaluates without a query.
create or replace function bound_wait() returns boolean
language sql volatile
return case when current_setting('lock_timeout') <> '0' then false
  else set_config('lock_timeout', coalesce(nullif(current_setting('posthouse.lock_timeout', true), ''), '5s'), true) is not null end;

-- Takes the key for a new job: null. Else the job that holds it. A duplicate locks nothing and writes nothing.
create or replace function take_key(p_kind text, p_key text, p_job bigint, p_scope text, p_until timestamptz) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  u unique_key;
begin
  loop
    insert into unique_key values (p_kind, p_key, p_job, p_scope, p_until) on conflict do nothing;
    if found then return null; end if;
    select * into u from unique_key q where q.kind = p_kind and q.key = p_key;
    if found and holds_key(u) then return u.job; end if;
    -- Free, so far. Under the row's lock, in statements of their own, once more: somebody else may have been faster.
    select * into u from unique_key q where q.kind = p_kind and q.key = p_key for update;
    continue when not found;
    if holds_key(u) then return u.job; end if;
    update unique_key q set job = p_job, scope = p_scope, until = p_until where q.kind = p_kind and q.key = p_key;
    return null;
  end loop;
end $$;

-- The same, and what on_duplicate replace and reschedule do when the job that holds the key has not started: holder and
-- status; status null: that job stays as it is, since it has.
create or replace function take_key_or_amend(p_kind text, p_key text, p_job bigint, p_scope text, p_until timestamptz,
  p_on_duplicate text, p_payload jsonb, p_payload_bytes bytea, p_headers jsonb, p_due timestamptz, out holder bigint, out status text)
language plpgsql security definer set search_path from current as $$
declare
  v_started bigint;
begin
  for i in 1..100 loop
    holder := take_key(p_kind, p_key, p_job, p_scope, p_until);
    -- Found started twice, it holds the key all the same.
    if holder is null or p_on_duplicate not in ('replace', 'reschedule') or holder = v_started then return; end if;
    if amend_job(holder, p_on_duplicate, p_payload, p_payload_bytes, p_headers, p_due) then
      status := case p_on_duplicate when 'replace' then 'replaced' else 'rescheduled' end;
      return;
    end if;
    v_started := holder;
  end loop;
  raise exception 'posthouse: the dedupe_key % of kind % changes hands too fast', quote_literal(p_key), p_kind
    using errcode = '40001', hint = 'Try again.';
end $$;

-- Takes the token for a new job: status null. Else what the same call did before, or mismatch, and the job that has it.
create or replace function take_token(p_token uuid, p_job bigint, p_fingerprint bytea, out id bigint, out status text)
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  t enqueue_token;
begin
  loop
    insert into enqueue_token values (p_token, p_job, p_fingerprint) on conflict do nothing;
    if found then return; end if;
    select * into t from enqueue_token q where q.token = p_token;
    continue when not found;
    id := t.job;
    status := case when t.fingerprint = p_fingerprint then coalesce(t.status, 'replayed') else 'mismatch' end;
    return;
  end loop;
end $$;

create or replace function fingerprint(p_kind text, p_payload jsonb, p_payload_bytes bytea, p_queue text, p_priority int, p_headers jsonb, p_key text, p_turn_key text)
returns bytea language sql immutable parallel safe set search_path from current
return sha256(convert_to((jsonb_build_array(p_kind, p_queue, p_priority, p_headers, p_key, p_payload is null, p_payload,
  encode(sha256(p_payload_bytes), 'hex')) || case when p_turn_key is null then '[]' else jsonb_build_array(p_turn_key) end)::text, 'UTF8'));
comment on function fingerprint(text, jsonb, bytea, text, int, jsonb, text, text) is 'What must be the same when a token is sent again: kind, payload, queue, priority, headers, dedupe key and key.';

create or replace function key_options(p_key text, p_scope text) returns jsonb
language sql stable parallel safe
return case when key_options.p_key is null then null when key_options.p_scope = 'unfinished' then jsonb_build_object('dedupe_key', key_options.p_key)
  else jsonb_build_object('dedupe_key', key_options.p_key, 'dedupe_scope', key_options.p_scope) end;

-- One job with a key or a token. status: created, duplicate (of id), replaced, rescheduled (id), replayed (id is what the
-- token made), mismatch.
create or replace function enqueue_unique(p_kind text, p_payload jsonb, p_payload_bytes bytea, p_queue text, p_priority int,
  p_run_at timestamptz, p_delay interval, p_headers jsonb, p_max_attempts int,
  p_key text, p_on_duplicate text, p_scope text, p_window interval, p_token uuid, p_time jsonb default null, out id bigint, out status text)
language plpgsql security definer set search_path from current as $$
declare
  v_bound boolean;
  v_id bigint := nextval('job_id');
  v_until timestamptz;
  v_holder bigint;
  v_due timestamptz;
  v_lane bigint;
  v_sleeper boolean;
begin
  perform check_unique(p_key, p_on_duplicate, p_scope, p_window);
  if p_on_duplicate in ('replace', 'reschedule') then
    perform check_reschedule(p_on_duplicate, p_run_at, p_delay);
    v_due := check_enqueue(p_payload, p_payload_bytes, p_run_at, p_delay, p_headers, p_max_attempts);
  end if;
  if p_kind is null then perform meet_lane(null, p_queue, p_kind, p_priority); end if;
  v_bound := bound_wait();
  if p_token is not null then
    select t.id, t.status into id, status
      from take_token(p_token, v_id, fingerprint(p_kind, p_payload, p_payload_bytes, p_queue, p_priority, p_headers, p_key, p_time ->> 'key')) t;
  end if;
  if status is null and p_key is not null then
    v_until := clock_timestamp() + p_window;
    insert into unique_key values (p_kind, p_key, v_id, p_scope, v_until) on conflict do nothing;
    if not found then
      if p_on_duplicate in ('replace', 'reschedule') then
        select k.holder, k.status into v_holder, status
          from take_key_or_amend(p_kind, p_key, v_id, p_scope, v_until, p_on_duplicate, p_payload, p_payload_bytes, p_headers, v_due) k;
      else
        v_holder := take_key(p_kind, p_key, v_id, p_scope, v_until);
      end if;
    end if;
    if status is not null then
      if p_token is not null then
        update enqueue_token t set job = v_holder, status = enqueue_unique.status where t.token = p_token;
      end if;
      id := v_holder;
    elsif v_holder is not null then
      if p_on_duplicate = 'error' then
        raise exception 'posthouse: job % of kind % has the dedupe_key %', v_holder, p_kind, quote_literal(p_key)
          using errcode = '23505', hint = 'Enqueue it with on_duplicate => ''skip'' to get that job''s id instead.';
      end if;
      if p_token is not null then delete from enqueue_token t where t.token = p_token; end if;
      id := v_holder;
      status := 'duplicate';
    end if;
  end if;
  if v_bound then v_bound := set_config('lock_timeout', '0', true) is null; end if;
  if status is not null then return; end if;
  id := v_id;
  status := 'created';
  -- As in enqueue.
  if p_run_at is null and p_delay is null and p_headers is null and p_max_attempts is null and p_time is null
     and (p_payload is null or pg_column_size(p_payload) <= 1048576) and (p_payload_bytes is null or octet_length(p_payload_bytes) <= 1048576) then
    insert into job (id, lane, payload, payload_bytes, options)
      select v_id, l.lane, p_payload, p_payload_bytes, key_options(p_key, p_scope) from lane l
      where l.queue = p_queue and l.kind = p_kind and l.priority = p_priority and not l.express and not l.keyed and l.share is null
      returning has_sleeper(job.lane), job.lane into v_sleeper, v_lane;
    if v_sleeper then perform wake(v_lane::text); end if;
    if v_lane is not null then return; end if;
  end if;
  perform enqueue_one(p_kind, p_payload, p_payload_bytes, p_queue, p_priority, p_run_at, p_delay, p_headers, p_max_attempts,
    v_id, case when p_time is null then key_options(p_key, p_scope) else coalesce(key_options(p_key, p_scope), '{}') || p_time end);
end $$;

create or replace function id_or_mismatch(p_id bigint, p_status text, p_token uuid) returns bigint
language plpgsql immutable security definer set search_path from current as $$
begin
  if p_status = 'mismatch' then
    raise exception 'posthouse: token % has enqueued another job: %', p_token, p_id
      using errcode = '22023', hint = 'A token names one job for ever: the same kind, queue, priority, payload, headers, dedupe key and key. Make a new one for a new job.';
  end if;
  return p_id;
end $$;

create or replace function enqueue_outcome(kind text, payload jsonb default null, payload_bytes bytea default null, queue text default 'default',
  priority int default 0, run_at timestamptz default null, delay interval default null, headers jsonb default null, max_attempts int default null,
  dedupe_key text default null, on_duplicate text default 'skip', dedupe_scope text default 'unfinished', dedupe_window interval default null,
  token uuid default null, expires_at timestamptz default null, expires_in interval default null, timeout interval default null, key text default null,
  depends_on bigint[] default null, depends_on_all_ok boolean default true, out id bigint, out status text)
language plpgsql security definer set search_path from current as $$
begin
  if payload is not null and payload_bytes is not null then
    raise exception 'posthouse: both payload and payload_bytes are given' using errcode = '22023', hint = 'Give one of them.';
  end if;
  select u.id, u.status into enqueue_outcome.id, enqueue_outcome.status
    from enqueue_unique(kind, payload, payload_bytes, queue, priority, run_at, delay, headers, max_attempts,
      dedupe_key, on_duplicate, dedupe_scope, dedupe_window, token, job_options(time_options(expires_at, expires_in, timeout, run_at, delay), key, depends_on, depends_on_all_ok)) u;
end $$;
comment on function enqueue_outcome(text, jsonb, bytea, text, int, timestamptz, interval, jsonb, int, text, text, text, interval, uuid, timestamptz, interval, interval, text, bigint[], boolean) is
'As enqueue, and says what happened: created; duplicate: the job id has the dedupe_key, nothing was enqueued; replayed: this token has enqueued the job id before; mismatch: it has, with another kind, queue, priority, payload, headers, dedupe_key or key, and nothing was enqueued; replaced, rescheduled: the job id has the dedupe_key and had not started, so its payload or its time was changed (once it has started, it is a duplicate).';

-- What enqueue_many does with elements that have a key, a token, an expiry or a timeout, and says what happened, in order.
create or replace function enqueue_many_outcome(jobs jsonb) returns table (id bigint, status text)
language plpgsql security definer set search_path from current set jit = off as $$
declare
  v_now timestamptz := clock_timestamp();
  v_ids bigint[];
  v_status text[];
  v_bound boolean;
  v_holder bigint;
  v_first bigint;
  v_made bigint[];
  v_rest int[];
  v_kind text;
  v_key text;
  v_token uuid;
  v_did text;
  k record;
  p record;
begin
  perform check_many(jobs);
  select array_agg(nextval('job_id')), array_agg('created'::text) into v_ids, v_status from generate_series(1, jsonb_array_length(jobs));
  v_made := v_ids;
  v_bound := bound_wait();
  -- In the order of tokens, then of keys, so that two calls never wait for each other crosswise.
  for k in select i::int as i, e, (e ->> 'token')::uuid as token from jsonb_array_elements(jobs) with ordinality a(e, i)
    where e ->> 'token' is not null order by 3, 1
  loop
    if k.token = v_token then
      raise exception 'posthouse: enqueue_many: element %: token % is given twice', k.i - 1, k.token
        using errcode = '22023', hint = 'A token names one job; make one for each.';
    end if;
    v_token := k.token;
    select t.id, t.status into p from take_token(k.token, v_ids[k.i], fingerprint(k.e ->> 'kind', k.e -> 'payload',
      decode(k.e ->> 'payload_bytes', 'base64'), coalesce(k.e ->> 'queue', 'default'), coalesce((k.e ->> 'priority')::int, 0),
      nullif(k.e -> 'headers', 'null'), k.e ->> 'dedupe_key', k.e ->> 'key')) t;
    if p.status is not null then
      v_ids[k.i] := p.id;
      v_status[k.i] := p.status;
    end if;
  end loop;
  -- Keys that have no row are taken in one statement. What is left is asked for one by one.
  with n as materialized (
      select i::int as i, (e ->> 'kind') collate "C" as kind, (e ->> 'dedupe_key') collate "C" as key,
        coalesce(e ->> 'dedupe_scope', 'unfinished') as scope, v_now + (e ->> 'dedupe_window')::interval as until, a.job
      from rows from (jsonb_array_elements(jobs), unnest(v_ids), unnest(v_status)) with ordinality a(e, job, said, i)
      where e ->> 'dedupe_key' is not null and a.said = 'created'),
    taken as (
      insert into unique_key
      select f.kind, f.key, f.job, f.scope, f.until from (select distinct on (n.kind, n.key) n.* from n order by n.kind, n.key, n.i) f
      order by f.kind, f.key on conflict do nothing returning job)
  select array_agg(n.i order by n.kind, n.key, n.i) into v_rest from n where n.job not in (select t.job from taken t);
  for k in select u.i, e ->> 'kind' as kind, e ->> 'dedupe_key' as key, coalesce(e ->> 'on_duplicate', 'skip') as on_duplicate,
      coalesce(e ->> 'dedupe_scope', 'unfinished') as scope, v_now + (e ->> 'dedupe_window')::interval as until, (e ->> 'token')::uuid as token,
      e
    from unnest(v_rest) with ordinality u(i, n), lateral (select jobs -> (u.i - 1) as e) a order by u.n
  loop
    -- The first of this call that has the key wins, or is a duplicate itself. A row that this call has taken names a
    -- job that is not inserted yet.
    if (k.kind, k.key) is not distinct from (v_kind, v_key) then
      v_holder := v_first;
    else
      v_kind := k.kind;
      v_key := k.key;
      select q.job into v_first from unique_key q where q.kind = k.kind and q.key = k.key;
      v_holder := null;
      if v_first >= v_made[1] and v_first = any(v_made) then v_holder := v_first; end if;
    end if;
    -- The first of this call is what it is; a job that was there before takes what the last of them says.
    v_did := null;
    if v_holder is null or k.on_duplicate in ('replace', 'reschedule') and (v_holder < v_made[1] or v_holder <> all(v_made)) then
      select t.holder, t.status into v_holder, v_did
        from take_key_or_amend(k.kind, k.key, v_ids[k.i], k.scope, k.until, k.on_duplicate, k.e -> 'payload',
          decode(k.e ->> 'payload_bytes', 'base64'), nullif(k.e -> 'headers', 'null'),
          check_enqueue(null, null, (k.e ->> 'run_at')::timestamptz,
            coalesce((k.e ->> 'delay')::interval, (k.e ->> 'delay_ms')::bigint * interval '1 millisecond'), null, null)) t;
      v_first := coalesce(v_holder, v_ids[k.i]);
    end if;
    if v_did is not null then
      update enqueue_token t set job = v_holder, status = v_did where t.token = k.token;
      v_ids[k.i] := v_holder;
      v_status[k.i] := v_did;
    elsif v_holder is not null then
      if k.on_duplicate = 'error' then
        raise exception 'posthouse: enqueue_many: element %: job % of kind % has the dedupe_key %', k.i - 1, v_holder, k.kind, quote_literal(k.key)
          using errcode = '23505', hint = 'Enqueue it with on_duplicate skip to leave it out instead.';
      end if;
      if k.token is not null then delete from enqueue_token t where t.token = k.token; end if;
      v_ids[k.i] := v_holder;
      v_status[k.i] := 'duplicate';
    end if;
  end loop;
  if v_bound then v_bound := set_config('lock_timeout', '0', true) is null; end if;
  perform insert_many(jobs, v_ids, v_status);
  return query select * from unnest(v_ids, v_status);
end $$;
comment on function enqueue_many_outcome(jsonb) is 'As enqueue_many, and says of each element, in order, what happened: as enqueue_outcome.';

create or replace function lane_of_element(e jsonb) returns bigint
language sql immutable parallel safe
return case when e ->> 'key' is null then lane_of(coalesce(e ->> 'queue', 'default'), e ->> 'kind', coalesce((e ->> 'priority')::int, 0), false)
  else keyed_lane_of(coalesce(e ->> 'queue', 'default'), e ->> 'kind', coalesce((e ->> 'priority')::int, 0), false) end;

create or replace function insert_many(jobs jsonb, p_ids bigint[], p_status text[]) returns void
language plpgsql security definer set search_path from current set jit = off as $$
declare
  v_now timestamptz := clock_timestamp();
  v_late text := utc_text(v_now);
  v_lanes bigint[] := lanes_of_tenants(jobs);
begin
  with e as materialized (
      select i, id, e,
        coalesce(t, lane_of_element(e)) as lane,
        coalesce((e ->> 'run_at')::timestamptz, v_now + coalesce((e ->> 'delay')::interval, (e ->> 'delay_ms')::bigint * interval '1 millisecond')) as due_at
      from rows from (jsonb_array_elements(jobs), unnest(p_ids), unnest(p_status), unnest(v_lanes)) with ordinality a(e, id, status, t, i)
      where status = 'created' and not e ?| array['depends_on', 'depends_on_elements']),
    r as (
      select i, id, lane, due_at, e -> 'payload' as payload, decode(e ->> 'payload_bytes', 'base64') as payload_bytes,
        nullif(e -> 'headers', 'null') as headers,
        nullif(case when e ->> 'max_attempts' is not null then jsonb_build_object('max_attempts', (e ->> 'max_attempts')::int) else '{}' end
          || coalesce(key_options(e ->> 'dedupe_key', coalesce(e ->> 'dedupe_scope', 'unfinished')), '{}')
          || coalesce(case when e ?| array['expires_at', 'expires_in', 'timeout'] then time_options((e ->> 'expires_at')::timestamptz,
            (e ->> 'expires_in')::interval, (e ->> 'timeout')::interval, null, null) end, '{}')
          || case when e ->> 'key' is not null then jsonb_build_object('key', e ->> 'key') else '{}' end, '{}') as options
      from e),
    x as (
      insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
      select id, lane, 'expired', clock_timestamp(), statement_timestamp(), 0, end_reason('expired'), payload, payload_bytes, headers, options
      from r where is_expired(options, v_late) returning id),
    y as (
      insert into expiry (job, at) select id, (options ->> 'expires_at')::timestamptz from r
      where options ? 'expires_at' and not is_expired(options, v_late)),
    d as (
      insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
      select id, lane, 'scheduled', due_at, statement_timestamp(), 0, payload, payload_bytes, headers, options from r
      where due_at > v_now and not is_expired(options, v_late))
  insert into job (id, lane, payload, payload_bytes, headers, options)
    select id, lane, payload, payload_bytes, headers, options from r
    where (due_at is null or due_at <= v_now) and not is_expired(options, v_late) order by i;
  if jobs @? '$[*].depends_on' or jobs @? '$[*].depends_on_elements' then perform insert_dependent(jobs, p_ids, p_status); end if;
  perform ring(l.lane) from (select distinct coalesce(t, lane_of_element(e)) as lane
    from rows from (jsonb_array_elements(jobs), unnest(p_status), unnest(v_lanes)) a(e, status, t) where status = 'created') l;
end $$;

-- For an operator's retry of a dead job: takes its key back, or refuses. Writes in any case, so that a transaction with
-- an older snapshot fails instead of finding the key free.
create or replace function retake_key(p_job bigint, p_lane bigint, p_options jsonb) returns void
language plpgsql security definer set search_path from current as $$
declare
  u unique_key;
  v_kind text := (select l.kind from lane l where l.lane = p_lane union all select s.kind from lane_seen s where s.lane = p_lane limit 1);
  v_scope text := coalesce(p_options ->> 'dedupe_scope', 'unfinished');
  v_bound boolean := bound_wait();
begin
  insert into unique_key values (v_kind, p_options ->> 'dedupe_key', p_job, v_scope)
    on conflict (kind, key) do update set job = unique_key.job;
  select * into strict u from unique_key q where q.kind = v_kind and q.key = p_options ->> 'dedupe_key';
  if u.job <> p_job then
    if holds_key(u) then
      raise exception 'posthouse: job % cannot be retried: job % has its dedupe_key %', p_job, u.job, quote_literal(u.key)
        using errcode = '23505', hint = 'Wait for that job, or cancel it.';
    end if;
    update unique_key q set job = p_job, scope = v_scope, until = null where q.kind = u.kind and q.key = u.key;
  end if;
  if v_bound then v_bound := set_config('lock_timeout', '0', true) is null; end if;
end $$;

-- For a job that is deleted: a window does not outlive it.
create or replace function drop_key(p_job bigint, p_lane bigint, p_options jsonb) returns void
language sql security definer set search_path from current as $$
  delete from unique_key u
  where u.kind = (select l.kind from lane l where l.lane = p_lane union all select s.kind from lane_seen s where s.lane = p_lane limit 1)
    and u.key = p_options ->> 'dedupe_key' and u.job = p_job
$$;

-- The share of prune(): tokens past their retention, and keys that nobody holds any more. Walks over the keys, four times
-- p_limit at a call, and goes on where the last call ended (meta.unique_pruned). The comparison of xmin keeps a row that
-- was taken meanwhile; a locked one is about to be.
create or replace function prune_unique(p_limit int) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
  v_now timestamptz := clock_timestamp();
  v_limbo boolean := in_limbo();
  v_at jsonb := coalesce((select value::jsonb from meta where key = 'unique_pruned'), '["", ""]');
  v_end jsonb;
  v_seen bigint;
  v_n bigint;
  v_all bigint;
begin
  delete from enqueue_token t where t.token = any(array(select q.token from enqueue_token q
    where q.at < v_now - coalesce((select value::interval from meta where key = 'retention_tokens'), interval '1 day')
    order by q.at limit p_limit for update skip locked));
  get diagnostics v_all = row_count;
  with k as materialized (
      select q.*, q.xmin as version from unique_key q
      where (q.kind, q.key) > (v_at ->> 0, v_at ->> 1) order by q.kind, q.key limit p_limit * 4),
    o as materialized (select h.id from held() h),
    free as materialized (
      select k.kind, k.key, k.version from k
      left join lateral (select j.lane, j.txid from job j where j.id = k.job limit 1) j on true
      left join lateral (select b.lo, b.hi, b.pos_txid, b.pos_id from batch b where b.lane = j.lane order by b.seq desc limit 1) c on true
      where exists (select from dead d where d.id = k.job)
        or (coalesce(k.until <= v_now, true)
          and case when j.lane is null then not v_limbo and not exists (select from deferred d where d.id = k.job) and not exists (select from parked p where p.id = k.job)
            else is_claimed(j.txid, k.job, c.lo, c.hi, c.pos_txid, c.pos_id) and k.job not in (select o.id from o) end)),
    u as (
      select q.kind, q.key from free f join unique_key q on q.kind = f.kind and q.key = f.key and q.xmin = f.version
      for update of q skip locked),
    gone as (delete from unique_key q using u where q.kind = u.kind and q.key = u.key returning q.job)
  select (select count(*) from k), (select count(*) from gone), (select jsonb_build_array(k.kind, k.key) from k order by k.kind desc, k.key desc limit 1)
    into v_seen, v_n, v_end;
  if v_seen < p_limit * 4 then v_end := '["", ""]'; end if;
  if v_end <> v_at then
    insert into meta values ('unique_pruned', v_end::text) on conflict (key) do update set value = excluded.value;
  end if;
  return v_all + v_n;
end $$;

-- The keys of dead jobs that prune() deletes: their windows do not outlive them.
create or replace function prune_keys_of_dead(p_before timestamptz, p_limit int) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
begin
  with d as materialized (
      select q.id, q.lane, q.options ->> 'dedupe_key' as key from dead q where q.ended_at < p_before order by q.ended_at, q.id limit p_limit),
    u as (
      select q.kind, q.key from d join lane l on l.lane = d.lane join unique_key q on q.kind = l.kind and q.key = d.key and q.job = d.id
      where d.key is not null for update of q skip locked)
  delete from unique_key q using u where q.kind = u.kind and q.key = u.key;
end $$;
