-- Producers: one job, many jobs, and the steps around COPY.

-- First use of a lane: checks the names, appends to lane_seen, wakes whoever listens. Never waits for another producer.
create or replace function meet_lane(p_lane bigint, p_queue text, p_kind text, p_priority int, p_keyed boolean default false,
  p_share text default null) returns void
language plpgsql security definer set search_path from current as $$
declare
  l record;
begin
  if p_kind is null or p_kind !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$' then
    raise exception 'posthouse: kind % is not a name', coalesce(quote_literal(p_kind), 'null')
      using errcode = '22023', hint = 'A kind has 1 to 100 characters: letters, digits and _ . : / - with a letter or digit first.';
  end if;
  if p_queue is null or p_queue !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$' then
    raise exception 'posthouse: queue % is not a name', coalesce(quote_literal(p_queue), 'null')
      using errcode = '22023', hint = 'A queue has 1 to 100 characters: letters, digits and _ . : / - with a letter or digit first.';
  end if;
  if p_priority is null then
    raise exception 'posthouse: priority is null' using errcode = '22004', hint = 'Leave the argument out for priority 0.';
  end if;
  select q.queue, q.kind, q.priority into l from lane q where q.lane = p_lane;
  if found and (l.queue, l.kind, l.priority) is distinct from (p_queue, p_kind, p_priority) then
    raise exception 'posthouse: lane of kind % in queue % has the same hash as kind % in queue %', p_kind, p_queue, l.kind, l.queue
      using errcode = '22023', hint = 'Choose another name for the kind.';
  end if;
  if exists (select from lane_seen s where s.lane = p_lane) then return; end if;
  -- Those that no worker has folded yet count as well; two transactions that do not see each other may go past the bound.
  if (select count(*) from (
      select q.priority from lane q where q.queue = p_queue and q.kind = p_kind and not q.express and q.keyed = p_keyed
      union select s.priority from lane_seen s where s.queue = p_queue and s.kind = p_kind and not s.express and s.keyed = p_keyed) u
      where u.priority <> p_priority) >= 256 then
    raise exception 'posthouse: kind % in queue % has 256 priorities already', p_kind, p_queue
      using errcode = '54000', hint = 'Use fewer different priorities; a key or a run time orders jobs more finely.';
  end if;
  if (select count(*) from lane) + (select count(*) from lane_seen) >= 200000 then
    raise exception 'posthouse: 100000 combinations of queue, kind and priority exist already; kind % is one too many', p_kind
      using errcode = '54000', hint = 'Put what differs from job to job into the payload, not into the kind or queue.';
  end if;
  insert into lane_seen (lane, queue, kind, priority, keyed, share) values (p_lane, p_queue, p_kind, p_priority, p_keyed, p_share);
  perform wake('new');
end $$;

-- A NOTIFY that can never make a producer's commit fail: none when the queue of notifications fills up, and none under
-- `set posthouse.wake = off`, which a transaction that will be PREPAREd needs.
create or replace function may_notify() returns boolean
language sql volatile
return current_setting('posthouse.wake', true) is distinct from 'off' and pg_notification_queue_usage() <= 0.25;

create or replace function wake(p_message text) returns void
language plpgsql security definer set search_path from current as $$
begin
  if may_notify() then perform pg_notify(channel(), p_message); end if;
end $$;

-- Notifies when somebody sleeps on this lane. Call it after the rows are inserted: the transaction then has its id, on
-- which the keeper's fence rests.
create or replace function ring(p_lane bigint) returns void
language plpgsql security definer set search_path from current as $$
begin
  if has_sleeper(p_lane) then perform wake(p_lane::text); end if;
end $$;

create or replace function open_lane(kind text, queue text default 'default', priority int default 0) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_lane bigint := lane_of(open_lane.queue, open_lane.kind, open_lane.priority, false);
begin
  if not exists (select from lane l where l.lane = v_lane and l.queue = open_lane.queue and l.kind = open_lane.kind) then
    perform meet_lane(v_lane, open_lane.queue, open_lane.kind, open_lane.priority);
  end if;
  return v_lane;
