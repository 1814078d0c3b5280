-- Schedules: what a definition may say, editing, declarations of applications, previews.

-- Edits are serialised, so that two cannot wait for each other's rows in turn; firing takes no part in this.
create or replace function lock_schedules() returns void
language plpgsql security definer set search_path from current as $$
begin
  perform pg_advisory_xact_lock(key_space(), (hashtext('schedules') & -4) | 3);
end $$;

create or replace function schedule_refuse(p_name text, p_key text, p_value text, p_allowed text) returns void
language plpgsql set search_path from current as $$
begin
  raise exception 'posthouse: schedule %: % is %', coalesce(quote_literal(left(p_name, 100)), 'null'), p_key, coalesce(quote_literal(left(p_value, 100)), 'null')
    using errcode = '22023', hint = p_allowed;
end $$;

-- The checked row of a definition: a JSON object with the argument names of add_schedule; times of firing are not in it.
create or replace function schedule_of(p_name text, p_definition jsonb) returns schedule
language plpgsql stable security definer set search_path from current as $$
declare
  d jsonb := p_definition;
  s schedule;
  v_key text;
begin
  if p_name is null or p_name !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$' then
    perform schedule_refuse(p_name, 'name', p_name, 'A name has 1 to 100 characters: letters, digits and _ . : / - with a letter or digit first.');
  end if;
  select k into v_key from jsonb_object_keys(d) k where k <> all ('{kind,cron,every,at,time_zone,payload,payload_bytes,queue,priority,headers,max_attempts,dedupe_key,on_duplicate,dedupe_scope,dedupe_window,expires_in,timeout,key,jitter,misfire,misfire_limit,overlap,enabled}') limit 1;
  if found then
    perform schedule_refuse(p_name, 'the key', v_key,
      'Keys are kind, cron, every, at, time_zone, payload, payload_bytes, queue, priority, headers, max_attempts, dedupe_key, on_duplicate, dedupe_scope, dedupe_window, expires_in, timeout, key, jitter, misfire, misfire_limit, overlap, enabled.');
  end if;
  s.name := p_name;
  s.kind := d ->> 'kind';
  s.queue := coalesce(d ->> 'queue', 'default');
  s.cron := d ->> 'cron';
  s.time_zone := coalesce(d ->> 'time_zone', 'UTC');
  s.payload := d -> 'payload';
  s.headers := nullif(d -> 'headers', 'null');
  s.misfire := coalesce(d ->> 'misfire', 'latest');
  s.overlap := coalesce(d ->> 'overlap', 'allow');
  s.key := d ->> 'key';
  s.dedupe_key := d ->> 'dedupe_key';
  s.on_duplicate := coalesce(d ->> 'on_duplicate', 'skip');
  s.dedupe_scope := coalesce(d ->> 'dedupe_scope', 'unfinished');
  begin
    v_key := 'every'; s.every := (d ->> v_key)::interval;
    v_key := 'at'; s.at := (d ->> v_key)::timestamptz;
    v_key := 'jitter'; s.jitter := coalesce((d ->> v_key)::interval, '0');
    v_key := 'priority'; s.priority := coalesce((d ->> v_key)::int, 0);
    v_key := 'max_attempts'; s.max_attempts := (d ->> v_key)::int;
    v_key := 'misfire_limit'; s.misfire_limit := coalesce((d ->> v_key)::int, 100);
    v_key := 'enabled'; s.enabled := coalesce((d ->> v_key)::boolean, true);
    v_key := 'payload_bytes'; s.payload_bytes := decode(d ->> v_key, 'base64');
    v_key := 'dedupe_window'; s.dedupe_window := (d ->> v_key)::interval;
    v_key := 'expires_in'; s.expires_in := (d ->> v_key)::interval;
    v_key := 'timeout'; s.timeout := (d ->> v_key)::interval;
  exception when data_exception then
    perform schedule_refuse(p_name, v_key, d ->> v_key, 'every, jitter, dedupe_window, expires_in and timeout are intervals, at is a time, priority, max_attempts and misfire_limit are integers, enabled is true or false, payload_bytes is base64.');
  end;
  if s.kind is null or s.kind !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$' then
    perform schedule_refuse(p_name, 'kind', s.kind, 'A kind has 1 to 100 characters: letters, digits and _ . : / - with a letter or digit first.');
  end if;
  if s.queue !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$' then
    perform schedule_refuse(p_name, 'queue', s.queue, 'A queue has 1 to 100 characters: letters, digits and _ . : / - with a letter or digit first.');
  end if;
  if num_nonnulls(s.cron, s.every, s.at) <> 1 then
    raise exception 'posthouse: schedule %: % of cron, every and at are given', quote_literal(p_name), num_nonnulls(s.cron, s.every, s.at)
      using errcode = '22023', hint = 'Give one of them: cron => ''0 3 * * *'', every => ''5 minutes'', at => ''2030-01-31 12:00:00+00''.';
  end if;
  if num_nonnulls(s.payload, s.payload_bytes) > 1 then
    raise exception 'posthouse: schedule %: both payload and payload_bytes are given', quote_literal(p_name) using errcode = '22023', hint = 'Give one of them.';
  end if;
  if s.cron is not null then s.masks := cron_masks(s.cron); end if;
  -- The list of names comes from many small files; a zone that is in use needs no look.
  if not exists (select from schedule q where q.time_zone = s.time_zone) then perform check_time_zone(s.time_zone); end if;
  if extract(month from s.every) <> 0 or extract(year from s.every) <> 0 or extract(epoch from s.every) not between 1 and 31622400
     or extract(epoch from s.every) <> floor(extract(epoch from s.every)) then
    perform schedule_refuse(p_name, 'every', d ->> 'every', 'every is 1 second to 366 days, in whole seconds and without months (use cron for these).');
  end if;
  if not isfinite(s.at) or s.at > clock_timestamp() + interval '100 years' then
    perform schedule_refuse(p_name, 'at', d ->> 'at', 'at is a finite time within 100 years; in the past means now.');
  end if;
  -- Without days, which would be as long as the session's time zone says.
  s.every := make_interval(secs => extract(epoch from s.every)::float8);
  s.jitter := make_interval(secs => extract(epoch from s.jitter)::float8);
  if s.jitter < interval '0' or s.jitter > interval '1 day' then
    perform schedule_refuse(p_name, 'jitter', d ->> 'jitter', 'jitter is 0 to 1 day.');
  end if;
  if s.misfire not in ('skip', 'latest', 'all') then
    perform schedule_refuse(p_name, 'misfire', s.misfire, 'misfire is skip, latest or all.');
  end if;
  if s.misfire_limit not between 1 and 1000 then
    perform schedule_refuse(p_name, 'misfire_limit', d ->> 'misfire_limit', 'misfire_limit is 1 to 1000.');
  end if;
  if s.overlap not in ('allow', 'skip', 'replace') then
    perform schedule_refuse(p_name, 'overlap', s.overlap, 'overlap is allow, skip or replace.');
  end if;
  if pg_column_size(s.headers) > 16000 then
    perform schedule_refuse(p_name, 'headers', pg_column_size(s.headers) || ' bytes', 'headers is a JSON object of at most 16000 bytes; the schedule adds its name and tick.');
  end if;
  perform check_enqueue(s.payload, s.payload_bytes, null, null, s.headers, s.max_attempts);
  perform check_unique(s.dedupe_key, s.on_duplicate, s.dedupe_scope, s.dedupe_window);
  if s.on_duplicate = 'reschedule' then
    perform schedule_refuse(p_name, 'on_duplicate', s.on_duplicate, 'on_duplicate of a schedule is skip, error or replace: a tick is enqueued for now and has no other time to push a job to.');
  end if;
  perform time_options(null, s.expires_in, s.timeout, null, null);
  if s.key is not null then perform check_key(s.key); end if;
  s.paused := false;
  s.open_jobs := '{}';
  return s;
