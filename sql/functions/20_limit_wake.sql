-- Waking who waits for a limit. A worker whose claims a limit holds back has a session lock, shared, on its LISTEN
-- connection; whoever ends jobs tries it exclusively, which is one expression, and only when that fails asks whether one of
-- its jobs was counted by a limit that has room now: after the claim of the same call, which usually takes it.

create or replace function limit_waits() returns boolean
language sql volatile
return case when pg_try_advisory_lock(wait_space(), 2) then not pg_advisory_unlock(wait_space(), 2) else true end;

create or replace function limit_bell(p_on boolean) returns void
language plpgsql security definer set search_path from current as $$
begin
  if p_on then perform pg_advisory_lock_shared(wait_space(), 2); else perform pg_advisory_unlock_shared(wait_space(), 2); end if;
end $$;
comment on function limit_bell(boolean) is 'From now on (true), until false or the end of the session, whoever ends a job that a limit of what runs at once counted, and leaves room there, notifies the workers with "limit". A room that a rescue makes is not told.';

create or replace function tell_limits(p_worker bigint, p_tokens bigint[]) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  r record;
begin
  for r in select distinct m.scope, m.name, m.concurrency from (
      select distinct b.lane from batch b where b.worker = p_worker and b.token = any(p_tokens)) l
    cross join lateral limits_of(l.lane) m where m.concurrency is not null
  loop
    if limit_running(r.scope, r.name) < r.concurrency then
      perform wake('limit');
      return;
    end if;
  end loop;
end $$;