end $$;
comment on function open_lane(text, text, int) is 'The lane''s id for a COPY into job(id, lane, payload, payload_bytes, headers, options); call ring(lane) after the rows, in the same transaction.';

-- The same for jobs with these headers (or null), and the kind's fair_by: when it is null, or names no header, the headers
-- do not matter.
create or replace function open_lane_for(kind text, queue text, priority int, headers jsonb, out lane bigint, out fair_by text)
language plpgsql security definer set search_path from current as $$
declare
  v_share text;
begin
  fair_by := fair_by_of(open_lane_for.kind);
  if fair_by is not null and headers is not null then v_share := share_of(open_lane_for.kind, open_lane_for.queue, open_lane_for.priority, headers, null); end if;
  if v_share is null then
    lane := open_lane(open_lane_for.kind, open_lane_for.queue, open_lane_for.priority);
    return;
  end if;
  lane := share_lane_of(open_lane_for.queue, open_lane_for.kind, open_lane_for.priority, false, false, v_share);
  if not exists (select from lane l where l.lane = open_lane_for.lane and l.queue = open_lane_for.queue and l.kind = open_lane_for.kind) then
    perform meet_lane(lane, open_lane_for.queue, open_lane_for.kind, open_lane_for.priority, false, v_share);
  end if;
end $$;
comment on function open_lane_for(text, text, int, jsonb) is 'As open_lane, for jobs that all have these headers. fair_by: of the kind, null for none; only where it names a header may jobs with other headers need another lane.';

create or replace function reserve_ids(n int) returns bigint[]
language plpgsql security definer set search_path from current as $$
begin
  if n is null or n < 1 or n > 1000000 then
    raise exception 'posthouse: reserve_ids: n is %', n using errcode = '22023', hint = 'n is 1 to 1000000.';
  end if;
  return array(select nextval('job_id') from generate_series(1, n));
end $$;

-- The size that counts against max_payload_bytes: as stored or as text without blanks between values, whichever is
-- smaller. So nothing that a client has measured as small enough is refused here.
create or replace function payload_size(p_payload jsonb) returns bigint
language sql immutable security definer set search_path from current as $$
  select least(pg_column_size(p_payload), octet_length(replace(replace(p_payload::text, ', ', ','), '": ', '":')))
$$;

-- The checks that every way in shares; returns when the job is due, null for now.
create or replace function check_enqueue(p_payload jsonb, p_payload_bytes bytea, p_run_at timestamptz, p_delay interval, p_headers jsonb, p_max_attempts int)
returns timestamptz language plpgsql stable security definer set search_path from current as $$
declare
  v_size bigint := coalesce(case when pg_column_size(p_payload) > 1048576 then payload_size(p_payload) else pg_column_size(p_payload) end,
    octet_length(p_payload_bytes), 0);
  v_limit bigint;
  v_due timestamptz := p_run_at;
begin
  if v_size > 1048576 then
    v_limit := coalesce((select value::bigint from meta where key = 'max_payload_bytes'), 1048576);
    if v_size > v_limit then
      raise exception 'posthouse: payload has % bytes, more than %', v_size, v_limit
        using errcode = '54000', hint = 'Store large data elsewhere and enqueue a reference, or raise max_payload_bytes in table meta.';
    end if;
  end if;
  if p_headers is not null and (jsonb_typeof(p_headers) <> 'object' or pg_column_size(p_headers) > 16384) then
    raise exception 'posthouse: headers is a JSON % of % bytes', jsonb_typeof(p_headers), pg_column_size(p_headers)
      using errcode = '22023', hint = 'headers is a JSON object of at most 16 KiB.';
  end if;
  if p_max_attempts not between 1 and 32767 then
    raise exception 'posthouse: max_attempts is %', p_max_attempts
      using errcode = '22023', hint = 'max_attempts is 1 to 32767; leave it out for the kind''s own (25 by default).';
  end if;
  if p_delay is not null then
    if p_run_at is not null then
      raise exception 'posthouse: both run_at and delay are given' using errcode = '22023', hint = 'Give one of them.';
    end if;
    if p_delay < interval '0' or p_delay > interval '10 years' then
      raise exception 'posthouse: delay is %', p_delay using errcode = '22023', hint = 'delay is 0 to 10 years.';
    end if;
    v_due := clock_timestamp() + p_delay;
  end if;
  if v_due is not null then
    if not isfinite(v_due) or v_due > clock_timestamp() + interval '100 years' then
      raise exception 'posthouse: run_at is %', p_run_at using errcode = '22023', hint = 'run_at is a finite time within 100 years.';
    end if;
    if v_due <= clock_timestamp() then v_due := null; end if;
  end if;
  return v_due;