end $$;

-- A row as a definition, so that changes can be merged into it.
create or replace function schedule_definition(s schedule) returns jsonb
language plpgsql stable security definer set search_path from current as $$
begin
  return jsonb_strip_nulls(jsonb_build_object('kind', s.kind, 'cron', s.cron, 'every', s.every::text, 'at', s.at, 'time_zone', s.time_zone,
      'payload_bytes', encode(s.payload_bytes, 'base64'), 'queue', s.queue, 'priority', s.priority, 'max_attempts', s.max_attempts,
      'jitter', s.jitter::text, 'misfire', s.misfire, 'misfire_limit', s.misfire_limit, 'overlap', s.overlap, 'enabled', s.enabled,
      'dedupe_key', s.dedupe_key, 'on_duplicate', s.on_duplicate, 'dedupe_scope', s.dedupe_scope, 'dedupe_window', s.dedupe_window::text,
      'expires_in', s.expires_in::text, 'timeout', s.timeout::text, 'key', s.key))
    || case when s.payload is null then '{}' else jsonb_build_object('payload', s.payload) end
    || case when s.headers is null then '{}' else jsonb_build_object('headers', s.headers) end;
end $$;

-- The first tick after a time; null: none.
create or replace function schedule_next(s schedule, p_after timestamptz) returns timestamptz
language plpgsql stable security definer set search_path from current as $$
begin
  if s.cron is not null then return cron_next(s.masks, s.time_zone, p_after); end if;
  if s.at is not null then return case when s.at > p_after then s.at end; end if;
  return s.anchor + greatest(1, floor(extract(epoch from p_after - s.anchor) / extract(epoch from s.every)) + 1) * s.every;
