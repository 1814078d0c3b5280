-- Dependencies: a blocked job waits in deferred, with a row in dependency for each job that it waits for and that has not
-- ended. Whoever ends a job releases its children in the same transaction. An enqueue that names a job leaves a note for
-- the leader, who looks at the job once it can be sure that nobody ends it unaware of its children.

-- Whether any job waits for another, or is just being enqueued to do so. Once it is false, whoever enqueues such a job
-- will find this call's transaction among those that were open: nothing is missed, as long as this transaction has its
-- id by now. An expression, which plpgsql evaluates without a query.
create or replace function has_dependents() returns boolean
language sql volatile
return pg_sequence_last_value('dependency_mark'::regclass) is not null;

create or replace function dependency_lock() returns int
language sql immutable parallel safe
return (hashtext('dependencies') & -4) | 3;

-- The options of a job that depends on others; null when it depends on none.
create or replace function depends_options(p_depends_on bigint[], p_all_ok boolean) returns jsonb
language plpgsql immutable set search_path from current as $$
begin
  if p_depends_on is null then
    if p_all_ok is false then
      raise exception 'posthouse: depends_on_all_ok is given without depends_on'
        using errcode = '22023', hint = 'Give depends_on as well, or leave it out.';
    end if;
    return null;
  end if;
  if cardinality(p_depends_on) > 1000 then
    raise exception 'posthouse: depends_on has % jobs', cardinality(p_depends_on)
      using errcode = '54000', hint = 'depends_on has at most 1000 jobs; let jobs in between wait for a thousand each.';
  end if;
  if array_position(p_depends_on, null) is not null then
    raise exception 'posthouse: depends_on has a null' using errcode = '22004', hint = 'depends_on is an array of ids of jobs.';
  end if;
  if cardinality(p_depends_on) = 0 then return null; end if;
  return jsonb_build_object('depends_on', to_jsonb(p_depends_on))
    || case when p_all_ok is false then jsonb_build_object('depends_on_all_ok', false) else '{}' end;
end $$;

-- How a job stands, for those that wait for it: open, ok (it succeeded), dead, or gone: nobody knows any more.
create or replace function parent_state(p_job bigint) returns text
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  v_state text := key_state(p_job);
begin
  return case v_state when 'done' then 'ok' when 'dead' then 'dead'
    when 'gone' then case when exists (select from result r where r.job = p_job) then 'ok' else 'gone' end
    else 'open' end;
end $$;

-- For whoever enqueues the job p_id: null, it waits for nobody; blocked; else why it is cancelled at once.
create or replace function wait_for_parents(p_id bigint, p_options jsonb) returns text
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_open bigint[];
  v_dead bigint;
  v_gone bigint;
  v_xid xid8 := pg_current_xact_id();
begin
  with s as materialized (select u.id, parent_state(u.id) as state from (select distinct i::bigint as id from jsonb_array_elements_text(p_options -> 'depends_on') i) u)
  select array_agg(s.id) filter (where s.state = 'open'), min(s.id) filter (where s.state = 'dead'), min(s.id) filter (where s.state = 'gone')
    into v_open, v_dead, v_gone from s;
  if v_gone is not null then perform refuse_parent(v_gone); end if;
  if v_dead is not null and not p_options ? 'depends_on_all_ok' then return parent_reason(v_dead); end if;
  if v_open is null then return null; end if;
  -- Until the commit, so that nobody takes the mark back before the rows are there to be seen.
  perform pg_advisory_xact_lock_shared(key_space(), dependency_lock());
  if not has_dependents() then perform nextval('dependency_mark'); end if;
  insert into dependency (child, parent) select p_id, u.id from unnest(v_open) u(id);
  -- Not for jobs of this transaction, which nobody can end before it commits, and once for a job.
  insert into dependency_check (parent) select u.id from unnest(v_open) u(id)
    -- Not by an equality of txids: the index that begins with the lane would be read from end to end.
    where not exists (select from job j where j.id = u.id and j.txid is not distinct from v_xid)
      and not exists (select from deferred d where d.id = u.id and d.xmin = v_xid::xid)
      and not exists (select from dependency_check c where c.parent = u.id and c.fence is null and c.xmin = v_xid::xid);
  return 'blocked';
end $$;