end $$;

create or replace function enqueue_one(p_kind text, p_payload jsonb, p_payload_bytes bytea, p_queue text, p_priority int,
  p_run_at timestamptz, p_delay interval, p_headers jsonb, p_max_attempts int,
  p_id bigint default null, p_options jsonb default null) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_keyed boolean := coalesce(p_options ? 'key', false);
  v_lane bigint := case when v_keyed then keyed_lane_of(p_queue, p_kind, p_priority, false) else lane_of(p_queue, p_kind, p_priority, false) end;
  v_share text;
  v_due timestamptz;
  v_options jsonb := p_options;
  v_id bigint := coalesce(p_id, nextval('job_id'));
  v_wait text;
begin
  if p_run_at is not null or p_delay is not null or p_headers is not null or p_max_attempts is not null
     or pg_column_size(p_payload) > 1048576 or octet_length(p_payload_bytes) > 1048576 then
    v_due := check_enqueue(p_payload, p_payload_bytes, p_run_at, p_delay, p_headers, p_max_attempts);
    if p_max_attempts is not null then v_options := coalesce(v_options, '{}') || jsonb_build_object('max_attempts', p_max_attempts); end if;
  end if;
  -- A job with neither header nor key is of no tenant.
  if v_keyed or p_headers is not null then
    if exists (select from kind_setting s where s.kind = p_kind and s.name = 'fair_by') then
      v_share := share_of(p_kind, p_queue, p_priority, p_headers, p_options ->> 'key');
      if v_share is not null then v_lane := share_lane_of(p_queue, p_kind, p_priority, v_keyed, false, v_share); end if;
    end if;
  end if;
  if not exists (select from lane l where l.lane = v_lane and l.queue = p_queue and l.kind = p_kind) then
    perform meet_lane(v_lane, p_queue, p_kind, p_priority, v_keyed, v_share);
  end if;
  if v_options ? 'expires_at' then
    if is_expired(v_options, utc_text(clock_timestamp())) then
      insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
        values (v_id, v_lane, 'expired', clock_timestamp(), statement_timestamp(), 0, end_reason('expired'), p_payload, p_payload_bytes, p_headers, v_options);
      return v_id;
    end if;
    insert into expiry (job, at) values (v_id, (v_options ->> 'expires_at')::timestamptz);
  end if;
  if v_options ? 'depends_on' then
    v_wait := wait_for_parents(v_id, v_options);
    if v_wait = 'blocked' then
      insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
        values (v_id, v_lane, 'blocked', 'infinity', statement_timestamp(), 0, p_payload, p_payload_bytes, p_headers,
          case when v_due is null then v_options else v_options || jsonb_build_object('run_at', utc_text(v_due)) end);
      return v_id;
    elsif v_wait is not null then
      insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
        values (v_id, v_lane, 'cancelled', clock_timestamp(), statement_timestamp(), 0, v_wait, p_payload, p_payload_bytes, p_headers, v_options);
      return v_id;
    end if;
  end if;
  if v_due is not null then
    insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
      values (v_id, v_lane, 'scheduled', v_due, statement_timestamp(), 0, p_payload, p_payload_bytes, p_headers, v_options);
  else
    insert into job (id, lane, payload, payload_bytes, headers, options)
      values (v_id, v_lane, p_payload, p_payload_bytes, p_headers, v_options);
    perform ring(v_lane);
  end if;
  return v_id;