end $$;

-- The last tick up to p_until and from p_from, which is a tick, on. next() only grows: halving finds it.
create or replace function schedule_last(s schedule, p_from timestamptz, p_until timestamptz) returns timestamptz
language plpgsql stable security definer set search_path from current as $$
declare
  v_low timestamptz;
  v_high timestamptz := p_until;
  v_mid timestamptz;
  v_width interval := interval '1 s';
begin
  if s.at is not null or p_until <= p_from then return p_from; end if;
  if s.every is not null then
    return greatest(p_from, s.anchor + floor(extract(epoch from p_until - s.anchor) / extract(epoch from s.every)) * s.every);
  end if;
  loop
    v_low := p_until - v_width;
    if v_low < p_from then
      v_low := p_from - interval '1 microsecond';
      exit;
    end if;
    exit when schedule_next(s, v_low) <= p_until;
    v_high := v_low;
    v_width := v_width * 4;
  end loop;
  while v_high - v_low > interval '1 s' loop
    v_mid := v_low + (v_high - v_low) / 2;
    if schedule_next(s, v_mid) <= p_until then v_low := v_mid; else v_high := v_mid; end if;
  end loop;
  return schedule_next(s, v_low);
end $$;

-- When a tick is fired: each has its own share of the jitter, the same whoever computes it.
create or replace function schedule_due(s schedule, p_tick timestamptz) returns timestamptz
language plpgsql immutable set search_path from current as $$
begin
  return p_tick + s.jitter * ((hashtextextended(s.name || ' ' || extract(epoch from p_tick)::text, 0) & 1048575) / 1048576.0);
end $$;

-- The times of a schedule that is new, edited or resumed.
create or replace function schedule_start(inout s schedule, p_now timestamptz) 
language plpgsql security definer set search_path from current as $$
declare
  v_after timestamptz := p_now;
begin
  if s.every is not null and s.anchor is null then s.anchor := to_timestamp(floor(extract(epoch from p_now))); end if;
  -- A tick that was due when the edit came is not lost, if the new text has it; a tick that is decided never comes again.
  v_after := greatest(least(p_now, s.next_at - interval '1 microsecond'), s.last_tick);
  if s.at is not null then v_after := coalesce(s.last_tick, '-infinity'); end if;
  s.next_at := case when s.enabled and not s.paused then schedule_next(s, v_after) end;
  s.due_at := greatest(schedule_due(s, s.next_at), p_now);
  if s.next_at is null then s.due_at := null; end if;
