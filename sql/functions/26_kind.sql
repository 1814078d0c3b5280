-- What an operator says of a kind, by the names that configuration and HandlerOptions have for it. Each value is part of a
-- rule in limit_rule, which 15_limits.sql keeps.

create or replace function set_kind(kind text, changes jsonb) returns void
language plpgsql security definer set search_path from current as $$
declare
  v_name text;
  v_value jsonb;
  v_allowed text;
  v_changes jsonb;
  v_scope text;
begin
  perform check_name('kind', set_kind.kind);
  if changes is null or jsonb_typeof(changes) <> 'object' or changes = '{}' then
    raise exception 'posthouse: set_kind: changes is %', coalesce(quote_literal(left(changes::text, 100)), 'null') using errcode = '22023',
      hint = 'changes is a JSON object with one or more of concurrency_limit, requests_per_second, burst, key_limit, key_requests_per_second, key_burst, serialized_dispatch, weight, fair_by.';
  end if;
  for v_name, v_value in select e.key, e.value from jsonb_each(changes) e loop
    v_allowed := case v_name
      when 'weight' then '1 to 100, or null for 1'
      when 'fair_by' then 'key, or header: and the name of a header, 1 to 200 bytes, or null for none'
      when 'serialized_dispatch' then 'true or false'
      when 'requests_per_second' then '0.0001 to 1000000, or null for any number'
      when 'key_requests_per_second' then '0.0001 to 1000000, or null for any number'
      when 'concurrency_limit' then '1 to 2147483647, or null for any number'
      when 'key_limit' then '1 to 1000000, or null for any number'
      when 'burst' then '1 to 2147483647, or null for one second''s worth'
      when 'key_burst' then '1 to 1000000, or null for one second''s worth' end;
    if v_allowed is null then
      raise exception 'posthouse: set_kind: changes has %', quote_literal(left(v_name, 100)) using errcode = '22023',
        hint = 'Allowed: concurrency_limit, requests_per_second, burst, key_limit, key_requests_per_second, key_burst, serialized_dispatch, weight, fair_by.';
    end if;
    if not (case
        when v_name = 'serialized_dispatch' then jsonb_typeof(v_value) = 'boolean'
        when jsonb_typeof(v_value) = 'null' then true
        when v_name = 'fair_by' then jsonb_typeof(v_value) = 'string' and (v_value #>> '{}' = 'key' or v_value #>> '{}' like 'header:%' and octet_length(v_value #>> '{}') between 8 and 207)
        when jsonb_typeof(v_value) <> 'number' then false
        when v_name in ('requests_per_second', 'key_requests_per_second') then v_value::numeric between 0.0001 and 1000000
        else v_value::numeric = trunc(v_value::numeric)
          and v_value::numeric between 1 and case when v_name = 'weight' then 100 when v_name in ('concurrency_limit', 'burst') then 2147483647 else 1000000 end end) then
      raise exception 'posthouse: set_kind: % is %', v_name, left(v_value::text, 100) using errcode = '22023', hint = v_allowed || '.';
    end if;
  end loop;
  perform lock_limits(set_kind.kind);
  foreach v_scope in array array['key', 'key_rate', 'kind', 'serialized'] loop
    select jsonb_object_agg(n.part, case when n.name = 'serialized_dispatch' then case when (changes ->> n.name)::boolean then '1' else 'null' end::jsonb
        else changes -> n.name end) into v_changes
      from (values ('kind', 'concurrency_limit', 'concurrency'), ('kind', 'requests_per_second', 'per_second'), ('kind', 'burst', 'burst'),
          ('key', 'key_limit', 'concurrency'), ('key_rate', 'key_requests_per_second', 'per_second'), ('key_rate', 'key_burst', 'burst'),
          ('serialized', 'serialized_dispatch', 'concurrency')) n(scope, name, part)
      where n.scope = v_scope and changes ? n.name;
    if v_changes is not null then perform change_limit(v_scope, set_kind.kind, v_changes); end if;
  end loop;
  foreach v_name in array array['fair_by', 'weight'] loop
    if changes ? v_name then
      v_value := changes -> v_name;
      perform set_kind_setting(set_kind.kind, v_name, case when v_name = 'weight' then (v_value #>> '{}')::numeric::int::text else v_value #>> '{}' end);
    end if;
  end loop;
end $$;
comment on function set_kind(text, jsonb) is
'Sets what the object names of a kind, whatever workers declare, until reset_kind: concurrency_limit (1 to 2147483647 jobs at once), requests_per_second (0.0001 to 1000000 starts), burst (1 to 2147483647 starts at once after a pause; null: one second''s worth); of each key of the kind key_limit (1 to 1000000, 1 when nobody says otherwise), key_requests_per_second, key_burst (1 to 1000000); null: no such limit; serialized_dispatch (true, false); weight (1 to 100 turns where a kind of weight 1 has one; null: 1), fair_by (key, or header: and a name: jobs enqueued from now on share the kind''s turns by its value; null: none). What it does not name stays. All of it or, with an error, nothing.';

create or replace function reset_kind(kind text) returns boolean
language plpgsql security definer set search_path from current as $$
declare
  v_scopes text[];
  v_set boolean;
  v_found boolean;
begin
  perform check_name('kind', reset_kind.kind);
  perform lock_limits(reset_kind.kind);
  v_scopes := array(select distinct r.scope from limit_rule r where r.name = reset_kind.kind
    and r.scope in ('kind', 'key', 'key_rate', 'serialized') and r.origin <> 'declared' order by 1);
  delete from kind_setting s where s.kind = reset_kind.kind and s.origin = 'set';
  v_set := found;
  -- Nothing was set: the declarations go, as with reset_limit. One that was hidden until now stays, to count again.
  if v_scopes = '{}' and not v_set then
    v_scopes := array['key', 'key_rate', 'kind', 'serialized'];
    delete from kind_setting s where s.kind = reset_kind.kind;
    v_set := found;
  end if;
  v_found := coalesce((select bool_or(reset_limit(s, reset_kind.kind)) from unnest(v_scopes) s), false);
  if v_set then perform wake('kinds'); end if;
  return v_found or v_set;
end $$;
comment on function reset_kind(text) is 'Ends a hold and forgets all that was set of the kind, by set_kind or set_limit, so that what workers declared counts again; when there was nothing of both, forgets what they declared, until one starts. False: there was nothing.';