end $$;

-- A plain job of a lane that claims know already is one statement; anything else is enqueue_one's.
create or replace function enqueue(kind text, payload jsonb default null, queue text default 'default', priority int default 0,
  run_at timestamptz default null, delay interval default null, headers jsonb default null, max_attempts int default null,
  dedupe_key text default null, on_duplicate text default 'skip', dedupe_scope text default 'unfinished', dedupe_window interval default null,
  token uuid default null, expires_at timestamptz default null, expires_in interval default null, timeout interval default null, key text default null,
  depends_on bigint[] default null, depends_on_all_ok boolean default true) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_id bigint;
  v_sleeper boolean;
  v_lane bigint;
  v_new record;
begin
  if run_at is null and delay is null and headers is null and max_attempts is null and dedupe_key is null and token is null
     and on_duplicate = 'skip' and dedupe_scope = 'unfinished' and dedupe_window is null and expires_at is null and expires_in is null and timeout is null and key is null
     and depends_on is null and depends_on_all_ok and (payload is null or pg_column_size(payload) <= 1048576) then
    insert into job (lane, payload)
      select l.lane, enqueue.payload from lane l
      where l.queue = enqueue.queue and l.kind = enqueue.kind and l.priority = enqueue.priority and not l.express and not l.keyed and l.share is null
      returning job.id, has_sleeper(job.lane), job.lane into v_id, v_sleeper, v_lane;
    if v_sleeper then perform wake(v_lane::text); end if;
    if v_id is not null then return v_id; end if;
  end if;
  if dedupe_key is null and token is null and on_duplicate = 'skip' and dedupe_scope = 'unfinished' and dedupe_window is null
     and expires_at is null and expires_in is null and timeout is null and key is null and depends_on is null and depends_on_all_ok then
    return enqueue_one(kind, payload, null, queue, priority, run_at, delay, headers, max_attempts);
  end if;
  v_new := enqueue_unique(kind, payload, null, queue, priority, run_at, delay, headers, max_attempts,
    dedupe_key, on_duplicate, dedupe_scope, dedupe_window, token,
    job_options(time_options(expires_at, expires_in, timeout, run_at, delay), key, depends_on, depends_on_all_ok));
  return id_or_mismatch(v_new.id, v_new.status, token);
end $$;
comment on function enqueue(text, jsonb, text, int, timestamptz, interval, jsonb, int, text, text, text, interval, uuid, timestamptz, interval, interval, text, bigint[], boolean) is
'Enqueues one job in the caller''s transaction and returns its id. kind and queue: [A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}. priority: higher runs first, at most 256 different ones a kind and queue. run_at or delay (0 to 10 years): not before then. headers: JSON object, at most 16 KiB. max_attempts: 1 to 32767, default that of the kind. Payload at most 1 MiB (meta.max_payload_bytes). dedupe_key: 1 to 512 bytes; while a job of the kind holds it, nothing is enqueued and that job''s id comes back (on_duplicate skip, the default), the call fails with 23505 (error), or that job, unless it has started, takes over payload and given headers (replace) or run_at or delay (reschedule). dedupe_scope: unfinished (the default: until the job has ended) or until_claimed (while it waits for a worker). dedupe_window: held at least that long, up to 10 years. token: the same call again gives the same id, for meta.retention_tokens (1 day). expires_at (within 100 years) or expires_in (more than 0, at most 10 years, from now): a job that has not been started by then ends as expired; at once when expires_at is in the past. timeout: 1 ms to 10 years, asks an attempt to stop after that long, default that of the kind. key: 1 to 512 bytes; jobs of the kind with the same key run one after another, or as many at once as the kind''s limit of scope key says. depends_on: at most 1000 ids of jobs that are known; the job is blocked until all of them have ended. depends_on_all_ok: true (the default): when one of them ends otherwise than by success, the job is cancelled; false: any end will do. headers, key: where the kind has fair_by, the value that it names is the job''s tenant. Name the arguments: later versions append more.';

