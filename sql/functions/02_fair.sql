-- Fairness within a kind. A job of a kind with fair_by goes to a lane of its tenant, the value of the header or the key
-- that fair_by names; lanes of one kind take turns. The first 128 tenants of a queue, kind and priority have a lane each,
-- for ever; the others share 128 lanes by a hash. A job without the value goes where jobs of other kinds go.

-- What counts of a setting: of an operator, else of the workers.
create or replace function kind_setting_of(p_kind text, p_name text) returns text
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
begin
  return (select s.value from kind_setting s where s.kind = p_kind and s.name = p_name order by s.kind desc, s.name desc, s.origin desc limit 1);
end $$;

create or replace function fair_by_of(p_kind text) returns text
language plpgsql stable security definer set search_path from current as $$ begin return kind_setting_of(p_kind, 'fair_by'); end $$;
comment on function fair_by_of(text) is 'What the kind''s jobs are shared out by: key, or header: and its name; null: they are not.';

create or replace function tenant_of(p_kind text, p_headers jsonb, p_key text) returns text
language plpgsql stable security definer set search_path from current as $$
declare
  v_by text;
begin
  if p_headers is null and p_key is null then return null; end if;
  v_by := kind_setting_of(p_kind, 'fair_by');
  return case when v_by = 'key' then p_key when v_by like 'header:%' then p_headers ->> substr(v_by, 8) end;
end $$;
comment on function tenant_of(text, jsonb, text) is 'The value of the header or the key that the kind''s fair_by names; null: it names none, or the job has none.';

-- Which lane a tenant has, by the names of the lane; the caller makes it known when it is new. The answer for a tenant
-- changes once at most: when a transaction that is open holds the last of the lanes of one.
create or replace function share_of_tenant(p_kind text, p_queue text, p_priority int, p_keyed boolean, p_value text) returns text
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  own_lanes constant int := 128;
  shared_lanes constant int := 128;
  v_hash bytea := sha256(convert_to(p_value, 'UTF8'));
  v_own text := '=' || encode(substring(v_hash for 12), 'hex');
  v_lane bigint := share_lane_of(p_queue, p_kind, p_priority, p_keyed, false, v_own);
begin
  if exists (select from lane l where l.lane = v_lane) or exists (select from lane_seen s where s.lane = v_lane) then return v_own; end if;
  -- Once a lane is shared, those of one are all taken.
  if not exists (select from lane l where l.queue = p_queue and l.kind = p_kind and l.priority = p_priority and not l.express and l.keyed = p_keyed
        and l.share >= '#' and l.share < '$')
      and not exists (select from lane_seen s where s.queue = p_queue and s.kind = p_kind and s.priority = p_priority and s.keyed = p_keyed
        and s.share >= '#' and s.share < '$')
      and (select count(*) from (
        select l.share from lane l where l.queue = p_queue and l.kind = p_kind and l.priority = p_priority and not l.express and l.keyed = p_keyed
          and l.share >= '=' and l.share < '>'
        union select s.share from lane_seen s where s.queue = p_queue and s.kind = p_kind and s.priority = p_priority and not s.express and s.keyed = p_keyed
          and s.share >= '=' and s.share < '>') u) < own_lanes then
    return v_own;
  end if;
  return '#' || get_byte(v_hash, 31) % shared_lanes;
end $$;

create or replace function share_of(p_kind text, p_queue text, p_priority int, p_headers jsonb, p_key text) returns text
language plpgsql stable security definer set search_path from current as $$
declare
  v_value text := tenant_of(p_kind, p_headers, p_key);
begin
  return case when v_value is not null then share_of_tenant(p_kind, p_queue, p_priority, p_key is not null, v_value) end;
end $$;

-- For enqueue_many: the lane of each element that has a tenant, in order, null for the others; null when there is none at
-- all. Says whose each is in one statement, so that a change of fair_by meanwhile cannot give a lane that nobody knows.
create or replace function lanes_of_tenants(jobs jsonb) returns bigint[]
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  v_names jsonb[];  -- of each element
  v_known jsonb[] := '{}';
  v_lanes bigint[] := '{}';
  v_share text;
  r record;
begin
  if not exists (select from kind_setting s where s.name = 'fair_by' and s.value is not null)
      or not (jobs @? '$[*].headers' or jobs @? '$[*].key') then
    return null;
  end if;
  select array_agg(jsonb_build_array(e ->> 'kind', coalesce(e ->> 'queue', 'default'), coalesce((e ->> 'priority')::int, 0), e ->> 'key' is not null,
      tenant_of(e ->> 'kind', nullif(e -> 'headers', 'null'), e ->> 'key')) order by i) into v_names
    from jsonb_array_elements(jobs) with ordinality a(e, i);
  for r in select distinct u.n, u.n ->> 0 as kind, u.n ->> 1 as queue, (u.n ->> 2)::int as priority, (u.n ->> 3)::boolean as keyed, u.n ->> 4 as value
    from unnest(v_names) u(n) where u.n ->> 4 is not null
  loop
    v_share := share_of_tenant(r.kind, r.queue, r.priority, r.keyed, r.value);
    v_known := v_known || r.n;
    v_lanes := v_lanes || share_lane_of(r.queue, r.kind, r.priority, r.keyed, false, v_share);
    if not exists (select from lane l where l.lane = v_lanes[cardinality(v_lanes)] and l.queue = r.queue and l.kind = r.kind) then
      perform meet_lane(v_lanes[cardinality(v_lanes)], r.queue, r.kind, r.priority, r.keyed, v_share);
    end if;
  end loop;
  if v_known = '{}' then return null; end if;
  return (select array_agg(k.lane order by u.i) from unnest(v_names) with ordinality u(n, i) left join unnest(v_known, v_lanes) k(n, lane) on k.n = u.n);
