-- SQL jobs by the names that database administrators call. A job of queue n is a job of the engine in queue broker:n whose
-- kind is its job_language; what it runs, and as whom, stands in broker_job, which functions alone write.

-- Why a job of p_by must not run as p_role; null: it may.
create or replace function broker_role_problem(p_by text, p_role text) returns text
language plpgsql stable security definer set search_path from current as $$
declare
  r pg_catalog.pg_roles;
begin
  select * into r from pg_catalog.pg_roles q where q.rolname = p_role;
  if not found then return format('there is no role %s', quote_literal(p_role)); end if;
  if not exists (select from pg_catalog.pg_roles q where q.rolname = p_by) then
    return format('role %s, which added the job, does not exist any more', quote_literal(p_by));
  end if;
  if r.rolname ~ '^pg_' then return format('role %s is one of the server''s own', quote_literal(p_role)); end if;
  if r.rolsuper then return format('role %s is a superuser', quote_literal(p_role)); end if;
  if r.rolbypassrls then return format('role %s has BYPASSRLS', quote_literal(p_role)); end if;
  if not pg_catalog.pg_has_role(p_by, r.oid, 'MEMBER') then
    return format('role %s is not a member of role %s', quote_literal(p_by), quote_literal(p_role));
  end if;
  return null;
end $$;
comment on function broker_role_problem(text, text) is 'Why an SQL job that role p_by adds must not run as p_role, as a sentence; null: it may.';

-- The checks of what a job or a schedule of jobs is told. p_own: a superuser''s word for itself, which the caller makes good.
create or replace function broker_check(p_name text, p_statement text, p_queue int, p_priority int, p_language text, p_run_as text, p_login text, p_own boolean) returns void
language plpgsql stable security definer set search_path from current as $$
declare
  v_problem text;
begin
  if coalesce(length(p_name), 0) not between 1 and 500 then
    raise exception 'posthouse: job_name has % characters', coalesce(length(p_name)::text, 'no')
      using errcode = '22023', hint = 'job_name is a text of 1 to 500 characters; it may be what you like.';
  end if;
  if p_statement is null or p_statement !~ '\S' then
    raise exception 'posthouse: execute_str is %', case when p_statement is null then 'null' else 'empty' end
      using errcode = '22023', hint = 'execute_str is what the job does: SQL statements, a block of plpgsql, or what the handler of its job_language takes.';
  end if;
  if octet_length(p_statement) > 1048576 then
    raise exception 'posthouse: execute_str has % bytes', octet_length(p_statement)
      using errcode = '54000', hint = 'At most 1048576 bytes; put more into a function and call that.';
  end if;
  if p_queue is null or p_queue not between 1 and 9999 then
    raise exception 'posthouse: job_queue is %', coalesce(p_queue::text, 'null') using errcode = '22023', hint = 'job_queue is 1 to 9999; the broker serves 1 to queue_count.';
  end if;
  if p_priority is null then
    raise exception 'posthouse: job_priority is null' using errcode = '22004', hint = 'Leave the argument out for priority 0; higher runs first.';
  end if;
  if p_language is null or p_language !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$' then
    raise exception 'posthouse: job_language is %', coalesce(quote_literal(left(p_language, 100)), 'null')
      using errcode = '22023', hint = 'job_language is sql, plpgsql, or the name of a kind that the broker''s configuration has a handler for.';
  end if;
  if length(p_login) > 200 then
    raise exception 'posthouse: user_login has % characters', length(p_login) using errcode = '22023', hint = 'user_login is a text of at most 200 characters.';
  end if;
  if p_language in ('sql', 'plpgsql') then
    if not (p_own and p_run_as = session_user) then v_problem := broker_role_problem(session_user, p_run_as); end if;
    if v_problem is not null then
      raise exception 'posthouse: run_as: %', v_problem
        using errcode = '42501', hint = 'run_as is a role that you are a member of, by default your own, and neither a superuser, nor a role with BYPASSRLS, nor one of the server''s own.';
    end if;
  elsif p_run_as is not null then
    raise exception 'posthouse: run_as is given and job_language is %', quote_literal(p_language)
      using errcode = '22023', hint = 'Only sql and plpgsql run as a role; leave run_as out.';
  end if;