create or replace function enqueue_bytes(kind text, payload bytea, queue text default 'default', priority int default 0,
  run_at timestamptz default null, delay interval default null, headers jsonb default null, max_attempts int default null,
  dedupe_key text default null, on_duplicate text default 'skip', dedupe_scope text default 'unfinished', dedupe_window interval default null,
  token uuid default null, expires_at timestamptz default null, expires_in interval default null, timeout interval default null, key text default null,
  depends_on bigint[] default null, depends_on_all_ok boolean default true) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_new record;
begin
  if dedupe_key is null and token is null and on_duplicate = 'skip' and dedupe_scope = 'unfinished' and dedupe_window is null
     and expires_at is null and expires_in is null and timeout is null and key is null and depends_on is null and depends_on_all_ok then
    return enqueue_one(kind, null, payload, queue, priority, run_at, delay, headers, max_attempts);
  end if;
  v_new := enqueue_unique(kind, null, payload, queue, priority, run_at, delay, headers, max_attempts,
    dedupe_key, on_duplicate, dedupe_scope, dedupe_window, token,
    job_options(time_options(expires_at, expires_in, timeout, run_at, delay), key, depends_on, depends_on_all_ok));
  return id_or_mismatch(v_new.id, v_new.status, token);
end $$;
comment on function enqueue_bytes(text, bytea, text, int, timestamptz, interval, jsonb, int, text, text, text, interval, uuid, timestamptz, interval, interval, text, bigint[], boolean) is 'As enqueue, for a payload of raw bytes.';

-- The checks of enqueue_many; makes the lanes known. True: some element has a key of either sort, a token, an expiry, a timeout or
-- dependencies.
create or replace function check_many(jobs jsonb) returns boolean
language plpgsql security definer set search_path from current set jit = off as $$
declare
  v_bad record;
  v_lane record;
  v_hint text;