create or replace function refuse_parent(p_job bigint) returns void
language plpgsql immutable set search_path from current as $$
begin
  raise exception 'posthouse: depends_on has the job %, which is not known', p_job
    using errcode = '22023', hint = 'A job can wait for jobs that are enqueued already, by a transaction that has committed or by this one. Those that have ended are known until they are deleted or their retention is over: leave such a one out.';
end $$;

create or replace function parent_reason(p_job bigint) returns text
language sql stable security definer set search_path from current as $$
  select format('job %s, on which it depends, %s', p_job, coalesce((
    select case d.state when 'failed' then 'failed' when 'expired' then 'expired' else 'was cancelled' end from dead d where d.id = p_job), 'is gone'))
$$;

-- The rows of blocked jobs, locked; without those that somebody else keeps locked (with p_wait: for longer than 200 ms).
create or replace function lock_blocked(p_ids bigint[], p_wait boolean) returns bigint[]
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '200ms' as $$
begin
  if not p_wait then
    return array(select d.id from deferred d where d.id = any(p_ids) and d.state = 'blocked' order by d.id for update skip locked);
  end if;
  return array(select d.id from deferred d where d.id = any(p_ids) and d.state = 'blocked' order by d.id for update);
exception when lock_not_available or deadlock_detected then
  return array(select d.id from deferred d where d.id = any(p_ids) and d.state = 'blocked' order by d.id for update skip locked);
end $$;

-- For whoever has ended jobs (and has its transaction id): their children become available, when they wait for nobody
-- else, or are cancelled, with their own children and so on. Jobs that have not ended are passed over, so it does no harm
-- to call this again, or for too many. p_ok: how those have ended of which nothing is known any more. At most p_limit
-- children; what is left, and what others keep locked, is noted for the leader. Returns how many ceased to be blocked.
create or replace function release_children(p_jobs bigint[], p_ok boolean default null, p_limit int default 1000, p_wait boolean default true) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_left int := p_limit;
  v_next bigint[] := p_jobs;
  v_ended bigint[];
  v_ok boolean[];
  v_parents bigint[];
  v_children bigint[];
  v_held bigint[];
  v_missed bigint[];
  v_free bigint[];
  v_lanes bigint[];
  v_twins bigint[];
  v_n bigint;
  v_done bigint := 0;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    -- Its snapshot may be older than the children.
    insert into dependency_check (parent, ok) select distinct i, p_ok from unnest(p_jobs) i;
    return 0;
  end if;
  loop
    with u as materialized (
        select distinct i as id from unnest(v_next) i where exists (select from dependency d where d.parent = i)),
      s as materialized (select u.id, parent_state(u.id) as state from u)
    select array_agg(s.id order by s.id), array_agg(s.state = 'ok' or (s.state = 'gone' and coalesce(p_ok, false)) order by s.id) into v_ended, v_ok
      from s where s.state <> 'open';
    if v_ended is null then return v_done; end if;
    if v_left <= 0 then
      insert into dependency_check (parent, ok) select * from unnest(v_ended, v_ok);
      return v_done;
    end if;
    select array_agg(c.parent), array_agg(c.child) into v_parents, v_children from (
      select d.parent, d.child from unnest(v_ended) u(id), lateral (
        select q.parent, q.child from dependency q where q.parent = u.id order by q.child limit v_left) d
      limit v_left) c;
    v_held := lock_blocked(v_children, p_wait);
    -- What is read from here on is newer than the locks. Whoever keeps a child locked may be taking away its last
    -- other parent; that the leader looks again is noted.
    v_missed := array(select d.id from deferred d where d.state = 'blocked' and d.id = any(array(
      select unnest(v_children) except select unnest(v_held))));
    delete from dependency d using unnest(v_parents, v_children) u(parent, child)
      where d.parent = u.parent and d.child = u.child and u.child <> all(v_missed);
    insert into dependency_check (parent, ok)
      select u.id, u.ok from unnest(v_ended, v_ok) u(id, ok) where exists (select from dependency d where d.parent = u.id);
    -- Cancelled: their parent is dead and they wanted success.
    perform set_config('posthouse.releasing', 'on', true);
    with b as materialized (
        select u.child, min(u.parent) as parent from unnest(v_parents, v_children) u(parent, child)
        where u.parent = any(array(select e.id from unnest(v_ended, v_ok) e(id, ok) where not e.ok)) and u.child <> all(v_missed) group by 1),
      gone as (
        delete from deferred d using b where d.id = b.child and d.state = 'blocked' and not d.options ? 'depends_on_all_ok' returning d.*, b.parent),
      dies as (
        insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
        select g.id, g.lane, 'cancelled', clock_timestamp(), g.queued_at, g.attempt, parent_reason(g.parent), g.payload, g.payload_bytes, g.headers, g.options
        from gone g order by g.id)
    select array_agg(g.id), count(*) into v_next, v_n from gone g;
    v_done := v_done + v_n;
    -- Released: they wait for nobody any more.
    v_free := array(select c.id from unnest(v_held) c(id) where not exists (select from dependency d where d.child = c.id));
    update deferred d set state = 'scheduled', due_at = (d.options ->> 'run_at')::timestamptz, options = d.options - 'run_at'
      where d.id = any(v_free) and d.state = 'blocked' and (d.options ->> 'run_at')::timestamptz > clock_timestamp();
    get diagnostics v_n = row_count;
    v_done := v_done + v_n;
    select array_agg(l.lane), array_agg(express_of(l.lane)) into v_lanes, v_twins from (
      select distinct d.lane from deferred d where d.id = any(v_free) and d.state = 'blocked' order by 1) l;
    with gone as (
        delete from deferred d where d.id = any(v_free) and d.state = 'blocked'
        returning d.*, is_expired(d.options, utc_text(clock_timestamp())) as late),
      dies as (
        insert into dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)
        select g.id, g.lane, 'expired', clock_timestamp(), g.queued_at, g.attempt, end_reason('expired'), g.payload, g.payload_bytes, g.headers, g.options
        from gone g where g.late),
      back as (
        insert into job (id, lane, attempt, payload, payload_bytes, headers, options)
        select g.id, t.twin, g.attempt, g.payload, g.payload_bytes, g.headers, g.options - 'run_at' || jsonb_build_object('enqueued_at', g.queued_at)
        from gone g join unnest(v_lanes, v_twins) t(lane, twin) on t.lane = g.lane where not g.late order by g.id)
    select count(*), v_next || array_agg(g.id) filter (where g.late) into v_n, v_next from gone g;
    v_done := v_done + v_n;
    perform set_config('posthouse.releasing', 'off', true);
    perform ring(u.twin) from (select distinct t.twin from unnest(v_twins) t(twin)) u;
    v_left := v_left - cardinality(v_children);
    if v_next is null then return v_done; end if;
  end loop;