end $$;

-- What the engine carries: for SQL a note for who looks, for other languages what their handlers get.
create or replace function broker_payload(p_name text, p_statement text, p_language text, p_run_as text, p_login text) returns jsonb
language plpgsql stable security definer set search_path from current as $$
begin
  if p_language in ('sql', 'plpgsql') then
    return jsonb_strip_nulls(jsonb_build_object('job_name', p_name, 'run_as', p_run_as, 'user_login', p_login));
  end if;
  begin
    return p_statement::jsonb;
  exception when data_exception then
    return to_jsonb(p_statement);
  end;
end $$;

create or replace function broker_enqueue(p_name text, p_statement text, p_queue int, p_priority int, p_language text, p_run_as text, p_login text,
  p_schedule bigint, p_depends_on bigint[], p_own boolean) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_run_as text := case when p_language in ('sql', 'plpgsql') then coalesce(p_run_as, session_user) else p_run_as end;
  v_login text := coalesce(p_login, nullif(current_setting('posthouse.user_login', true), ''));
  v_timeout interval := nullif(current_setting('posthouse.statement_timeout', true), '')::int * interval '1 millisecond';
  v_id bigint;
begin
  perform broker_check(p_name, p_statement, p_queue, p_priority, p_language, v_run_as, v_login, p_own);
  if p_schedule is not null and not exists (select from broker_cron c where c.id = p_schedule) then
    raise exception 'posthouse: schedule_id is %', p_schedule using errcode = '22023', hint = 'schedule_id is the id of a row of broker_schedule, or null.';
  end if;
  if cardinality(p_depends_on) > 0 then
    begin
      -- Resolved when it is called, since the engine may be one without dependencies.
      execute 'select enqueue($1, $2, $3, $4, timeout => $5, depends_on => $6)' into v_id
        using p_language, broker_payload(p_name, p_statement, p_language, v_run_as, v_login), 'broker:' || p_queue, p_priority, nullif(v_timeout, '0'), p_depends_on;
    exception when undefined_function then
      raise exception 'posthouse: depends_on is given' using errcode = '0A000', hint = 'Jobs that wait for others are not part of this version.';
    end;
  else
    v_id := enqueue(p_language, broker_payload(p_name, p_statement, p_language, v_run_as, v_login), 'broker:' || p_queue, p_priority,
      timeout => nullif(v_timeout, '0'));
  end if;
  insert into broker_job (job, name, language, statement, run_as, made_by, user_login, schedule, depends_on)
    values (v_id, p_name, p_language, p_statement, v_run_as, session_user, v_login, p_schedule, p_depends_on);
  return v_id;
end $$;
comment on function broker_enqueue(text, text, int, int, text, text, text, bigint, bigint[], boolean) is
'Behind broker_add_job. p_own: a superuser adds it for itself; that is believed only of who can write it into broker_job.';

-- With the caller''s own rights: a superuser''s job for itself is marked as such by what only a superuser (or the owner) can
-- do. session_user alone would not do, since it stays the superuser''s in functions that others wrote: an index
-- expression that ANALYZE evaluates, say.
create or replace function broker_add_job(job_name text, execute_str text, job_queue int default 1, job_priority int default 0, job_language text default 'sql',
  run_as text default null, user_login text default null, schedule_id bigint default null, depends_on bigint[] default null) returns bigint
language plpgsql set search_path from current as $$
declare
  v_own boolean := job_language in ('sql', 'plpgsql') and coalesce(run_as, session_user) = session_user and current_user = session_user
    and (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user);
  v_id bigint := broker_enqueue(job_name, execute_str, job_queue, job_priority, job_language, run_as, user_login, schedule_id, depends_on, v_own);
begin
  if v_own then update broker_job b set own = true where b.job = v_id; end if;
  return v_id;