begin
  if jobs is null or jsonb_typeof(jobs) <> 'array' then
    raise exception 'posthouse: enqueue_many: jobs is a JSON %', coalesce(jsonb_typeof(jobs), 'null')
      using errcode = '22023', hint = 'jobs is an array of objects with the argument names of enqueue.';
  end if;
  if jsonb_array_length(jobs) > 100000 then
    raise exception 'posthouse: enqueue_many: % jobs in one call', jsonb_array_length(jobs)
      using errcode = '54000', hint = 'At most 100000 jobs a call; call it several times in one transaction.';
  end if;
  select i - 1 as i, jsonb_typeof(e) as type into v_bad
    from jsonb_array_elements(jobs) with ordinality a(e, i) where jsonb_typeof(e) <> 'object' limit 1;
  if found then
    raise exception 'posthouse: enqueue_many: element % is a JSON %', v_bad.i, v_bad.type
      using errcode = '22023', hint = 'Each element is an object with the argument names of enqueue.';
  end if;
  select i - 1 as i, k into v_bad from jsonb_array_elements(jobs) with ordinality a(e, i), jsonb_object_keys(e) k
    where k not in ('kind', 'payload', 'payload_bytes', 'queue', 'priority', 'run_at', 'delay', 'delay_ms', 'headers', 'max_attempts',
      'dedupe_key', 'on_duplicate', 'dedupe_scope', 'dedupe_window', 'token', 'expires_at', 'expires_in', 'timeout', 'key',
      'depends_on', 'depends_on_elements', 'depends_on_all_ok') limit 1;
  if found then
    raise exception 'posthouse: enqueue_many: element % has the unknown key %', v_bad.i, quote_literal(v_bad.k)
      using errcode = '22023', hint = 'Keys: kind, payload, payload_bytes (base64), queue, priority, run_at, delay, delay_ms, headers, max_attempts, dedupe_key, on_duplicate, dedupe_scope, dedupe_window, token, expires_at, expires_in, timeout, key, depends_on, depends_on_elements, depends_on_all_ok.';
  end if;
  select i - 1 as i, e -> 'priority' as priority into v_bad from jsonb_array_elements(jobs) with ordinality a(e, i)
    where case when e ->> 'priority' !~ '^-?[0-9]{1,10}$' then true else abs((e ->> 'priority')::bigint) > 2147483647 end limit 1;
  if found then
    raise exception 'posthouse: enqueue_many: element %: priority is %', v_bad.i, v_bad.priority
      using errcode = '22023', hint = 'priority is an integer of 32 bits.';
  end if;
  -- Check each element that has more than a payload; a bad one fails the whole call, named by its index.
  for v_bad in select i - 1 as i, e from jsonb_array_elements(jobs) with ordinality a(e, i)
    where e ?| array['run_at', 'delay', 'delay_ms', 'headers', 'max_attempts', 'payload_bytes', 'dedupe_window', 'token',
      'expires_at', 'expires_in', 'timeout']
      or e ?| array['dedupe_key', 'on_duplicate', 'dedupe_scope'] and (coalesce(octet_length(e ->> 'dedupe_key') not between 1 and 512, true)
        or coalesce(e ->> 'on_duplicate', 'skip') not in ('skip', 'error', 'replace') or coalesce(e ->> 'dedupe_scope', 'unfinished') not in ('unfinished', 'until_claimed'))
      or octet_length(e ->> 'key') not between 1 and 512
      or pg_column_size(e) > 1048576 or not e ? 'kind'
  loop
    begin
      if v_bad.e ->> 'kind' is null then raise exception 'posthouse: kind is missing' using errcode = '22004'; end if;
      if v_bad.e ? 'payload' and v_bad.e ? 'payload_bytes' then
        raise exception 'posthouse: both payload and payload_bytes are given' using errcode = '22023', hint = 'Give one of them.';
      end if;
      perform check_enqueue(v_bad.e -> 'payload', decode(v_bad.e ->> 'payload_bytes', 'base64'), (v_bad.e ->> 'run_at')::timestamptz,
        coalesce((v_bad.e ->> 'delay')::interval, ((v_bad.e ->> 'delay_ms')::bigint * interval '1 millisecond')),
        nullif(v_bad.e -> 'headers', 'null'), (v_bad.e ->> 'max_attempts')::int);
      perform check_unique(v_bad.e ->> 'dedupe_key', coalesce(v_bad.e ->> 'on_duplicate', 'skip'),
        coalesce(v_bad.e ->> 'dedupe_scope', 'unfinished'), (v_bad.e ->> 'dedupe_window')::interval), (v_bad.e ->> 'token')::uuid;
      perform check_reschedule(v_bad.e ->> 'on_duplicate', (v_bad.e ->> 'run_at')::timestamptz,
        coalesce((v_bad.e ->> 'delay')::interval, (v_bad.e ->> 'delay_ms')::bigint * interval '1 millisecond'));
      perform time_options((v_bad.e ->> 'expires_at')::timestamptz, (v_bad.e ->> 'expires_in')::interval, (v_bad.e ->> 'timeout')::interval,
        (v_bad.e ->> 'run_at')::timestamptz, coalesce((v_bad.e ->> 'delay')::interval, ((v_bad.e ->> 'delay_ms')::bigint * interval '1 millisecond')));
      if v_bad.e ->> 'key' is not null then perform check_key(v_bad.e ->> 'key'); end if;
    exception when others then
      get stacked diagnostics v_hint = pg_exception_hint;
      raise exception 'posthouse: enqueue_many: element %: %', v_bad.i, regexp_replace(sqlerrm, '^posthouse: ', '') using errcode = sqlstate, hint = v_hint;
    end;
  end loop;
  if jobs @? '$[*].depends_on' or jobs @? '$[*].depends_on_elements' or jobs @? '$[*].depends_on_all_ok' then perform check_many_depends(jobs); end if;
  for v_lane in select q.queue, q.kind, q.priority, q.keyed, min(i) as i,
      case when q.keyed then keyed_lane_of(q.queue, q.kind, q.priority, false) else lane_of(q.queue, q.kind, q.priority, false) end as lane
    from (select coalesce(e ->> 'queue', 'default') as queue, e ->> 'kind' as kind, coalesce((e ->> 'priority')::int, 0) as priority,
            e ->> 'key' is not null as keyed, i - 1 as i
          from jsonb_array_elements(jobs) with ordinality a(e, i)) q group by 1, 2, 3, 4
  loop
    begin
      if not exists (select from lane l where l.lane = v_lane.lane and l.queue = v_lane.queue and l.kind = v_lane.kind) then
        perform meet_lane(v_lane.lane, v_lane.queue, v_lane.kind, v_lane.priority, v_lane.keyed);
      end if;
    exception when sqlstate '22023' or sqlstate '22004' or sqlstate '54000' then
      get stacked diagnostics v_hint = pg_exception_hint;
      raise exception 'posthouse: enqueue_many: element %: %', v_lane.i, regexp_replace(sqlerrm, '^posthouse: ', '') using errcode = sqlstate, hint = v_hint;
    end;
  end loop;
  return jobs @? '$[*].dedupe_key' or jobs @? '$[*].token' or jobs @? '$[*].expires_at' or jobs @? '$[*].expires_in' or jobs @? '$[*].timeout'
    or jobs @? '$[*].key' or jobs @? '$[*].depends_on' or jobs @? '$[*].depends_on_elements' or jobs @? '$[*].depends_on_all_ok';