end $$;
comment on function release_children(bigint[], boolean, int, boolean) is
'Releases or cancels the jobs that waited for these, as far as these have ended; those that have not are passed over. Returns how many ceased to be blocked.';

-- The share of finish(): members that have ended, by this call or an earlier one.
create or replace function release_acked(p_worker bigint, p_tokens bigint[], p_acked text[]) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  perform release_children(array(
    select u.id from unnest(p_tokens, p_acked) a(token, acked)
    join batch b on b.worker = p_worker and b.token = any(p_tokens) and b.token = a.token
    cross join lateral unnest(b.ids) with ordinality u(id, ord)
    where a.acked is null or substr(a.acked, u.ord::int, 1) = '1'));
end $$;

-- Jobs that end otherwise than by success, wherever that is decided.
create or replace function children_of_dead() returns trigger
language plpgsql security definer set search_path from current as $$
begin
  delete from dependency d where d.child = new.id;
  if current_setting('posthouse.releasing', true) = 'on' then return null; end if;  -- it goes on with the children itself
  if current_setting('transaction_isolation') = 'read committed' and not exists (select from dependency d where d.parent = new.id) then return null; end if;
  perform release_children(array[new.id], false);
  return null;
end $$;

create or replace trigger dead_children after insert on dead
  for each row when (has_dependents()) execute function children_of_dead();

-- The leader's share, one round: jobs that were noted. One that has not ended is looked at once more when all
-- transactions are over that may have been ending it without having seen its children.
create or replace function tend_children(p_limit int default 5000) returns bigint
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  v_xmin xid8;
  v_all bigint := 0;
  v_n bigint;
  r record;
