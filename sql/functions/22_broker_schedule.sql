-- Schedules of SQL jobs: a view to edit them by, over the engine's schedules named broker:ID.

create or replace function broker_fired(p_schedule text, p_job bigint) returns void
language plpgsql security definer set search_path from current as $$
begin
  insert into broker_job (job, name, language, statement, run_as, made_by, own, user_login, schedule)
    select p_job, c.name, c.language, c.statement, c.run_as, c.made_by, c.own, c.user_login, c.id from broker_cron c where c.schedule = p_schedule
    on conflict (job) do nothing;
end $$;
comment on function broker_fired(text, bigint) is 'Makes the job that a schedule of SQL jobs has just enqueued one of the broker''s.';

create or replace view broker_schedule as
  select c.id, c.name, s.cron, s.time_zone as timezone, c.statement as execute_str, substring(s.queue from 8)::int as job_queue, s.priority as job_priority,
    c.language as job_language, c.run_as, c.user_login, s.enabled and not s.paused as enabled, s.last_fired_at as last_run_at, s.next_at as next_run_at
  from broker_cron c join schedule s on s.name = c.schedule;
comment on view broker_schedule is
'Schedules of SQL jobs; edit them by INSERT, UPDATE and DELETE. cron: five fields, or @daily and the like. Default: timezone UTC, job_queue 1, job_priority 0, job_language sql, run_as the role that you logged in as, enabled true. id, last_run_at and next_run_at are the engine''s. Whoever changes what runs, as whom or for whom must be a member of run_as, as with broker_add_job. A tick that comes late is fired once (misfire latest); set_schedule(''broker:ID'', …) changes that and what else schedules have.';

-- One row as it shall be. p_id null: a new one. Returns the id. session_user is who edits.
create or replace function broker_save_schedule(p_id bigint, p_row jsonb, p_own boolean) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  c broker_cron;
  o broker_cron;
  v_id bigint := p_id;
  v_queue int;
  v_priority int;
  v_definition jsonb;
begin
  perform lock_schedules();
  c.name := p_row ->> 'name';
  c.statement := p_row ->> 'execute_str';
  c.language := coalesce(p_row ->> 'job_language', 'sql');
  c.run_as := p_row ->> 'run_as';
  c.user_login := p_row ->> 'user_login';
  v_queue := coalesce((p_row ->> 'job_queue')::int, 1);
  v_priority := coalesce((p_row ->> 'job_priority')::int, 0);
  if c.run_as is null and c.language in ('sql', 'plpgsql') then c.run_as := session_user; end if;
  if p_row ->> 'cron' is null then
    raise exception 'posthouse: cron is null' using errcode = '22004', hint = 'cron has five fields, for example 0 3 * * * for every night at three.';
  end if;
  select * into o from broker_cron q where q.id = p_id;
  c.made_by := session_user;
  c.own := false;
  if found and (c.statement, c.language, c.run_as, c.user_login) is not distinct from (o.statement, o.language, o.run_as, o.user_login) then
    -- When it runs is changed, not what it does: it goes on in the name of who said that.
    c.made_by := o.made_by;
    c.own := o.own;
    if coalesce(length(c.name), 0) not between 1 and 500 then
      raise exception 'posthouse: name has % characters', coalesce(length(c.name)::text, 'no') using errcode = '22023', hint = 'name is a text of 1 to 500 characters.';
    end if;
    if v_queue not between 1 and 9999 then
      raise exception 'posthouse: job_queue is %', v_queue using errcode = '22023', hint = 'job_queue is 1 to 9999.';
    end if;
  else
    perform broker_check(c.name, c.statement, v_queue, v_priority, c.language, c.run_as, c.user_login, p_own);
  end if;
  v_definition := jsonb_build_object('kind', c.language, 'cron', p_row -> 'cron', 'time_zone', coalesce(p_row ->> 'timezone', 'UTC'),
    'queue', 'broker:' || v_queue, 'priority', v_priority, 'enabled', coalesce((p_row ->> 'enabled')::boolean, true),
    'payload', broker_payload(c.name, c.statement, c.language, c.run_as, c.user_login));
  if p_id is null then
    v_id := nextval(pg_get_serial_sequence('broker_cron', 'id'));
    perform add_schedule_json('broker:' || v_id, v_definition);
    insert into broker_cron (id, schedule, name, language, statement, run_as, made_by, own, user_login) overriding system value
      values (v_id, 'broker:' || v_id, c.name, c.language, c.statement, c.run_as, c.made_by, c.own, c.user_login);
  else
    update broker_cron q set (name, language, statement, run_as, made_by, own, user_login) = (c.name, c.language, c.statement, c.run_as, c.made_by, c.own, c.user_login)
      where q.id = p_id;
    perform set_schedule('broker:' || p_id, v_definition);
    if (p_row ->> 'enabled')::boolean and exists (select from schedule s where s.name = 'broker:' || p_id and s.paused) then
      perform resume_schedule('broker:' || p_id);
    end if;
  end if;
  return v_id;
exception when unique_violation then
  raise exception 'posthouse: a schedule named % exists already', quote_literal(left(c.name, 100))
    using errcode = '23505', hint = 'Names in broker_schedule are unique: change that row, or choose another name.';
end $$;

create or replace function broker_remove_schedule(p_id bigint) returns boolean
language plpgsql security definer set search_path from current as $$
begin
  return remove_schedule('broker:' || p_id);
end $$;

-- With the editor''s own rights, as broker_add_job and for the same reason.
create or replace function broker_edit_schedule() returns trigger
language plpgsql set search_path from current as $$
declare
  v_own boolean;
begin
  if tg_op = 'DELETE' then
    if not broker_remove_schedule(old.id) then return null; end if;
    return old;
  end if;
  if tg_op = 'UPDATE' and new.id is distinct from old.id or tg_op = 'INSERT' and new.id is not null then
    raise exception 'posthouse: broker_schedule: id is given' using errcode = '428C9', hint = 'The id is made when the row is inserted and stays.';
  end if;
  if tg_op = 'UPDATE' and (new.last_run_at, new.next_run_at) is distinct from (old.last_run_at, old.next_run_at) then
    raise exception 'posthouse: broker_schedule: last_run_at and next_run_at are not set by hand'
      using errcode = '428C9', hint = 'They follow from cron and timezone; run_schedule(''broker:ID'') runs it once now.';
  end if;
  v_own := coalesce(new.job_language, 'sql') in ('sql', 'plpgsql') and coalesce(new.run_as, session_user) = session_user and current_user = session_user
    and (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user);
  new.id := broker_save_schedule(case when tg_op = 'UPDATE' then old.id end, to_jsonb(new), v_own);
  if v_own then update broker_cron c set own = true where c.id = new.id and c.made_by = session_user; end if;
  select s.* into new from broker_schedule s where s.id = new.id;
  return new;
end $$;

create or replace trigger broker_schedule_edit instead of insert or update or delete on broker_schedule
  for each row execute function broker_edit_schedule();