end $$;

-- Inserts or updates; returns added, changed or unchanged. A row that says the same already is not touched, so that
-- declaring a schedule again moves nothing.
create or replace function write_schedule(p_name text, p_definition jsonb, p_owner text, p_now timestamptz default clock_timestamp()) returns text
language plpgsql security definer set search_path from current as $$
declare
  n schedule := schedule_of(p_name, p_definition);
  o schedule;
begin
  n.owner := p_owner;
  select * into o from schedule q where q.name = p_name for update;
  if not found then
    n.edited_at := p_now;
    n := schedule_start(n, p_now);
    insert into schedule select n.*;
    return 'added';
  end if;
  if o.owner is not distinct from n.owner and schedule_definition(o) = schedule_definition(n) then return 'unchanged'; end if;
  n.paused := o.paused; n.next_at := o.next_at; n.due_at := o.due_at; n.last_tick := o.last_tick; n.edited_at := p_now;
  if n.every = o.every then n.anchor := o.anchor; end if;
  if (n.cron, n.every, n.at, n.time_zone, n.jitter, n.enabled) is distinct from (o.cron, o.every, o.at, o.time_zone, o.jitter, o.enabled) then
    -- Another one-shot is another tick.
    if n.at is distinct from o.at then n.next_at := null; n.last_tick := case when n.at is null then n.last_tick end; end if;
    n := schedule_start(n, p_now);
  end if;
  update schedule q set (owner, kind, queue, priority, payload, payload_bytes, headers, max_attempts, cron, masks, every, anchor, at, time_zone,
      jitter, misfire, misfire_limit, overlap, enabled, dedupe_key, on_duplicate, dedupe_scope, dedupe_window, expires_in, timeout, key,
      next_at, due_at, last_tick, edited_at)
    = (n.owner, n.kind, n.queue, n.priority, n.payload, n.payload_bytes, n.headers, n.max_attempts, n.cron, n.masks, n.every, n.anchor, n.at, n.time_zone,
      n.jitter, n.misfire, n.misfire_limit, n.overlap, n.enabled, n.dedupe_key, n.on_duplicate, n.dedupe_scope, n.dedupe_window, n.expires_in, n.timeout, n.key,
      n.next_at, n.due_at, n.last_tick, n.edited_at)
    where q.name = p_name;
  return 'changed';
end $$;

create or replace function add_schedule_json(name text, definition jsonb) returns void
language plpgsql security definer set search_path from current as $$
begin
  if definition is null or jsonb_typeof(definition) <> 'object' then
    perform schedule_refuse(name, 'the definition', definition::text, 'The definition is a JSON object with argument names of add_schedule.');
  end if;
  perform lock_schedules();
  if exists (select from schedule s where s.name = add_schedule_json.name) then
    raise exception 'posthouse: schedule % exists already', quote_literal(add_schedule_json.name)
      using errcode = '22023', hint = 'Change it with set_schedule, or choose another name.';
  end if;
  perform write_schedule(add_schedule_json.name, definition, null);
end $$;
comment on function add_schedule_json(text, jsonb) is 'As add_schedule, with its arguments but the name in one JSON object.';

create or replace function add_schedule(name text, kind text, cron text default null, every interval default null, at timestamptz default null,
  time_zone text default 'UTC', payload jsonb default null, queue text default 'default', priority int default 0, headers jsonb default null,
  max_attempts int default null, jitter interval default '0', misfire text default 'latest', misfire_limit int default 100,
  overlap text default 'allow', enabled boolean default true, payload_bytes bytea default null,
  dedupe_key text default null, on_duplicate text default 'skip', dedupe_scope text default 'unfinished', dedupe_window interval default null,
  expires_in interval default null, timeout interval default null, key text default null) returns void
