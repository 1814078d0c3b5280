-- Groups of rights, and the broker's names in a schema where an unqualified call finds them.

-- Who may do what: execute a function (all of that name), or these rights on a relation, on all of it or on columns. A name
-- that this version does not have counts for nothing.
create or replace function role_rights() returns table (grp text, what text, object text, rights text, columns text[])
language sql immutable set search_path from current as $$
  select 'producer', 'function', unnest('{enqueue,enqueue_bytes,enqueue_many,enqueue_outcome,enqueue_many_outcome,open_lane,open_lane_for,reserve_ids,ring,
    outcome,watch_jobs,unwatch_jobs,done_channel,broker_add_job,broker_enqueue,broker_set}'::text[]), 'execute', null::text[]
  union all select 'producer', 'relation', 'job', 'insert', '{id,lane,payload,payload_bytes,headers,options}'
  union all select 'worker', 'function', unnest('{register_worker,declare_limits,declare_kinds,lane_turns,beat,look,lanes_of_worker,wake_one,claim,finish,finish_and_claim,
    finish_and_claim_one,with_time_left,wake,complete,complete_with,report_progress,give_back,leave,keep,peers,bell,unbell,fence,fence_passed,channel,lead,duties,drain_duties,
    cancels_of,limit_bell,buffer_bell,measure,rotate_ahead,droppable,detached,drop_detached,unfrozen,prune,sync_schedules,schedule_problems,
    broker_start,broker_get,broker_run,broker_held,broker_execute,broker_finish,broker_set,
    broker_register_instance,broker_ping_instance,broker_shutdown_instance}'::text[]), 'execute', null
  union all select 'worker', 'relation', unnest('{meta,lane,partition,broker_queueinstance}'::text[]), 'select', null
  union all select 'admin', 'function', unnest('{adopt,cancel,retry,delete_job,retry_dead,purge_dead,counts,stats,backlog,status,doctor,ahead,xmin_holders,outcome,
    watch_jobs,unwatch_jobs,done_channel,pause_queue,resume_queue,set_queue_priority,pause_kind,resume_kind,pause_key,resume_key,key_list,key_state,key_of_job,change_limit,set_kind,reset_kind,limits_on,
    set_limit,reset_limit,limit_list,hold_kind,hold_key,ping_workers,waits_for,parents_in,measure,add_schedule,add_schedule_json,set_schedule,remove_schedule,pause_schedule,resume_schedule,run_schedule,
    sync_schedules,schedule_problems,preview_schedule,preview_cron,is_claimed,held,batch_of,broker_save_schedule,broker_remove_schedule,broker_role_problem,
    broker_shutdown_instance}'::text[]), 'execute', null
  union all select 'admin', 'relation', c.relname::text, case when c.relname = 'broker_schedule' then 'select, insert, update, delete' else 'select' end, null
    from pg_catalog.pg_class c where c.relnamespace = quote_ident(current_schema())::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
      and c.relname !~ '^job_[0-9]{8}'
  union all select 'reader', 'function', unnest('{counts,stats,backlog,status,doctor,ahead,xmin_holders,key_list,limit_list,waits_for,parents_in,measure,is_claimed,held,batch_of}'::text[]), 'execute', null
  union all select 'reader', 'relation', unnest('{meta,worker,heartbeat,leader,queue,kind,lane,lane_seen,broker_queueinstance}'::text[]), 'select', null
  -- Never what a job carries, brings back or fails with.
  union all select 'reader', 'relation', c.relname::text, 'select', array_agg(a.attname::text order by a.attnum)
    from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = quote_ident(current_schema())::regnamespace and c.relname in ('jobs', 'schedules', 'broker_jobs', 'broker_schedule')
      and a.attname not in ('payload', 'payload_bytes', 'headers', 'last_error', 'execute_str', 'error')
    group by c.relname
$$;
comment on function role_rights() is 'The rights of the groups that install_roles() makes: producer, worker, admin and reader; owner owns everything. Siblings: none contains another.';

-- Gives one group what it is to have in the schema p_in: ours, or (broker_…) the one where the names are published.
create or replace function grant_group(p_group text, p_in text) returns void
language plpgsql set search_path from current as $$
declare
  v_role text := (select m.value from meta m where m.key = 'roles') || '_' || p_group;
  v_ours text := current_schema();
  r record;
  v_functions text;
