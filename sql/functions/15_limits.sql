-- Limits: how many jobs of a kind, of a queue, or at all may run at once, and how many may start in a second. They are
-- enforced by claims, under a lock of the limit, from what is in the tables at that moment.

create or replace function limit_key(p_scope text, p_name text) returns int
language sql immutable parallel safe
return (hashtext('limit ' || limit_key.p_scope || ' ' || limit_key.p_name) & -4) | 3;

-- Jobs that workers hold now, as held() has them, in the lanes of a kind, a queue, or all.
create or replace function limit_running(p_scope text, p_name text) returns bigint
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  return (
    select coalesce(sum(b.n - coalesce(bit_count(b.acked), 0)
        - (select count(*) from done d where d.worker = b.worker and d.token = b.token and (b.acked is null or get_bit(b.acked, d.pos) = 0))), 0)
    from worker w
    cross join lateral (select h.low_token from heartbeat h where h.worker = w.id order by h.at desc limit 1) h
    join batch b on b.worker = w.id and b.token >= h.low_token and b.closed_at is null
    where w.reaped_at is null and (p_scope = 'all' or exists (
      select from lane l where l.lane = b.lane and case p_scope when 'queue' then l.queue else l.kind end = p_name)));
end $$;
comment on function limit_running(text, text) is 'How many jobs that a limit counts are held by workers now: claimed and not ended, started or not.';

-- What is in a bucket. A clock that was set back adds nothing and takes nothing.
create or replace function limit_tokens(p_scope text, p_name text, p_per_second numeric, p_burst int, p_now timestamptz) returns numeric
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  v_burst numeric := coalesce(p_burst, greatest(1, ceil(p_per_second)));
begin
  return coalesce((select least(v_burst, q.tokens + greatest(0, extract(epoch from p_now - q.at)) * p_per_second)
    from limit_bucket q where q.scope = p_scope and q.name = p_name order by q.seq desc limit 1), v_burst);
end $$;
comment on function limit_tokens(text, text, numeric, int, timestamptz) is 'How many jobs a rate lets start at p_now; p_burst null: one second''s worth, at least 1.';

create or replace function limit_take(p_scope text, p_name text, p_per_second numeric, p_burst int, p_n int, p_now timestamptz) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
begin
  insert into limit_bucket (scope, name, seq, at, tokens)
    select p_scope, p_name, coalesce((select q.seq from limit_bucket q where q.scope = p_scope and q.name = p_name order by q.seq desc limit 1), 0) + 1,
      p_now, limit_tokens(p_scope, p_name, p_per_second, p_burst, p_now) - p_n;
end $$;
comment on function limit_take(text, text, numeric, int, int, timestamptz) is 'Takes p_n jobs out of a bucket at p_now. Only under the lock of the limit.';

-- The limits in force for a lane, holds included; in the order in which they are locked.
create or replace function limits_of(p_lane bigint)
returns table (scope text, name text, concurrency int, per_second numeric, burst int, held_until timestamptz)
language plpgsql stable security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  return query
    select q.scope, q.name, q.concurrency, q.per_second, q.burst, q.held_until from (
      -- Of the rest of the columns those of set, else of declared: a row of held has none.
      select distinct on (r.scope) r.scope, r.name, r.concurrency, r.per_second, r.burst,
        max(r.held_until) over (partition by r.scope) as held_until
      from lane l
      join limit_rule r on r.name = any(array['', l.kind, l.queue])
        and r.name = case r.scope when 'kind' then l.kind when 'queue' then l.queue else '' end
      where l.lane = p_lane order by r.scope, r.origin = 'held', r.origin desc) q
    where q.concurrency is not null or q.per_second is not null or q.held_until is not null
    order by case q.scope when 'all' then 0 when 'queue' then 1 else 2 end;
end $$;

-- How many jobs of a lane may be claimed now, at most p_want: 0 or more; with p_lock under the limits' locks, which are
-- held until the transaction ends, null then: somebody else has one of them. p_full, p_waits: limits that this call has
-- found full. At 0, full_limit is the one, and wait_ms how long until the next job may start, when a rate holds it back;
-- -1: when another job ends; null: it is held, which is as if it were paused.
create or replace function limit_room(p_lane bigint, p_want int, p_lock boolean, p_wait boolean, p_full text[], p_waits bigint[],
  out room int, out wait_ms bigint, out full_limit text)
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  r record;
  v_room int;
  v_tokens numeric;
  v_now timestamptz;