end $$;
comment on function broker_add_job(text, text, int, int, text, text, text, bigint, bigint[]) is
'Adds a job to numbered queue job_queue (1 to 9999, default 1) in the caller''s transaction and returns its id. job_name: free text of 1 to 500 characters. execute_str: what it does, at most 1 MiB: with job_language sql (default) one or more statements, with plpgsql a block, in one transaction; with another job_language what the broker''s handler of that name takes (JSON if it is, else text). job_priority: higher runs first, default 0. run_as: the role that it runs as, default the role that you logged in as (session_user); you must be a member of it, now and when it runs, and it must be no superuser, no role with BYPASSRLS and none of the server''s own; a superuser''s own job runs only where the broker logs in as that role. user_login: at most 200 characters, for the job''s current_setting(''posthouse.user_login'') and its application_name; default: broker_set(''user'', …). schedule_id: id of a row of broker_schedule that it belongs to. Its time limit is broker_set(''statement_timeout'', …), else the broker''s.';

create or replace view broker_jobs as
  select b.job as id, b.name as job_name, b.statement as execute_str,
    case when j.queue ~ '^broker:[0-9]{1,4}$' then substring(j.queue from 8)::int end as job_queue, j.priority as job_priority,
    b.language as job_language, b.run_as, b.user_login, b.schedule as schedule_id, b.depends_on, j.state as status, j.attempt,
    j.enqueued_at as created_at, j.started_at, j.finished_at, j.worker as instance_id,
    case when jsonb_typeof(r.value -> 'row_count') = 'number' then (r.value ->> 'row_count')::numeric::bigint end as row_count, j.last_error as error
  from broker_job b join jobs j on j.id = b.job left join result r on r.job = b.job;
comment on view broker_jobs is 'The jobs that broker_add_job and broker_schedule made, as long as the engine keeps them (retention). status: as in the view jobs. instance_id: the worker (posthouse workers list) that ran it last. row_count: rows that its last statement touched or returned.';

create or replace function broker_set(option text, value text) returns void
language plpgsql set search_path from current as $$
begin
  if option = 'user' then
    if length(value) > 200 then
      raise exception 'posthouse: user has % characters', length(value) using errcode = '22023', hint = 'At most 200.';
    end if;
    perform set_config('posthouse.user_login', coalesce(value, ''), false);
  elsif option = 'application_name' then
    perform set_config('application_name', coalesce(value, ''), false);
  elsif option = 'statement_timeout' then
    perform set_config('statement_timeout', coalesce(value, '0'), false);
    perform set_config('posthouse.statement_timeout', (select s.setting from pg_catalog.pg_settings s where s.name = 'statement_timeout'), false);
  else
    raise exception 'posthouse: broker_set: option is %', coalesce(quote_literal(left(option, 100)), 'null')
      using errcode = '22023', hint = 'Options are user, application_name and statement_timeout.';
  end if;
end $$;
comment on function broker_set(text, text) is
'Sets, until the session ends, for the jobs that it adds or runs: user (the default of user_login, and what broker_run shows as posthouse.user_login), application_name (of the session), statement_timeout (as the server''s setting: a number is in ms, 0 is none; the session''s, and the time limit of jobs that it adds). null: none.';

-- For the daemon, in the transaction that runs the job or in one before it. session_user is the daemon''s login.
create or replace function broker_start(p_job bigint, out name text, out statement text, out run_as text, out user_login text, out is_own_login boolean, out problem text)
language plpgsql stable security definer set search_path from current as $$
declare
  b broker_job;
begin
  select * into b from broker_job q where q.job = p_job;
  if not found then
    problem := 'the job was not added by broker_add_job or broker_schedule';
    return;
  end if;
  name := b.name; statement := b.statement; run_as := b.run_as; user_login := b.user_login;
  is_own_login := b.run_as = session_user;
  if not (b.own and b.run_as = b.made_by and is_own_login) then problem := 'run_as: ' || broker_role_problem(b.made_by, b.run_as); end if;
end $$;
comment on function broker_start(bigint) is 'What an SQL job runs, as whom, whether that is the caller''s own login, and why it must not run (null: it may): the check of its role, again.';

