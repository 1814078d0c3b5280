-- One broker a database. The row without shutdown_at is the broker; a unique index sees to it that there is one. It is
-- alive while the session that pings for it lives (which holds an advisory lock, and ends with its process), or, without
-- such a session, until 15 s after its last ping.

create or replace function broker_lock_key() returns int
language sql immutable parallel safe
return (hashtext('broker') & -4) | 3;

create or replace function broker_lapse() returns interval
language sql immutable parallel safe
return interval '15 s';
comment on function broker_lapse() is 'A broker whose session is not known is taken to be dead so long after its last ping.';

-- Runs under the lock of registrations; what it reads is newer than that.
create or replace function broker_is_alive(b broker_instance) returns boolean
language plpgsql volatile set search_path from current as $$
begin
  if b.last_ping_at not between clock_timestamp() - broker_lapse() and clock_timestamp() + broker_lapse() then return false; end if;
  -- Held until the end of this transaction: nobody registers meanwhile but we.
  return not b.in_session or not pg_try_advisory_xact_lock(key_space(), broker_lock_key());
end $$;

create or replace function broker_register_instance(name text, host text, pid int, version text, queue_count int) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  b broker_instance;
  v_id bigint;
begin
  if coalesce(broker_register_instance.name, '') = '' or coalesce(broker_register_instance.host, '') = ''
    or broker_register_instance.pid is null or broker_register_instance.version is null then
    raise exception 'posthouse: broker_register_instance: name, host, pid or version is missing' using errcode = '22023',
      hint = 'Say broker_register_instance(''my-broker'', ''my-host'', 4711, ''1.0'', 4).';
  end if;
  if broker_register_instance.queue_count is null or broker_register_instance.queue_count not between 0 and 1000 then
    raise exception 'posthouse: broker_register_instance: queue_count is %', coalesce(broker_register_instance.queue_count::text, 'null')
      using errcode = '22023', hint = 'queue_count is 0 to 1000; queues are numbered from 1.';
  end if;
  perform need_read_committed('broker_register_instance');
  perform check_identity();
  perform pg_advisory_xact_lock(key_space(), (hashtext('broker register') & -4) | 3);
  select * into b from broker_instance i where i.shutdown_at is null;
  if found then
    if broker_is_alive(b) then
      raise exception 'posthouse: this database is served by broker % on %, process %, since %', b.name, b.host, b.pid,
          to_char(b.started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        using errcode = '55006', hint = 'There is one broker a database. Stop that one, or start this one with --standby: it takes over when that one ends.';
    end if;
    update broker_instance i set shutdown_at = clock_timestamp(), lost = true where i.id = b.id;
  end if;
  delete from broker_instance i where i.shutdown_at < clock_timestamp() - interval '30 days';
  insert into broker_instance (name, host, pid, version, queue_count)
    values (broker_register_instance.name, broker_register_instance.host, broker_register_instance.pid,
      broker_register_instance.version, broker_register_instance.queue_count)
    returning broker_instance.id into v_id;
  return v_id;
end $$;
comment on function broker_register_instance(text, text, int, text, int) is 'Makes the caller the broker of this database and returns its id, to be pinged at least every 5 seconds. queue_count: 0 to 1000 numbered queues. Fails with SQLSTATE 55006 while another one is alive, naming it: its session lives, or, when it has none, its last ping is at most 15 s old.';

create or replace function broker_ping_instance(id bigint, hold_session boolean default false, queue_count int default null) returns boolean
language plpgsql security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
  v_held boolean := coalesce(current_setting('posthouse.broker_instance', true), '') = broker_ping_instance.id::text;
begin
  if broker_ping_instance.queue_count not between 0 and 1000 then
    raise exception 'posthouse: broker_ping_instance: queue_count is %', broker_ping_instance.queue_count
      using errcode = '22023', hint = 'queue_count is 0 to 1000; queues are numbered from 1.';
  end if;
  -- Lost with the server it costs one ping.
  perform set_config('synchronous_commit', 'off', true);
  if not v_held and broker_ping_instance.hold_session
    and exists (select from broker_instance i where i.id = broker_ping_instance.id and i.shutdown_at is null)
    and pg_try_advisory_lock(key_space(), broker_lock_key()) then
    v_held := true;
    perform set_config('posthouse.broker_instance', broker_ping_instance.id::text, false);
  end if;
  update broker_instance i
    set last_ping_at = clock_timestamp(), in_session = v_held, queue_count = coalesce(broker_ping_instance.queue_count, i.queue_count)
    where i.id = broker_ping_instance.id and i.shutdown_at is null;
  return found;
end $$;
comment on function broker_ping_instance(bigint, boolean, int) is 'Sign of life of a broker. False: it is not the broker any more, another one has taken over or it was shut down. hold_session: this session stands for it from now on, so that its end is seen at once; never through a pooler. queue_count: from now on.';

create or replace function broker_shutdown_instance(id bigint) returns boolean
language plpgsql security definer set search_path from current as $$
begin
  update broker_instance i set shutdown_at = clock_timestamp() where i.id = broker_shutdown_instance.id and i.shutdown_at is null;
  return found;
end $$;
comment on function broker_shutdown_instance(bigint) is 'The orderly end of a broker: another one may register. The broker itself learns of it by its next ping and stops to claim. False: it had ended before, or there is none by this id.';

-- As broker_lapse() has it, which readers of the view may not call.
create or replace view broker_queueinstance as
  select i.id, i.name, i.host, i.pid, i.version, i.queue_count,
    case when i.lost then 'lost' when i.shutdown_at is not null then 'stopped'
      when i.last_ping_at < clock_timestamp() - interval '15 s' then 'silent' else 'active' end as status,
    i.started_at, i.last_ping_at, i.shutdown_at
  from broker_instance i;
comment on view broker_queueinstance is 'Brokers of this database, of the last 30 days. status: active; silent (no ping for 15 s); stopped (shut down in order); lost (another one took over).';