language plpgsql security definer set search_path from current as $$
declare
  v_definition jsonb := jsonb_strip_nulls(jsonb_build_object('kind', add_schedule.kind, 'cron', add_schedule.cron, 'every', add_schedule.every::text,
      'at', add_schedule.at, 'time_zone', add_schedule.time_zone, 'queue', add_schedule.queue, 'priority', add_schedule.priority,
      'max_attempts', add_schedule.max_attempts, 'jitter', add_schedule.jitter::text, 'misfire', add_schedule.misfire,
      'misfire_limit', add_schedule.misfire_limit, 'overlap', add_schedule.overlap, 'enabled', add_schedule.enabled,
      'payload_bytes', encode(add_schedule.payload_bytes, 'base64'), 'dedupe_key', add_schedule.dedupe_key,
      'on_duplicate', add_schedule.on_duplicate, 'dedupe_scope', add_schedule.dedupe_scope, 'dedupe_window', add_schedule.dedupe_window::text,
      'expires_in', add_schedule.expires_in::text, 'timeout', add_schedule.timeout::text, 'key', add_schedule.key))
    || case when payload is null then '{}' else jsonb_build_object('payload', payload) end
    || case when headers is null then '{}' else jsonb_build_object('headers', headers) end;
begin
  perform add_schedule_json(name, v_definition);
end $$;
comment on function add_schedule(text, text, text, interval, timestamptz, text, jsonb, text, int, jsonb, int, interval, text, int, text, boolean, bytea, text, text, text, interval, interval, interval, text) is
'Adds a schedule that enqueues a job of this kind at each tick. Give one of cron (see cron_masks), every (1 second to 366 days, counted from now) and at (once; in the past means now). time_zone: IANA name for cron, default UTC. payload, queue, priority, headers, max_attempts as for enqueue. jitter: 0 to 1 day, spreads the fires over that long after their ticks. misfire: what becomes of ticks that come late: skip (not fired when more than a minute late), latest (default: the newest), all (the newest misfire_limit, 1 to 1000, default 100). overlap, when an earlier job of it is not finished: allow (default), skip, replace (cancels it: one that waits at once, one that runs is asked to stop, and the new job is enqueued without waiting for that). dedupe_key, on_duplicate, dedupe_scope, dedupe_window, expires_in, timeout, key as for enqueue: a tick whose dedupe_key another job holds enqueues nothing and is recorded as skipped (on_duplicate skip; replace, which gives a job that has not started this payload and headers) or failed (error); reschedule is refused; expires_in counts from the firing. Name the arguments: later versions append more.';

create or replace function missing_schedule(p_name text) returns void
language plpgsql set search_path from current as $$
begin
  raise exception 'posthouse: there is no schedule %', coalesce(quote_literal(left(p_name, 100)), 'null')
    using errcode = '22023', hint = 'select name from schedules lists them.';
end $$;

create or replace function set_schedule(name text, changes jsonb) returns text
language plpgsql security definer set search_path from current as $$
declare
  s schedule;
  v_old jsonb;
begin
  if changes is null or jsonb_typeof(changes) <> 'object' then
    perform schedule_refuse(name, 'changes', changes::text, 'changes is a JSON object with argument names of add_schedule; null takes an option away.');
  end if;
  perform lock_schedules();
  select * into s from schedule q where q.name = set_schedule.name for update;
  if not found then perform missing_schedule(set_schedule.name); end if;
  v_old := schedule_definition(s);
  if changes ?| '{cron,every,at}' then v_old := v_old - '{cron,every,at}'::text[]; end if;
  if changes ?| '{payload,payload_bytes}' then v_old := v_old - '{payload,payload_bytes}'::text[]; end if;
  return write_schedule(set_schedule.name,
    v_old - array(select e.key from jsonb_each(changes) e where e.value = 'null' and e.key <> 'payload')
      || coalesce((select jsonb_object_agg(e.key, e.value) from jsonb_each(changes) e where e.value <> 'null' or e.key = 'payload'), '{}'), s.owner);
