-- Waiting for jobs to end. Who waits holds session locks in shared mode: one that says that somebody waits, and one of the
-- job. What ends jobs tries the first in exclusive mode and gives it straight back, which is one expression; only when
-- that fails does it ask which of its jobs are waited for, and notifies for these alone.

-- Advisory keys of waiting are (wait_space(), key): 0 for "somebody waits", else odd and of a job.
create or replace function wait_space() returns int
language sql immutable parallel safe
return ('result'::regclass::oid::bigint - 2147483648)::int;

create or replace function someone_waits() returns boolean
language sql volatile
return case when pg_try_advisory_lock(wait_space(), 0) then not pg_advisory_unlock(wait_space(), 0) else true end;

create or replace function is_waited_for(job bigint) returns boolean
language sql volatile
return case when pg_try_advisory_lock(wait_space(), hashint8(is_waited_for.job) | 1)
  then not pg_advisory_unlock(wait_space(), hashint8(is_waited_for.job) | 1) else true end;

create or replace function done_channel() returns text
language sql stable security definer set search_path from current as $$ select channel() || '_done' $$;
comment on function done_channel() is 'The NOTIFY channel of jobs that have ended an attempt while somebody watched them; the payload is the job''s id.';

create or replace function watch_jobs(ids bigint[]) returns text
language plpgsql security definer set search_path from current as $$
begin
  if coalesce(cardinality(ids), 0) not between 1 and 1000 then
    raise exception 'posthouse: watch_jobs: % ids', coalesce(cardinality(ids), 0)
      using errcode = '22023', hint = 'Watch 1 to 1000 jobs in a call; of many, the one that is expected last, until it has ended.';
  end if;
  perform pg_advisory_lock_shared(wait_space(), 0), pg_advisory_lock_shared(wait_space(), hashint8(i) | 1) from unnest(ids) i;
  return done_channel();
end $$;
comment on function watch_jobs(bigint[]) is
'From now on, until unwatch_jobs or the end of the session, a notification on the channel that this returns names each of these jobs when an attempt of it ends. LISTEN first, then watch, then look (outcome), and look again now and then, at least once a second: a job that was just ending may be missed. Needs a session of its own, so no transaction pooler. 1 to 1000 ids; each takes two entries of the server''s lock table.';

create or replace function unwatch_jobs(ids bigint[]) returns void
language plpgsql security definer set search_path from current as $$
begin
  perform pg_advisory_unlock_shared(wait_space(), hashint8(i) | 1), pg_advisory_unlock_shared(wait_space(), 0) from unnest(ids) i;
end $$;
comment on function unwatch_jobs(bigint[]) is 'Takes back what watch_jobs with the same ids did in this session.';

-- For finish. A bit that was set by an earlier call is told again, which only costs whoever waits a look.
create or replace function tell_waiters(p_worker bigint, p_tokens bigint[], p_acked text[]) returns void
language plpgsql security definer set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  v_ids bigint[];
begin
  if not may_notify() then return; end if;
  v_ids := array(select u.id from unnest(p_tokens, p_acked) a(token, acked)
    join batch b on b.worker = p_worker and b.token = any(p_tokens) and b.token = a.token
    cross join lateral unnest(b.ids) with ordinality u(id, ord)
    where a.acked is null or substr(a.acked, u.ord::int, 1) = '1');
  perform pg_notify(done_channel(), i::text) from unnest(v_ids) i where is_waited_for(i);
end $$;

-- Jobs that end otherwise than by success, wherever that is decided.
create or replace function tell_waiters_of_dead() returns trigger
language plpgsql security definer set search_path from current as $$
begin
  if is_waited_for(new.id) and may_notify() then
    perform pg_notify(done_channel(), new.id::text);
  end if;
  return null;
end $$;

create or replace trigger dead_told after insert on dead
  for each row when (someone_waits()) execute function tell_waiters_of_dead();