begin
  room := p_want;
  wait_ms := -1;
  for r in select * from limits_of(p_lane) loop
    full_limit := r.scope || ' ' || r.name;
    if full_limit = any(p_full) then
      room := 0;
      wait_ms := p_waits[array_position(p_full, full_limit)];
      return;
    end if;
    if r.held_until is not null then
      if r.held_until > clock_timestamp() then
        room := 0;
        wait_ms := null;
        return;
      end if;
      continue when r.concurrency is null and r.per_second is null;
    end if;
    if p_lock and not pg_try_advisory_xact_lock(key_space(), limit_key(r.scope, r.name))
        and not (p_wait and wait_for_limit(r.scope, r.name)) then
      room := null;
      return;
    end if;
    if r.concurrency is not null then
      v_room := r.concurrency - limit_running(r.scope, r.name);
      if v_room < room then room := greatest(v_room, 0); wait_ms := -1; end if;
    end if;
    if r.per_second is not null and room > 0 then
      v_now := clock_timestamp();
      v_tokens := limit_tokens(r.scope, r.name, r.per_second, r.burst, v_now);
      if floor(v_tokens) < room then
        -- A newest row of the future: the clock was set back. From here on the time counts anew.
        if exists (select from limit_bucket q where q.scope = r.scope and q.name = r.name
            and q.seq = (select max(n.seq) from limit_bucket n where n.scope = r.scope and n.name = r.name) and q.at > v_now) then
          continue when not p_lock;
          perform limit_take(r.scope, r.name, r.per_second, r.burst, 0, v_now);
        end if;
        room := greatest(floor(v_tokens), 0);
        wait_ms := ceil((room + 1 - v_tokens) / r.per_second * 1000);
      end if;
    end if;
    if room = 0 then return; end if;
  end loop;
  full_limit := null;
end $$;

-- Bounded, and in the last pass of a claim alone: the acks of this call wait with it.
create or replace function wait_for_limit(p_scope text, p_name text) returns boolean
language plpgsql security definer set search_path from current set lock_timeout = '200ms' as $$
begin
  perform pg_advisory_xact_lock(key_space(), limit_key(p_scope, p_name));
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end $$;

-- So many jobs of a limited lane were claimed. The claim must be on disk before anybody counts on it.
create or replace function limit_claimed(p_lane bigint, p_n int) returns void
language plpgsql security definer set search_path from current as $$
begin
  if current_setting('synchronous_commit') = 'off' then perform set_config('synchronous_commit', 'on', true); end if;
  perform limit_take(r.scope, r.name, r.per_second, r.burst, p_n, clock_timestamp()) from limits_of(p_lane) r where r.per_second is not null;
end $$;