end $$;

create or replace function check_kind_setting(p_kind text, p_name text, p_value text) returns void
language plpgsql immutable set search_path from current as $$
begin
  perform check_name('kind', p_kind);
  if p_name = 'weight' then
    if p_value is not null and (p_value !~ '^[0-9]{1,3}$' or p_value::int not between 1 and 100) then
      raise exception 'posthouse: weight is %', left(p_value, 100) using errcode = '22023', hint = 'weight is 1 to 100, null for 1.';
    end if;
  elsif p_name = 'fair_by' then
    if p_value is not null and p_value <> 'key' and (p_value not like 'header:%' or octet_length(p_value) not between 8 and 207) then
      raise exception 'posthouse: fair_by is %', quote_literal(left(p_value, 300)) using errcode = '22023',
        hint = 'fair_by is key, or header: and the name of a header, 1 to 200 bytes; null for none.';
    end if;
  else
    raise exception 'posthouse: kind setting %', coalesce(quote_literal(p_name), 'null') using errcode = '22023', hint = 'Allowed: weight, fair_by.';
  end if;
end $$;

create or replace function set_kind_setting(p_kind text, p_name text, p_value text) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform check_kind_setting(p_kind, p_name, p_value);
  insert into kind_setting (kind, name, origin, value, said_by) values (p_kind, p_name, 'set', p_value, session_user)
    on conflict on constraint kind_setting_pkey do update set value = excluded.value, said_by = excluded.said_by, at = excluded.at;
  perform wake('kinds');
end $$;
comment on function set_kind_setting(text, text, text) is 'One setting of a kind, whatever workers declare, until reset_kind: weight (1 to 100) or fair_by (key, or header: and a name); null: the default, none.';

-- What a worker that starts says of its kinds. The last start wins; one without a value takes the declaration away.
create or replace function declare_kinds(kinds jsonb, said_by text default null) returns table (kind text, name text, old_value text, new_value text, hidden boolean)
language plpgsql security definer set search_path from current as $$
declare
  r record;
  v_old text;
  v_changed boolean := false;
begin
  for r in select q.kind, n.name, case n.name when 'weight' then nullif(q.weight, '1') else q.fair_by end as value
      from jsonb_to_recordset(declare_kinds.kinds) q(kind text, weight text, fair_by text), unnest(array['fair_by', 'weight']) n(name)
      order by q.kind, n.name loop
    perform check_kind_setting(r.kind, r.name, r.value);
    v_old := (select s.value from kind_setting s where s.kind = r.kind and s.name = r.name and s.origin = 'declared');
    continue when v_old is not distinct from r.value;
    if r.value is null then
      delete from kind_setting s where s.kind = r.kind and s.name = r.name and s.origin = 'declared';
    else
      insert into kind_setting (kind, name, origin, value, said_by) values (r.kind, r.name, 'declared', r.value, declare_kinds.said_by)
        on conflict on constraint kind_setting_pkey do update set value = excluded.value, said_by = excluded.said_by, at = excluded.at;
    end if;
    v_changed := true;
    kind := r.kind; name := r.name;
    old_value := coalesce(v_old, 'none');
    new_value := coalesce(r.value, 'none');
    hidden := exists (select from kind_setting s where s.kind = r.kind and s.name = r.name and s.origin = 'set');
    return next;
  end loop;
  if v_changed then perform wake('kinds'); end if;
end $$;
comment on function declare_kinds(jsonb, text) is 'Called by a worker that starts, with an array of {"kind", "weight", "fair_by"} and its name.';

create or replace view kind_settings as
  select distinct on (s.kind, s.name) s.kind, s.name, s.origin, s.value, d.value as declared, s.said_by
  from kind_setting s left join kind_setting d on d.kind = s.kind and d.name = s.name and d.origin = 'declared'
  order by s.kind, s.name, s.origin desc;
comment on view kind_settings is 'weight and fair_by of the kinds that have any: what counts, who said it, and what workers declare.';

-- Whose turn it is: lanes of one level are of one priority; those of one kind share the turns of the kind.
create or replace function lane_turns(lanes bigint[]) returns table (lane bigint, queue text, kind text, priority int, queue_priority int, weight int)
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
begin
  return query
    select l.lane, l.queue, l.kind, l.priority, coalesce(q.priority, 0),
      coalesce((select s.value::int from kind_setting s where s.kind = l.kind and s.name = 'weight' order by s.kind desc, s.name desc, s.origin desc limit 1), 1)
    from unnest(lane_turns.lanes) u(id) join lane l on l.lane = u.id left join queue q on q.queue = l.queue;
end $$;
comment on function lane_turns(bigint[]) is 'What a worker has to know of these lanes: names, the priorities of queue and job, and the weight of the kind.';
