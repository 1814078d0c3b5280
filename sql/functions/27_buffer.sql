-- Jobs that wait in a worker's prefetch buffer while another worker idles. A worker that has had such jobs for a while
-- holds session locks, shared, on its LISTEN connection; a claim that finds nothing tries them exclusively, which is one
-- expression, and says who has come away empty. Whoever holds them gives back half of what that worker may claim.
-- Keys: (wait_space(), 4) for all of them, (wait_space(), odd multiple of 2 of the worker) for each.

create or replace function buffer_key(p_worker bigint) returns int
language sql immutable
return hashint8(p_worker) & -4 | 2;

create or replace function buffer_waits() returns boolean
language sql volatile
return case when pg_try_advisory_lock(wait_space(), 4) then not pg_advisory_unlock(wait_space(), 4) else true end;

create or replace function buffer_bell(p_worker bigint, p_on boolean) returns void
language plpgsql security definer set search_path from current as $$
begin
  if p_on then
    perform pg_advisory_lock_shared(wait_space(), 4), pg_advisory_lock_shared(wait_space(), buffer_key(p_worker));
  else
    perform pg_advisory_unlock_shared(wait_space(), 4), pg_advisory_unlock_shared(wait_space(), buffer_key(p_worker));
  end if;
end $$;
comment on function buffer_bell(bigint, boolean) is 'From now on (true), until false or the end of the session, a worker whose claim finds nothing notifies the others with "i" and its number, unless it holds a bell itself. For a worker whose prefetch buffer holds jobs that others could start.';

-- The claim of this worker has found nothing.
create or replace function tell_idle(p_worker bigint) returns void
language plpgsql security definer set search_path from current as $$
begin
  -- One that has jobs waiting itself is not idle.
  if pg_try_advisory_lock(wait_space(), buffer_key(p_worker)) then
    perform pg_advisory_unlock(wait_space(), buffer_key(p_worker));
    perform wake('i' || p_worker);
  end if;
end $$;