create or replace function check_limit(p_scope text, p_name text, p_concurrency int, p_per_second numeric, p_burst int) returns void
language plpgsql stable set search_path from current as $$
begin
  if p_scope is null or p_scope not in ('kind', 'queue', 'all', 'key', 'key_rate', 'serialized') then
    raise exception 'posthouse: limit: scope is %', coalesce(quote_literal(p_scope), 'null') using errcode = '22023', hint = 'Allowed: kind, queue, all; key (of each key of a kind, at once), key_rate (of each key of a kind, in a second), serialized (a kind one after another).';
  end if;
  if p_name is null or (p_scope = 'all') <> (p_name = '') or (p_scope <> 'all' and p_name !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$') then
    raise exception 'posthouse: limit: name is % for scope %', coalesce(quote_literal(p_name), 'null'), p_scope using errcode = '22023',
      hint = 'A kind or queue has 1 to 100 letters, digits and _.:/- and begins with a letter or digit; of scope all the name is empty.';
  end if;
  if p_concurrency < 1 then
    raise exception 'posthouse: limit: concurrency is %', p_concurrency using errcode = '22023',
      hint = 'A limit is 1 or more, null for none; to stop a queue, pause it.';
  end if;
  if p_scope = 'serialized' and p_concurrency <> 1 then
    raise exception 'posthouse: limit: concurrency is % for scope serialized', p_concurrency using errcode = '22023',
      hint = 'It is 1, null for not serialized; scope kind limits how many of a kind run at once.';
  end if;
  if p_scope in ('key', 'serialized') and p_per_second is not null then
    raise exception 'posthouse: limit: per_second is % for scope %', p_per_second, p_scope using errcode = '22023',
      hint = 'Rates are of scope kind, queue, all and key_rate.';
  end if;
  if p_scope = 'key_rate' and p_concurrency is not null then
    raise exception 'posthouse: limit: concurrency is % for scope key_rate', p_concurrency using errcode = '22023',
      hint = 'It limits starts in a second; scope key limits how many of a key run at once.';
  end if;
  if p_per_second not between 0.0001 and 1000000 then
    raise exception 'posthouse: limit: per_second is %', p_per_second using errcode = '22023', hint = 'A rate is 0.0001 to 1000000, null for none.';
  end if;
  if p_burst < 1 or (p_burst is not null and p_per_second is null) then
    raise exception 'posthouse: limit: burst is %', p_burst using errcode = '22023', hint = 'A burst is 1 or more, and goes with per_second.';
  end if;
end $$;

create or replace function set_limit(scope text, name text, concurrency int default null, per_second numeric default null, burst int default null)
returns void language plpgsql security definer set search_path from current as $$
begin
  perform check_limit(set_limit.scope, set_limit.name, set_limit.concurrency, set_limit.per_second, set_limit.burst);
  insert into limit_rule (scope, name, origin, concurrency, per_second, burst, said_by)
    values (set_limit.scope, set_limit.name, 'set', set_limit.concurrency, set_limit.per_second, set_limit.burst, session_user)
    on conflict on constraint limit_rule_pkey do update
    set concurrency = excluded.concurrency, per_second = excluded.per_second, burst = excluded.burst, said_by = excluded.said_by, at = excluded.at;
  if set_limit.scope in ('key', 'key_rate', 'serialized') then perform note_keys(set_limit.name); end if;
  perform wake('new');
end $$;
comment on function set_limit(text, text, int, numeric, int) is
'Limits a kind, a queue, (scope all, name '''') everything, or each key of a kind (scope key: at once, key_rate: starts), whatever workers declare, until reset_limit. concurrency: jobs at once, 1 or more; per_second: starts, 0.0001 to 1000000; burst: starts at once after a pause, default one second''s worth; null: no such limit.';

-- Who reads a rule to write it anew is alone with the limits of that name until its transaction ends. Claims do not wait.
create or replace function lock_limits(p_name text) returns void
language sql volatile security definer set search_path from current as $$
  select pg_advisory_xact_lock(key_space(), (hashtext('limits of ' || p_name) & -4) | 3)
$$;

-- What is not named stays: as set, else as declared at this moment.
create or replace function change_limit(scope text, name text, changes jsonb) returns void
language plpgsql security definer set search_path from current as $$
declare
  r limit_rule;
  v_key text;
begin
  if changes is null or jsonb_typeof(changes) <> 'object' then
    raise exception 'posthouse: limit: changes is %', coalesce(quote_literal(left(changes::text, 100)), 'null')
      using errcode = '22023', hint = 'changes is a JSON object with concurrency, per_second, burst; null takes a limit away.';
  end if;
  select k into v_key from jsonb_each(changes) e(k, v)
    where k not in ('concurrency', 'per_second', 'burst') or jsonb_typeof(v) not in ('number', 'null') limit 1;
  if found then
    raise exception 'posthouse: limit: % is %', v_key, changes -> v_key
      using errcode = '22023', hint = 'changes has concurrency, per_second, burst; each a number, or null for none.';
  end if;
  perform lock_limits(change_limit.name);
  select q.* into r from limit_rule q where q.scope = change_limit.scope and q.name = change_limit.name and q.origin <> 'held'
    order by q.origin desc limit 1 for update;
  if changes ? 'concurrency' then r.concurrency := (changes ->> 'concurrency')::numeric::int; end if;
  if changes ? 'per_second' then r.per_second := (changes ->> 'per_second')::numeric; end if;
  if changes ? 'burst' then r.burst := (changes ->> 'burst')::numeric::int;
  elsif r.per_second is null then r.burst := null; end if;
  perform set_limit(change_limit.scope, change_limit.name, r.concurrency, r.per_second, r.burst);
end $$;
comment on function change_limit(text, text, jsonb) is
'As set_limit, for what changes names: an object with concurrency, per_second, burst, null for no such limit. What it does not name stays as it is set, or as workers declare it at this moment.';

create or replace function reset_limit(scope text, name text) returns boolean
language plpgsql security definer set search_path from current as $$
declare
  v_held boolean;
begin
  delete from limit_rule r where r.scope = reset_limit.scope and r.name = reset_limit.name and r.origin = 'held';
  v_held := found;
  delete from limit_rule r where r.scope = reset_limit.scope and r.name = reset_limit.name and r.origin = 'set';
  if not found and not v_held then
    delete from limit_rule r where r.scope = reset_limit.scope and r.name = reset_limit.name;
  end if;
  if not found and not v_held then return false; end if;
  if reset_limit.scope in ('key', 'key_rate', 'serialized') then perform note_keys(reset_limit.name); end if;
  perform wake('new');
  return true;
end $$;
comment on function reset_limit(text, text) is 'Ends a hold and forgets what was set, so that what workers declared counts again; when there was neither, forgets what they declared, until one starts. False: there was nothing.';

-- A handler was told to come back later (RetryAfter): no job of the kind starts before, in the whole fleet. A hold is
-- never made shorter by another one.
create or replace function hold_kind(kind text, hold interval, said_by text default null) returns timestamptz
language plpgsql security definer set search_path from current as $$
declare
  v_until timestamptz;
begin
  perform check_name('kind', hold_kind.kind);
  if hold is null or hold <= interval '0' or hold > interval '1 hour' then
    raise exception 'posthouse: hold is %', coalesce(hold::text, 'null') using errcode = '22023', hint = 'hold is more than 0 and at most 1 hour, from now; to stop a kind for longer, pause it.';
  end if;
  insert into limit_rule as r (scope, name, origin, held_until, said_by)
    values ('kind', hold_kind.kind, 'held', clock_timestamp() + hold, coalesce(hold_kind.said_by, session_user))
    on conflict on constraint limit_rule_pkey do update
    set held_until = greatest(r.held_until, excluded.held_until), said_by = case when r.held_until > excluded.held_until then r.said_by else excluded.said_by end
    returning r.held_until into v_until;
  return v_until;
end $$;
comment on function hold_kind(text, interval, text) is
'No job of the kind is claimed for that long (more than 0, at most 1 hour) from the commit on, by any worker; those that run go on. A hold that ends later stays. reset_limit ends it. Returns its end. Workers call it for a handler''s RetryAfter.';

-- What a worker that starts says of its kinds, and of the queues and the whole that its configuration names. The last
-- start wins; an element without values takes the declaration away. Returns what was changed.
create or replace function declare_limits(limits jsonb, said_by text default null) returns table (scope text, name text, old_value text, new_value text, hidden boolean)
language plpgsql security definer set search_path from current as $$
declare
  r record;
  o limit_rule;
begin
  for r in select * from jsonb_to_recordset(declare_limits.limits) q(scope text, name text, concurrency int, per_second numeric, burst int)
      order by q.scope, q.name loop
    perform check_limit(r.scope, r.name, r.concurrency, r.per_second, r.burst);
    select * into o from limit_rule q where q.scope = r.scope and q.name = r.name and q.origin = 'declared';
    continue when (o.concurrency, o.per_second, o.burst) is not distinct from (r.concurrency, r.per_second, r.burst);
    if r.concurrency is null and r.per_second is null then
      delete from limit_rule q where q.scope = r.scope and q.name = r.name and q.origin = 'declared';
    else
      insert into limit_rule (scope, name, origin, concurrency, per_second, burst, said_by)
        values (r.scope, r.name, 'declared', r.concurrency, r.per_second, r.burst, declare_limits.said_by)
        on conflict on constraint limit_rule_pkey do update
        set concurrency = excluded.concurrency, per_second = excluded.per_second, burst = excluded.burst, said_by = excluded.said_by, at = excluded.at;
    end if;
    if r.scope in ('key', 'key_rate', 'serialized') then perform note_keys(r.name); end if;
    scope := r.scope; name := r.name;
    old_value := limit_text(o.concurrency, o.per_second, o.burst);
    new_value := limit_text(r.concurrency, r.per_second, r.burst);
    hidden := exists (select from limit_rule q where q.scope = r.scope and q.name = r.name and q.origin = 'set');
    return next;
  end loop;
end $$;
comment on function declare_limits(jsonb, text) is 'Called by a worker that starts, with an array of {"scope", "name", "concurrency", "per_second", "burst"} and its name.';

create or replace function limit_text(p_concurrency int, p_per_second numeric, p_burst int) returns text
language sql immutable set search_path from current as $$
  select coalesce(nullif(concat_ws(', ', p_concurrency || ' at once', p_per_second || ' a second', 'burst ' || p_burst), ''), 'none')
$$;

create or replace function limit_list() returns table (scope text, name text, origin text, concurrency int, per_second numeric, burst int,
  declared text, running bigint, tokens numeric, said_by text, held_until timestamptz)
language sql volatile security definer set search_path from current as $$
  select r.scope, r.name, r.origin, r.concurrency, r.per_second,
    case when r.per_second is not null then coalesce(r.burst, greatest(1, ceil(r.per_second))::int) end,
    (select limit_text(d.concurrency, d.per_second, d.burst) from limit_rule d where d.scope = r.scope and d.name = r.name and d.origin = 'declared'),
    limit_running(r.scope, r.name),
    case when r.per_second is not null and r.scope <> 'key_rate' then round(limit_tokens(r.scope, r.name, r.per_second, r.burst, clock_timestamp()), 3) end,
    r.said_by, r.until
  from (select distinct on (q.scope, q.name) q.*,
      (select h.held_until from limit_rule h where h.scope = q.scope and h.name = q.name and h.origin = 'held' and h.held_until > clock_timestamp()) as until
    from limit_rule q order by q.scope, q.name, q.origin = 'held', q.origin desc) r
  where r.origin <> 'held' or r.until is not null
  order by r.scope, r.name
$$;

create or replace view limits as select * from limit_list();
comment on view limits is 'The limits in force: origin set, declared or held (a hold alone), who said so, what workers declared, jobs running now, jobs that the rate lets start now, and until when a handler''s RetryAfter holds it.';

-- What counts a job: each limit of its lane, with up to five of the jobs that hold it, and when the rate or a hold lets
-- the next one start.
create or replace function limits_on(id bigint) returns table (scope text, name text, concurrency int, running bigint, holders jsonb,
  per_second numeric, free_at timestamptz, held_until timestamptz)
language plpgsql volatile security definer set search_path from current set jit = off as $$
declare
  r record;
  v_lane bigint := coalesce((select j.lane from job j where j.id = limits_on.id limit 1), (select d.lane from deferred d where d.id = limits_on.id),
    (select p.lane from parked p where p.id = limits_on.id));
  v_now timestamptz := clock_timestamp();
  v_tokens numeric;
begin
  for r in select * from limits_of(v_lane) loop
    scope := r.scope; name := r.name; concurrency := r.concurrency; per_second := r.per_second;
    running := limit_running(r.scope, r.name);
    held_until := case when r.held_until > v_now then r.held_until end;
    continue when r.concurrency is null and r.per_second is null and held_until is null;
    holders := null;
    if r.concurrency is not null then
      select jsonb_agg(jsonb_build_object('job', h.id::text, 'worker', h.worker::text, 'since', utc_text(h.claimed_at)) order by h.claimed_at, h.id) into holders
        from (select o.id, o.worker, o.claimed_at from held() o join lane l on l.lane = o.lane
          where r.scope = 'all' or case r.scope when 'kind' then l.kind else l.queue end = r.name order by o.claimed_at, o.id limit 5) h;
    end if;
    free_at := null;
    if r.per_second is not null then
      v_tokens := limit_tokens(r.scope, r.name, r.per_second, r.burst, v_now);
      if v_tokens < 1 then free_at := v_now + (1 - v_tokens) / r.per_second * interval '1 second'; end if;
    end if;
    return next;
  end loop;
end $$;
comment on function limits_on(bigint) is 'The limits that count a job that waits: how many run, up to five of the jobs that hold a limit of what runs at once (job, worker, since), free_at when the rate is used up, held_until when a RetryAfter holds it.';

-- The newest row of each bucket stays; holds that are over go.
create or replace function prune_limits() returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_n bigint;
begin
  delete from limit_bucket b using (select q.scope, q.name, max(q.seq) as seq from limit_bucket q where q.scope <> 'key_rate' group by 1, 2) n
    where b.scope = n.scope and b.name = n.name and b.seq < n.seq;
  get diagnostics v_n = row_count;
  delete from limit_rule r where r.origin = 'held' and r.held_until < clock_timestamp();
  return v_n;
end $$;