begin
  if not has_dependents() then return 0; end if;
  loop
    v_n := 0;
    v_xmin := pg_snapshot_xmin(pg_current_snapshot());
    for r in select c.ctid, c.parent, c.ok, c.fence from dependency_check c where c.fence is null or c.fence <= v_xmin limit 1000 for update skip locked loop
      exit when v_all + v_n >= p_limit;
      if parent_state(r.parent) = 'open' then
        if r.fence is null and r.ok is null then
          update dependency_check c set fence = pg_snapshot_xmax(pg_current_snapshot()) where c.ctid = r.ctid;
        else
          delete from dependency_check c where c.ctid = r.ctid;
        end if;
      else
        delete from dependency_check c where c.ctid = r.ctid;
        v_n := v_n + release_children(array[r.parent], r.ok, p_wait => false);
      end if;
    end loop;
    v_all := v_all + v_n;
    exit when v_n = 0 or v_all >= p_limit;
  end loop;
  return v_all;
end $$;
comment on function tend_children(int) is 'Looks at jobs that were noted because others wait for them; releases or cancels about p_limit children at most and returns how many. Part of duties().';

-- The share of prune(), as its last step: of the jobs that others wait for some are looked at, p_limit a call and on from
-- where the last one ended (meta.dependency_pruned), should one have ended unnoticed; and when nobody waits, the mark goes.
create or replace function prune_dependencies(p_limit int) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set jit = off as $$
declare
  v_from bigint := coalesce((select value::bigint from meta where key = 'dependency_pruned'), 0);
  v_last bigint := v_from;
  v_id bigint;
begin
  if not has_dependents() then return; end if;
  for i in 1..least(p_limit, 500) loop
    select d.parent into v_id from dependency d where d.parent > v_last order by d.parent limit 1;
    if not found then
      v_last := 0;
      exit;
    end if;
    v_last := v_id;
    if parent_state(v_id) <> 'open' and not exists (select from dependency_check c where c.parent = v_id) then
      insert into dependency_check (parent) values (v_id);
    end if;
  end loop;
  if v_last <> v_from then
    insert into meta values ('dependency_pruned', v_last::text) on conflict (key) do update set value = excluded.value;
  end if;
  if v_last <> 0 or not pg_try_advisory_xact_lock(key_space(), dependency_lock()) then return; end if;
  -- Nobody is enqueuing one, and what has been committed is seen from here on.
  if not exists (select from dependency) and not exists (select from dependency_check) then
    perform setval('dependency_mark', 1, false);
  end if;
end $$;

create or replace function waits_for(id bigint, most int default 1000) returns table (parent bigint, state text, kind text)
language sql stable security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
  select d.parent, j.state, j.kind from dependency d
  left join lateral (select o.state, (select v.kind from jobs v where v.id = d.parent) as kind from outcome(d.parent) o) j on true
  where d.child = waits_for.id order by d.parent limit waits_for.most
$$;
comment on function waits_for(bigint, int) is 'The jobs that have not ended and that a blocked job waits for, with their state and kind; at most `most`, by id.';

-- The checks of enqueue_many.
create or replace function check_many_depends(jobs jsonb) returns void
language plpgsql security definer set search_path from current set jit = off as $$
declare
  r record;
  v_hint text;