begin
  execute format('grant usage on schema %I to %I', p_in, v_role);
  if p_in = v_ours then
    execute format('revoke all on all tables in schema %I from %I', p_in, v_role);
    execute format('revoke all on all routines in schema %I from %I', p_in, v_role);
    execute format('revoke all on all sequences in schema %I from %I', p_in, v_role);
  end if;
  select string_agg(p.oid::regprocedure::text, ', ' order by p.oid) into v_functions
    from pg_catalog.pg_proc p join role_rights() q on q.grp = p_group and q.what = 'function' and q.object = p.proname
    where p.pronamespace = quote_ident(p_in)::regnamespace and (p_in = v_ours or p.proname like 'broker\_%');
  if v_functions is not null then execute format('grant execute on function %s to %I', v_functions, v_role); end if;
  for r in select q.* from role_rights() q join pg_catalog.pg_class c on c.relname = q.object and c.relnamespace = quote_ident(p_in)::regnamespace
      where q.grp = p_group and q.what = 'relation' and (p_in = v_ours or q.object like 'broker\_%') loop
    execute format('grant %s%s on %I.%I to %I', r.rights,
      case when r.columns is not null then ' (' || (select string_agg(quote_ident(c), ', ') from unnest(r.columns) c) || ')' else '' end, p_in, r.object, v_role);
  end loop;
end $$;

create or replace function grant_roles() returns void
language plpgsql set search_path from current as $$
declare
  v_owner text := (select m.value from meta m where m.key = 'roles') || '_owner';
  v_published text := (select m.value from meta m where m.key = 'broker_schema');
  o record;
begin
  if v_owner is null then return; end if;
  if not pg_catalog.pg_has_role(current_user, v_owner, 'MEMBER') then execute format('grant %I to current_user', v_owner); end if;
  for o in
    select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as word, c.oid::regclass::text as name
      from pg_catalog.pg_class c where c.relnamespace = quote_ident(current_schema())::regnamespace and c.relkind in ('r', 'p', 'v', 'S')
        and pg_catalog.pg_get_userbyid(c.relowner) <> v_owner
        and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'i' and c.relkind = 'S')
    union all
    select 'routine', p.oid::regprocedure::text from pg_catalog.pg_proc p
      where p.pronamespace = quote_ident(current_schema())::regnamespace and pg_catalog.pg_get_userbyid(p.proowner) <> v_owner
  loop
    execute format('alter %s %s owner to %I', o.word, o.name, v_owner);
  end loop;
  if (select pg_catalog.pg_get_userbyid(n.nspowner) from pg_catalog.pg_namespace n where n.nspname = current_schema()) <> v_owner then
    if not pg_catalog.has_database_privilege(v_owner, current_database(), 'create') then
      execute format('grant create on database %I to %I', current_database(), v_owner);
    end if;
    execute format('alter schema %I owner to %I', current_schema(), v_owner);
  end if;
  perform grant_group(g, current_schema()::text) from unnest('{producer,worker,admin,reader}'::text[]) g;
  if v_published is not null then perform grant_group(g, v_published) from unnest('{producer,worker,admin,reader}'::text[]) g; end if;
end $$;
comment on function grant_roles() is 'Makes owners and rights what role_rights() says, where install_roles() was called; every install and upgrade does.';

create or replace function install_roles(prefix text default null) returns void
language plpgsql set search_path from current as $$
declare
  v_prefix text := coalesce(install_roles.prefix, (select m.value from meta m where m.key = 'roles'), current_schema());
  v_group text;
begin
  if octet_length(v_prefix) not between 1 and 48 or v_prefix ~ '^pg_' then
    raise exception 'posthouse: prefix is %', quote_literal(left(v_prefix, 100)) using errcode = '22023', hint = 'The names of the groups begin with it: 1 to 48 bytes, not pg_….';
  end if;
  foreach v_group in array '{owner,producer,worker,admin,reader}'::text[] loop
    if not exists (select from pg_catalog.pg_roles r where r.rolname = v_prefix || '_' || v_group) then
      begin
        execute format('create role %I nologin', v_prefix || '_' || v_group);
      exception when duplicate_object or unique_violation then
        null;  -- another database's install was quicker
      end;
    end if;
  end loop;
  insert into meta values ('roles', v_prefix) on conflict (key) do update set value = excluded.value;
  perform grant_roles();