end $$;

create or replace function enqueue_many(jobs jsonb) returns bigint[]
language plpgsql security definer set search_path from current set jit = off as $$
declare
  v_ids bigint[];
  v_now timestamptz := clock_timestamp();
  v_lanes bigint[];
begin
  if check_many(jobs) then
    return array(select case o.status when 'duplicate' then null
        else id_or_mismatch(o.id, o.status, (jobs -> (o.i::int - 1) ->> 'token')::uuid) end
      from enqueue_many_outcome(jobs) with ordinality o(id, status, i) order by o.i);
  end if;
  v_lanes := lanes_of_tenants(jobs);
  with e as materialized (
      select i, nextval('job_id') as id, e,
        coalesce(t, lane_of(coalesce(e ->> 'queue', 'default'), e ->> 'kind', coalesce((e ->> 'priority')::int, 0), false)) as lane,
        coalesce((e ->> 'run_at')::timestamptz, v_now + coalesce((e ->> 'delay')::interval, (e ->> 'delay_ms')::bigint * interval '1 millisecond')) as due_at
      from rows from (jsonb_array_elements(jobs), unnest(v_lanes)) with ordinality a(e, t, i) order by i),
    r as (
      select i, id, lane, due_at,
        e -> 'payload' as payload,
        decode(e ->> 'payload_bytes', 'base64') as payload_bytes, nullif(e -> 'headers', 'null') as headers,
        case when e ->> 'max_attempts' is not null then jsonb_build_object('max_attempts', (e ->> 'max_attempts')::int) end as options
      from e),
    d as (
      insert into deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)
      select id, lane, 'scheduled', due_at, statement_timestamp(), 0, payload, payload_bytes, headers, options from r
      where due_at > v_now),
    j as (
      insert into job (id, lane, payload, payload_bytes, headers, options)
      select id, lane, payload, payload_bytes, headers, options from r where due_at is null or due_at <= v_now
      order by i)
  select array_agg(id order by i) into v_ids from e;
  perform ring(l.lane) from (
    select distinct coalesce(t, lane_of(coalesce(e ->> 'queue', 'default'), e ->> 'kind', coalesce((e ->> 'priority')::int, 0), false)) as lane
    from rows from (jsonb_array_elements(jobs), unnest(v_lanes)) a(e, t)) l;
  return coalesce(v_ids, '{}');
end $$;
comment on function enqueue_many(jsonb) is
'Enqueues an array of objects with the argument names of enqueue (payload_bytes: base64), all or none, at most 100000; returns the ids in order, null for a duplicate that was left out (of several with one dedupe_key the first wins). depends_on_elements: indexes, from 0, of earlier elements on which an element depends as well. A bad element fails the call and is named by its index.';