end $$;
comment on function set_schedule(text, jsonb) is
'Changes what is named in changes, a JSON object with argument names of add_schedule; null takes an option away. Returns changed or unchanged. A tick that is due at this moment is fired if the new definition has it. A declared schedule is set back when its application declares it again.';

create or replace function remove_schedule(name text) returns boolean
language plpgsql security definer set search_path from current as $$
begin
  perform lock_schedules();
  delete from schedule s where s.name = remove_schedule.name;
  return found;
end $$;
comment on function remove_schedule(text) is 'Removes a schedule; its jobs and its history stay. False: there is none.';

create or replace function pause_schedule(name text) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform lock_schedules();
  update schedule s set paused = true, next_at = null, due_at = null where s.name = pause_schedule.name;
  if not found then perform missing_schedule(pause_schedule.name); end if;
end $$;
comment on function pause_schedule(text) is 'No tick fires until resume_schedule; ticks that pass meanwhile are left out. Declaring it again does not resume it.';

create or replace function resume_schedule(name text) returns void
language plpgsql security definer set search_path from current as $$
declare
  s schedule;
begin
  perform lock_schedules();
  select * into s from schedule q where q.name = resume_schedule.name for update;
  if not found then perform missing_schedule(resume_schedule.name); end if;
  if not s.paused then return; end if;
  s.paused := false;
  s := schedule_start(s, clock_timestamp());
  update schedule q set paused = false, next_at = s.next_at, due_at = s.due_at where q.name = s.name;
end $$;
comment on function resume_schedule(text) is 'Ends a pause: the next tick after now is the next to fire. A one-shot whose time passed in the pause fires at once.';

-- The first call of an application takes the names; rows of others are never touched.
create or replace function sync_schedules(owner text, schedules jsonb) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
  e record;
  v_hint text;
  v_result text;
  v_counts jsonb := '{"added": 0, "changed": 0, "unchanged": 0, "removed": 0}';
  v_removed int;
begin
  if owner is null or owner !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$' then
    raise exception 'posthouse: sync_schedules: owner % is not a name', coalesce(quote_literal(left(owner, 100)), 'null')
      using errcode = '22023', hint = 'The application''s name has 1 to 100 characters: letters, digits and _ . : / - with a letter or digit first.';
  end if;
  if schedules is null or jsonb_typeof(schedules) <> 'array' or exists (select from jsonb_array_elements(schedules) q where jsonb_typeof(q) <> 'object') then
    raise exception 'posthouse: sync_schedules: schedules is a JSON %', coalesce(jsonb_typeof(schedules), 'null')
      using errcode = '22023', hint = 'schedules is an array of objects with name and the argument names of add_schedule.';
  end if;
  perform lock_schedules();
  for e in select q.i, q.e ->> 'name' as name, q.e - 'name' as definition, count(*) over (partition by q.e ->> 'name') as times, s.name as taken, s.owner as taken_by
      from jsonb_array_elements(schedules) with ordinality q(e, i) left join schedule s on s.name = q.e ->> 'name' order by q.i loop
    if e.times > 1 then
      raise exception 'posthouse: sync_schedules: element %: schedule % is declared twice', e.i - 1, quote_literal(e.name)
        using errcode = '22023', hint = 'Names are unique.';
    end if;
    if e.taken is not null and e.taken_by is distinct from sync_schedules.owner then
      raise exception 'posthouse: sync_schedules: element %: schedule % %', e.i - 1, quote_literal(e.name),
          case when e.taken_by is null then 'was made by hand' else 'belongs to ' || quote_literal(e.taken_by) end
        using errcode = '22023', hint = 'Choose another name, or remove that schedule first.';
    end if;
    begin
      v_result := write_schedule(e.name, e.definition, sync_schedules.owner);
    exception when sqlstate '22023' or sqlstate '22004' or sqlstate '54000' then
      get stacked diagnostics v_hint = pg_exception_hint;
      raise exception 'posthouse: sync_schedules: element %: %', e.i - 1, regexp_replace(sqlerrm, '^posthouse: ', '') using errcode = sqlstate, hint = v_hint;
    end;
    v_counts := jsonb_set(v_counts, array[v_result], to_jsonb((v_counts ->> v_result)::int + 1));
  end loop;
  delete from schedule s where s.owner = sync_schedules.owner
    and not exists (select from jsonb_array_elements(schedules) q where q ->> 'name' = s.name);
  get diagnostics v_removed = row_count;
  return v_counts || jsonb_build_object('removed', v_removed);
