-- Firing. Nothing here relies on there being one leader: the row's lock keeps two from doing the same work, and the
-- unique (schedule, tick) of schedule_fire from doing it twice.

create or replace function is_unfinished(p_job bigint) returns boolean
language sql stable security definer set search_path from current as $$
  select exists (select from jobs j where j.id = p_job and j.state not in ('succeeded', 'failed', 'cancelled', 'expired'))
$$;

-- The job of one tick. It says in its headers which tick it is, so that a handler can be idempotent.
create or replace function schedule_enqueue(s schedule, p_tick timestamptz, out job bigint, out status text)
language plpgsql security definer set search_path from current as $$
begin
  select o.id, o.status into job, status from enqueue_outcome(kind => s.kind, payload => s.payload, payload_bytes => s.payload_bytes,
    queue => s.queue, priority => s.priority, max_attempts => s.max_attempts,
    headers => coalesce(s.headers, '{}') || jsonb_build_object('posthouse.schedule', s.name,
      'posthouse.tick', to_char(p_tick at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
    dedupe_key => s.dedupe_key, on_duplicate => s.on_duplicate, dedupe_scope => s.dedupe_scope, dedupe_window => s.dedupe_window,
    expires_in => s.expires_in, timeout => s.timeout, key => s.key) o;
  if s.name like 'broker:%' then perform broker_fired(s.name, job); end if;
end $$;

create or replace function schedule_note(p_job bigint, p_status text) returns text
language sql immutable parallel safe
return format('job %s has the dedupe_key', p_job) || case p_status when 'replaced' then '; it got the payload and headers of this tick' else '' end;

-- The ticks of a schedule that are to be fired at p_now, oldest first; p_last: the newest that is decided by this.
create or replace function schedule_ticks(s schedule, p_now timestamptz, out ticks timestamptz[], out last_tick timestamptz)
language plpgsql stable security definer set search_path from current as $$
declare
  v_until timestamptz := greatest(s.next_at, p_now - s.jitter);
  t timestamptz;
begin
  last_tick := s.next_at;
  t := schedule_next(s, s.next_at);
  if t is null or t > v_until then
    ticks := array[s.next_at];
  else
    last_tick := schedule_last(s, s.next_at, v_until);
    ticks := array[last_tick];
    if s.misfire = 'all' then
      ticks := array[s.next_at];
      while t <= last_tick and cardinality(ticks) <= s.misfire_limit loop
        ticks := ticks || t;
        t := schedule_next(s, t);
      end loop;
      if cardinality(ticks) > s.misfire_limit then
        ticks := array[last_tick];
        while cardinality(ticks) < s.misfire_limit loop
          ticks := schedule_last(s, s.next_at, ticks[1] - interval '1 microsecond') || ticks;
        end loop;
      end if;
    end if;
  end if;
  if s.misfire = 'skip' and schedule_due(s, last_tick) < p_now - interval '1 minute' then ticks := '{}'; end if;
end $$;

-- One schedule whose row is locked; returns how many jobs it enqueued. What somebody else has locked (a dedupe key that
-- an open transaction is taking, a lane in a cancel) is waited for briefly: the leader has more to do.
create or replace function fire_schedule(s schedule, p_now timestamptz) returns int
language plpgsql security definer set search_path from current set timezone = 'UTC' set lock_timeout = '250ms' as $$
declare
  v_ticks timestamptz[];
  v_last timestamptz;
  v_tick timestamptz;
  v_open bigint[] := '{}';
  v_job bigint;
  v_status text;
  v_fired int := 0;
  v_state text;
  v_error text;
begin
  begin
    select f.ticks, f.last_tick into v_ticks, v_last from schedule_ticks(s, p_now) f;
    if v_ticks = '{}' or v_ticks[1] > s.next_at then
      insert into schedule_fire (schedule, tick, outcome, note)
        values (s.name, s.next_at, 'missed', format('misfire %s: not fired from here %s', s.misfire,
          case when v_ticks = '{}' then 'to ' || v_last::text else 'until before ' || v_ticks[1]::text end))
        on conflict do nothing;
    end if;
    foreach v_tick in array v_ticks loop
      continue when exists (select from schedule_fire f where f.schedule = s.name and f.tick = v_tick);
      if s.overlap <> 'allow' then
        v_open := array(select o from unnest(s.open_jobs) o where is_unfinished(o) order by o);
        if s.overlap = 'skip' and v_open <> '{}' then
          insert into schedule_fire (schedule, tick, outcome, note) values (s.name, v_tick, 'skipped', format('job %s is not finished', v_open[1]));
          s.open_jobs := v_open;
          continue;
        end if;
        -- Those that wait end now; of one that runs, the handler is asked to stop.
        if s.overlap = 'replace' then perform cancel(o) from unnest(v_open) o; end if;
      end if;
      select e.job, e.status into v_job, v_status from schedule_enqueue(s, v_tick) e;
      if v_status <> 'created' then
        insert into schedule_fire (schedule, tick, outcome, note) values (s.name, v_tick, 'skipped', schedule_note(v_job, v_status));
        continue;
      end if;
      insert into schedule_fire (schedule, tick, outcome, job) values (s.name, v_tick, 'fired', v_job);
      s.open_jobs := case s.overlap when 'allow' then array[v_job] else v_open || v_job end;
      s.last_job := v_job;
      v_fired := v_fired + 1;
    end loop;
    s.last_error := null;
  exception
    when lock_not_available then
      update schedule q set due_at = p_now + interval '1 s' where q.name = s.name;  -- others first
      return 0;
    when transaction_rollback or insufficient_resources or system_error then
      return 0;  -- it passes: the next round tries again
    when others then
      get stacked diagnostics v_state = returned_sqlstate, v_error = message_text;
      -- Another one has fired this tick meanwhile; the next round sees it.
      if v_state = '23505' and sqlerrm ~ 'schedule_fire_pkey' then return 0; end if;
      v_fired := 0;
      select q.open_jobs, q.last_job into s.open_jobs, s.last_job from schedule q where q.name = s.name;
      s.last_error := left(v_error, 1000);
      v_last := coalesce(v_last, s.next_at);
      insert into schedule_fire (schedule, tick, outcome, note)
        select s.name, t, 'failed', s.last_error from unnest(case when coalesce(v_ticks, '{}') = '{}' then array[s.next_at] else v_ticks end) t on conflict do nothing;
  end;
  begin
    s.next_at := schedule_next(s, v_last);
    s.due_at := schedule_due(s, s.next_at);
    s.last_tick := v_last;
  exception when others then
    -- The server no longer knows the time zone, say. Asked again in a while.
    get stacked diagnostics v_error = message_text;
    s.last_error := left(v_error, 1000);
    s.due_at := p_now + interval '5 minutes';
  end;
  update schedule q set next_at = s.next_at, due_at = s.due_at, last_tick = s.last_tick, last_job = s.last_job, open_jobs = s.open_jobs,
    last_error = s.last_error, last_fired_at = case when v_fired > 0 then p_now else q.last_fired_at end where q.name = s.name;
  return v_fired;
end $$;

create or replace function fire_schedules(p_now timestamptz default clock_timestamp(), p_from timestamptz default '-infinity', p_limit int default 1000) returns bigint
language plpgsql security definer set search_path from current set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  s schedule;
  v_fired bigint := 0;
  v_until timestamptz := clock_timestamp() + interval '2 s';
begin
  perform need_read_committed('fire_schedules');
  for s in select * from schedule q where q.due_at >= p_from and q.due_at <= p_now order by q.due_at limit p_limit for update skip locked loop
    v_fired := v_fired + fire_schedule(s, p_now);
    exit when v_fired >= 5000 or clock_timestamp() > v_until;
  end loop;
  return v_fired;
end $$;
comment on function fire_schedules(timestamptz, timestamptz, int) is
'Fires the schedules that are due at p_now (default: the clock), p_from on, at most p_limit of them; returns how many jobs it enqueued. The leader calls it; so may anybody, in any number: a tick fires once.';

-- One probe of the index, whatever the number of schedules.
create or replace function next_fire(p_from timestamptz) returns timestamptz
language plpgsql stable security definer set search_path from current set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
begin
  return (select q.due_at from schedule q where q.due_at >= p_from order by q.due_at limit 1);
end $$;

create or replace function run_schedule(name text) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  s schedule;
  v_job bigint;
  v_status text;
  v_tick timestamptz := clock_timestamp();
begin
  select * into s from schedule q where q.name = run_schedule.name for update;
  if not found then perform missing_schedule(run_schedule.name); end if;
  while exists (select from schedule_fire f where f.schedule = s.name and f.tick = v_tick) loop
    v_tick := v_tick + interval '1 microsecond';
  end loop;
  select e.job, e.status into v_job, v_status from schedule_enqueue(s, v_tick) e;
  if v_status <> 'created' then
    insert into schedule_fire (schedule, tick, outcome, note) values (s.name, v_tick, 'skipped', 'by hand: ' || schedule_note(v_job, v_status));
    return v_job;
  end if;
  insert into schedule_fire (schedule, tick, outcome, job) values (s.name, v_tick, 'manual', v_job);
  update schedule q set last_job = v_job, last_fired_at = v_tick,
    open_jobs = case q.overlap when 'allow' then array[v_job] else array(select o from unnest(q.open_jobs) o where is_unfinished(o)) || v_job end
    where q.name = s.name;
  return v_job;
end $$;
comment on function run_schedule(text) is 'Enqueues a job of a schedule now, paused or not, whatever its overlap policy; its ticks stay as they are. Returns the job''s id; when another job has its dedupe_key, that one''s.';

-- What `work --once` asks before it leaves. What another session is promoting or firing at this moment counts as well:
-- its jobs are seen once it has committed.
create or replace function drain_duties() returns bigint
language plpgsql security definer set search_path from current set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  v_available bigint := promote() + reap() + fire_schedules() + tend_children() + tend_keys();
begin
  perform note_due_keys('-infinity');
  if v_available = 0 and (next_fire('-infinity') <= clock_timestamp() or exists (select from deferred d where d.due_at <= clock_timestamp())
      or exists (select from key_check) or exists (select from dependency_check)
      -- A key's rate is waited for, a hold is not.
      or exists (select from key_due d where key_held_until(d.kind, d.key, clock_timestamp()) is null)) then
    perform pg_sleep(0.05);
    return 1;
  end if;
  return v_available;
end $$;
comment on function drain_duties() is 'Promotes, reaps, fires, releases and hands keys on once, whoever leads; returns 0 when that made no job available and nothing that is due is left.';