begin
  for r in select i - 1 as i, e from jsonb_array_elements(jobs) with ordinality a(e, i)
    where e ?| array['depends_on', 'depends_on_elements', 'depends_on_all_ok']
  loop
    begin
      if jsonb_typeof(r.e -> 'depends_on') not in ('array', 'null') or jsonb_path_exists(r.e, 'strict $.depends_on[*] ? (@.type() != "number")', silent => true) then
        raise exception 'posthouse: depends_on is %', r.e -> 'depends_on' using errcode = '22023', hint = 'depends_on is an array of ids of jobs.';
      end if;
      if jsonb_typeof(r.e -> 'depends_on_elements') not in ('array', 'null')
         or jsonb_path_exists(r.e, 'strict $.depends_on_elements[*] ? (@.type() != "number")', silent => true)
         or jsonb_path_exists(r.e, 'strict $.depends_on_elements[*] ? (@ < 0 || @ >= $i || @ != @.floor())', jsonb_build_object('i', r.i), true) then
        raise exception 'posthouse: depends_on_elements is %', r.e -> 'depends_on_elements'
          using errcode = '22023', hint = 'depends_on_elements is an array of indexes, from 0, of earlier elements of this call.';
      end if;
      if jsonb_typeof(r.e -> 'depends_on_all_ok') not in ('boolean', 'null') then
        raise exception 'posthouse: depends_on_all_ok is %', r.e -> 'depends_on_all_ok' using errcode = '22023', hint = 'depends_on_all_ok is true or false.';
      end if;
      perform depends_options(
        case when r.e ?| array['depends_on', 'depends_on_elements'] then
          array(select x::bigint from jsonb_array_elements_text(coalesce(nullif(r.e -> 'depends_on', 'null'), '[]')) x)
          || array(select x::bigint from jsonb_array_elements_text(coalesce(nullif(r.e -> 'depends_on_elements', 'null'), '[]')) x) end,
        (r.e ->> 'depends_on_all_ok')::boolean);
    exception when others then
      get stacked diagnostics v_hint = pg_exception_hint;
      raise exception 'posthouse: enqueue_many: element %: %', r.i, regexp_replace(sqlerrm, '^posthouse: ', '') using errcode = sqlstate, hint = v_hint;
    end;
  end loop;
end $$;

-- The share of insert_many: elements that depend on jobs, in order, so that an earlier element is there when a later one
-- names it.
create or replace function insert_dependent(jobs jsonb, p_ids bigint[], p_status text[]) returns void
language plpgsql security definer set search_path from current set jit = off as $$
declare
  r record;
  v_parents bigint[];
  v_time jsonb;
begin
  -- Named by element; each job that is named is looked at once.
  for r in
    with n as (
        select x::bigint as parent, min(i) - 1 as i from rows from (jsonb_array_elements(jobs), unnest(p_status)) with ordinality a(e, status, i),
          jsonb_array_elements_text(coalesce(nullif(e -> 'depends_on', 'null'), '[]')) x
        where status = 'created' and e ? 'depends_on' group by 1)
    select n.i, n.parent from n where parent_state(n.parent) = 'gone' order by n.i limit 1
  loop
    begin
      perform refuse_parent(r.parent);
    exception when invalid_parameter_value then
      raise exception 'posthouse: enqueue_many: element %: depends_on has the job %, which is not known', r.i, r.parent
        using errcode = '22023', hint = 'It may name earlier elements of this call by depends_on_elements.';
    end;
  end loop;
  for r in select i, id, e from rows from (jsonb_array_elements(jobs), unnest(p_ids), unnest(p_status)) with ordinality a(e, id, status, i)
    where status = 'created' and e ?| array['depends_on', 'depends_on_elements'] order by i
  loop
    v_parents := array(select x::bigint from jsonb_array_elements_text(coalesce(nullif(r.e -> 'depends_on', 'null'), '[]')) x)
      || array(select p_ids[x::int + 1] from jsonb_array_elements_text(coalesce(nullif(r.e -> 'depends_on_elements', 'null'), '[]')) x);
    v_time := case when r.e ?| array['expires_at', 'expires_in', 'timeout'] then time_options((r.e ->> 'expires_at')::timestamptz,
      (r.e ->> 'expires_in')::interval, (r.e ->> 'timeout')::interval, null, null) end;
    perform enqueue_one(r.e ->> 'kind', r.e -> 'payload', decode(r.e ->> 'payload_bytes', 'base64'), coalesce(r.e ->> 'queue', 'default'),
      coalesce((r.e ->> 'priority')::int, 0), (r.e ->> 'run_at')::timestamptz,
      coalesce((r.e ->> 'delay')::interval, (r.e ->> 'delay_ms')::bigint * interval '1 millisecond'),
      nullif(r.e -> 'headers', 'null'), (r.e ->> 'max_attempts')::int, r.id,
      nullif(coalesce(key_options(r.e ->> 'dedupe_key', coalesce(r.e ->> 'dedupe_scope', 'unfinished')), '{}')
        || coalesce(job_options(v_time, r.e ->> 'key', v_parents, coalesce((r.e ->> 'depends_on_all_ok')::boolean, true)), '{}'), '{}'));
  end loop;
end $$;