-- The incarnation of this session for a queue, which lives ten minutes after the last broker_get.
create or replace function broker_session(p_queue int, p_instance bigint, out worker bigint, out token bigint)
language plpgsql security definer set search_path from current as $$
declare
  v_setting text := 'posthouse.broker_session_' || p_queue;
  v_known text[] := string_to_array(nullif(current_setting(v_setting, true), ''), ' ');
begin
  select w.id into worker from worker w where w.id = v_known[1]::bigint and w.ended_at is null and w.reaped_at is null and w.pid = pg_backend_pid();
  if worker is null then
    worker := register_worker(format('session %s of %s', pg_backend_pid(), session_user) || coalesce(' for instance ' || p_instance, ''),
      coalesce(host(inet_client_addr()), 'local'), pg_backend_pid(), coalesce((select m.value from meta m where m.key = 'program_version'), '0'),
      array['broker:' || p_queue], array['sql', 'plpgsql'], 600000, 1, array[1, 1]);
    token := 16;
  else
    token := v_known[2]::bigint + 16;
    perform beat(worker, 0, 1, 0);
  end if;
  perform set_config(v_setting, worker || ' ' || token, false);
end $$;

create or replace function broker_get(job_queue int default 1, instance_id bigint default null) returns setof broker_jobs
language plpgsql security definer set search_path from current as $$
declare
  s record;
  v_job bigint;
begin
  if job_queue is null or job_queue not between 1 and 9999 then
    raise exception 'posthouse: job_queue is %', coalesce(job_queue::text, 'null') using errcode = '22023', hint = 'job_queue is 1 to 9999.';
  end if;
  select * into s from broker_session(job_queue, instance_id);
  select c.id into v_job from claim(s.worker, s.token, null, 1, 1) c where c.pos >= 0;
  if v_job is null then return; end if;
  return query select b.* from broker_jobs b where b.id = v_job;
  if not found then
    perform broker_finish(v_job, jsonb_build_object('status', 'failed', 'error', 'the job was not added by broker_add_job or broker_schedule'));
  end if;
end $$;
comment on function broker_get(int, bigint) is
'Claims the next SQL job of a numbered queue for the calling session and returns its row of broker_jobs, or none. Run it with broker_run, in this transaction or a later one of the session: a claim that nobody finishes is taken back ten minutes after the session''s last broker_get, and then counts as failed. Needs READ COMMITTED.';

-- The open batch of this session that holds the job.
create or replace function broker_claim_of(p_job bigint, out worker bigint, out token bigint, out attempt int, out max_attempts int)
language plpgsql security definer set search_path from current as $$
declare
  v_queue text;
begin
  select substring(j.queue from 8), j.attempt, j.max_attempts into v_queue, attempt, max_attempts from jobs j where j.id = p_job and j.queue ~ '^broker:[0-9]{1,4}$';
  select b.worker, b.token into worker, token
    from batch b where b.worker = split_part(nullif(current_setting('posthouse.broker_session_' || v_queue, true), ''), ' ', 1)::bigint
      and b.closed_at is null and p_job = any(b.ids)
      and exists (select from worker w where w.id = b.worker and w.ended_at is null and w.pid = pg_backend_pid());
  if worker is null then
    raise exception 'posthouse: broker_run: this session does not hold job %', coalesce(p_job::text, 'null')
      using errcode = '55000', hint = 'Claim a job with broker_get in this session first, and run it within ten minutes.';
  end if;
end $$;

create or replace function broker_held(p_job bigint, out job bigint, out language text, out statement text, out facts jsonb, out problem text)
language plpgsql security definer set search_path from current as $$
declare
  c record;
  b broker_job;
begin
  select * into c from broker_claim_of(p_job);
  select * into b from broker_job q where q.job = p_job;
  job := p_job; language := b.language; statement := b.statement;
  if b.run_as is distinct from session_user then
    problem := format('the job runs as %s and this session''s login is %s', quote_literal(b.run_as), quote_literal(session_user));
  elsif not (b.own and b.run_as = b.made_by) then
    problem := 'run_as: ' || broker_role_problem(b.made_by, b.run_as);
  end if;
  facts := jsonb_build_object('job_id', p_job, 'kind', b.language, 'attempt', c.attempt,
    'user_login', coalesce(b.user_login, nullif(current_setting('posthouse.user_login', true), ''), ''));