end $$;
comment on function sync_schedules(text, jsonb) is
'Makes the schedules of an application (owner) those of the array: adds, changes, removes; objects have name and the argument names of add_schedule. Pauses stay. A schedule of another owner, or made by hand, is never touched: the same name is an error. Returns how many were added, changed, unchanged, removed.';

-- What sync_schedules would refuse, all of it: for those who show every error at once. i counts from 0.
create or replace function schedule_problems(owner text, schedules jsonb) returns table (i int, problem text, hint text)
language plpgsql security definer set search_path from current as $$
declare
  e record;
begin
  for e in select (q.i - 1)::int as i, q.e ->> 'name' as name, q.e - 'name' as definition, s.name as taken, s.owner as taken_by
      from jsonb_array_elements(schedules) with ordinality q(e, i) left join schedule s on s.name = q.e ->> 'name' order by q.i loop
    i := e.i;
    begin
      perform schedule_of(e.name, e.definition);
      continue when e.taken is null or e.taken_by is not distinct from schedule_problems.owner;
      problem := format('schedule %L %s', e.name, case when e.taken_by is null then 'was made by hand' else 'belongs to ' || quote_literal(e.taken_by) end);
      hint := 'Choose another name, or remove that schedule first.';
    exception when sqlstate '22023' or sqlstate '22004' or sqlstate '54000' then
      get stacked diagnostics hint = pg_exception_hint;
      problem := regexp_replace(sqlerrm, '^posthouse: ', '');
    end;
    return next;
  end loop;
end $$;
comment on function schedule_problems(text, jsonb) is 'What sync_schedules would refuse with these arguments: one row a bad element, counted from 0. No row: it would take them. Changes nothing.';

create or replace function preview_schedule(name text, n int default 10, from_time timestamptz default null)
returns table (tick timestamptz, local_time timestamp)
language plpgsql stable security definer set search_path from current as $$
declare
  s schedule;
  t timestamptz := preview_schedule.from_time;
begin
  perform check_preview(preview_schedule.n);
  select * into s from schedule q where q.name = preview_schedule.name;
  if not found then perform missing_schedule(preview_schedule.name); end if;
  if t is null then t := coalesce(s.next_at - interval '1 microsecond', greatest(clock_timestamp(), s.last_tick)); end if;
  for i in 1..preview_schedule.n loop
    t := schedule_next(s, t);
    exit when t is null;
    tick := t;
    local_time := t at time zone s.time_zone;
    return next;
  end loop;
end $$;
comment on function preview_schedule(text, int, timestamptz) is 'The next n (1 to 10000) ticks of a schedule, before jitter; of one that rests, those it would have.';

create or replace view schedules as
  select s.name, s.owner, s.kind, s.queue, s.priority, s.cron, s.every, s.at, s.time_zone, s.payload, s.payload_bytes, s.headers, s.max_attempts,
    s.jitter, s.misfire, s.misfire_limit, s.overlap, s.enabled, s.paused, s.next_at, s.due_at, s.last_tick, s.last_fired_at, s.last_job, s.last_error,
    s.dedupe_key, s.on_duplicate, s.dedupe_scope, s.dedupe_window, s.expires_in, s.timeout, s.key
  from schedule s;
comment on view schedules is 'Every schedule: its definition, when it fires next (next_at; due_at with jitter), and what its last tick did.';