end $$;
comment on function install_roles(text) is
'Makes the groups PREFIX_owner (owns the schema and all in it), PREFIX_producer, PREFIX_worker, PREFIX_admin and PREFIX_reader, none of which can log in, where they are not there yet, and gives them their rights (role_rights). prefix: 1 to 48 bytes, default the schema''s name. Needs a superuser, or a role with CREATEROLE that owns the schema and the database. Groups belong to the whole server: databases that use one prefix share their members.';

create or replace function broker_names() returns text[]
language sql immutable parallel safe
return '{broker_add_job,broker_get,broker_run,broker_set,broker_register_instance,broker_ping_instance,broker_shutdown_instance,broker_jobs,broker_queueinstance,broker_schedule}'::text[];

create or replace function broker_unpublish() returns void
language plpgsql set search_path from current as $$
declare
  v_schema text := (select m.value from meta m where m.key = 'broker_schema');
  v_mark text := 'of posthouse schema ' || current_schema();
  o record;
begin
  for o in
    select 'function ' || p.oid::regprocedure::text as name from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      where n.nspname = v_schema and p.proname = any(broker_names()) and obj_description(p.oid, 'pg_proc') like '%' || v_mark
    union all
    select 'view ' || c.oid::regclass::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = v_schema and c.relkind = 'v' and c.relname = any(broker_names()) and obj_description(c.oid, 'pg_class') like '%' || v_mark
  loop
    execute 'drop ' || o.name;
  end loop;
  delete from meta m where m.key = 'broker_schema';
end $$;
comment on function broker_unpublish() is 'Takes back what broker_publish() did.';

create or replace function broker_publish(target text) returns void
language plpgsql set search_path from current as $$
declare
  v_ours text := current_schema();
  v_mark text := ' of posthouse schema ' || current_schema();
  f record;
begin
  if target is null or target = v_ours or not exists (select from pg_catalog.pg_namespace n where n.nspname = target) then
    raise exception 'posthouse: broker schema is %', coalesce(quote_literal(left(target, 100)), 'null')
      using errcode = '22023', hint = 'It is another schema than posthouse''s own, and exists: public, say.';
  end if;
  perform broker_unpublish();
  select 'function ' || p.oid::regprocedure::text as name into f from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = target and p.proname = any(broker_names())
  union all
  select 'relation ' || c.oid::regclass::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = target and c.relname = any(broker_names()) limit 1;
  if found then
    raise exception 'posthouse: schema % has its own %', quote_literal(target), f.name
      using errcode = '42710', hint = 'Rename or drop it, or choose another schema with --broker-schema.';
  end if;
  insert into meta values ('broker_schema', target);
  for f in select c.relname, obj_description(c.oid, 'pg_class') as said from pg_catalog.pg_class c
      where c.relnamespace = quote_ident(v_ours)::regnamespace and c.relkind in ('v', 'r') and c.relname = any(broker_names()) order by 1 loop
    execute format('create view %I.%I as select * from %I.%I', target, f.relname, v_ours, f.relname);
    execute format('comment on view %I.%I is %L', target, f.relname, concat(f.said, E'\nThis is ', f.relname, v_mark));
  end loop;
  for f in select p.oid, p.proname, p.proretset, p.pronargs, pg_get_function_arguments(p.oid) as arguments, pg_get_function_identity_arguments(p.oid) as identity,
        pg_get_function_result(p.oid) as result, obj_description(p.oid, 'pg_proc') as said
      from pg_catalog.pg_proc p where p.pronamespace = quote_ident(v_ours)::regnamespace and p.proname = any(broker_names()) order by 2 loop
    execute format('create function %I.%I(%s) returns %s language sql as %L', target, f.proname, f.arguments, f.result,
      format('select %s %I.%I(%s)', case when f.proretset then '* from' else '' end, v_ours, f.proname,
        (select string_agg('$' || i, ', ' order by i) from generate_series(1, f.pronargs) i)));
    execute format('comment on function %I.%I(%s) is %L', target, f.proname, f.identity, concat(f.said, E'\nThis is ', f.proname, v_mark));
  end loop;
  perform grant_roles();
end $$;
comment on function broker_publish(text) is
'Puts broker_add_job and the other names of the broker into another schema, public say, where an unqualified call finds them: functions and views that hand on to ours, with the caller''s rights (views: with the groups'').';