end $$;

-- With the caller''s rights and search_path, so everything of ours in it is of the server''s own catalogue.
create or replace function broker_execute(language text, statement text, facts jsonb, problem text) returns jsonb
language plpgsql as $$
declare
  f record;
  n pg_catalog.int8;
  v_state pg_catalog.text;
  v_message pg_catalog.text;
  v_context pg_catalog.text;
begin
  if problem is not null then return pg_catalog.jsonb_build_object('status', 'released', 'error', problem); end if;
  begin
    for f in select * from pg_catalog.jsonb_each_text(facts) loop
      perform pg_catalog.set_config(pg_catalog.concat('posthouse.', f.key), f.value, true);
    end loop;
    if language operator(pg_catalog.=) 'plpgsql' then
      execute pg_catalog.format('do %L', statement);
    else
      execute statement;
      get diagnostics n = row_count;
    end if;
    return pg_catalog.jsonb_build_object('status', 'succeeded', 'row_count', n);
  exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_context = pg_exception_context;
    return pg_catalog.jsonb_build_object('status', 'failed', 'sqlstate', v_state, 'error', v_message, 'context', v_context);
  end;
end $$;

create or replace function broker_finish(p_job bigint, p_result jsonb) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
  c record;
  v_status text := p_result ->> 'status';
  v_again boolean;
  v_lost bigint[];
begin
  select * into c from broker_claim_of(p_job);
  v_again := v_status = 'failed' and c.attempt < c.max_attempts;
  if v_status = 'succeeded' then
    v_lost := finish(c.worker, array[c.token], array[null::text], array[1], null,
      jsonb_build_array(jsonb_build_object('token', c.token, 'pos', 0, 'id', p_job, 'value', (p_result - 'status')::text)));
  else
    v_lost := finish(c.worker, array[c.token], array['1'], array[1], jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('token', c.token, 'pos', 0,
      'id', p_job, 'outcome', case when v_status = 'released' then 'release' when v_again then 'retry' else 'fail' end,
      'delay_ms', case when v_again then 1000 end, 'type', coalesce('SQLSTATE ' || (p_result ->> 'sqlstate'), 'refused'),
      'message', p_result ->> 'error', 'stack', p_result ->> 'context'))));
  end if;
  if v_lost <> '{}' then
    raise exception 'posthouse: broker_run: job % is no longer this session''s: nothing was done', p_job
      using errcode = '55000', hint = 'It was taken back because the session was silent for ten minutes.';
  end if;
  return jsonb_build_object('id', p_job) || p_result;
end $$;

create or replace function broker_run(job_id bigint) returns jsonb
language sql volatile
begin atomic
  select broker_finish(h.job, broker_execute(h.language, h.statement, h.facts, h.problem)) from broker_held(job_id) h;
end;
comment on function broker_run(bigint) is
'Runs a job that this session claimed with broker_get, in the caller''s transaction and with the caller''s rights and settings, and finishes it there: effects and completion commit or roll back together. Returns {"id", "status": "succeeded", "row_count"}; {"id", "status": "failed", "error", "sqlstate", "context"}, when what it did is undone; or {"id", "status": "released", "error"} for a job of another role than the one that you logged in as, which goes back for whoever may run it.';

-- A job can only be gone when the partition that it was appended to is.
create or replace function prune_broker_jobs(p_before timestamptz, p_limit int) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  v_n bigint;
begin
  delete from broker_job b where b.job = any(array(select q.job from broker_job q where q.at < p_before
    and not exists (select from job j where j.id = q.job) and not exists (select from deferred d where d.id = q.job)
    and not exists (select from dead d where d.id = q.job) and not exists (select from parked p where p.id = q.job)
    order by q.at limit p_limit)) and not in_limbo();
  get diagnostics v_n = row_count;
  return v_n;
end $$;
