-- Names, hashes and lock keys. Functions with a body that is resolved at creation (return …) need no pinned search_path,
-- which would keep the planner from inlining them.

create or replace function lane_of(queue text, kind text, priority int, express boolean) returns bigint
language sql immutable parallel safe
return ('x' || encode(substring(sha256(decode(replace(
  lane_of.queue || ' ' || lane_of.kind || ' ' || lane_of.priority::text || case when lane_of.express then ' express' else '' end,
  '\', '\\'), 'escape')) for 8), 'hex'))::bit(64)::bigint;
comment on function lane_of(text, text, int, boolean) is 'The lane''s id: the first 64 bits of the SHA-256 of "queue kind priority[ express]". Stable across versions and machines.';

create or replace function keyed_lane_of(queue text, kind text, priority int, express boolean) returns bigint
language sql immutable parallel safe
return ('x' || encode(substring(sha256(decode(replace(
  keyed_lane_of.queue || ' ' || keyed_lane_of.kind || ' ' || keyed_lane_of.priority::text || ' keyed' || case when keyed_lane_of.express then ' express' else '' end,
  '\', '\\'), 'escape')) for 8), 'hex'))::bit(64)::bigint;
comment on function keyed_lane_of(text, text, int, boolean) is 'As lane_of, for jobs that have a key.';

create or replace function share_lane_of(queue text, kind text, priority int, keyed boolean, express boolean, share text) returns bigint
language sql immutable parallel safe
return ('x' || encode(substring(sha256(decode(replace(
  share_lane_of.queue || ' ' || share_lane_of.kind || ' ' || share_lane_of.priority::text || case when share_lane_of.keyed then ' keyed' else '' end
    || case when share_lane_of.express then ' express' else '' end || ' share ' || share_lane_of.share,
  '\', '\\'), 'escape')) for 8), 'hex'))::bit(64)::bigint;
comment on function share_lane_of(text, text, int, boolean, boolean, text) is 'As lane_of, for jobs of a tenant (02_fair.sql).';

-- Advisory keys are (key_space(), key). The lowest two bits of the key are its class, so that no two classes meet.
-- The oid is resolved when the function is created, so a call costs nothing.
create or replace function key_space() returns int
language sql immutable parallel safe
return ('job'::regclass::oid::bigint - 2147483648)::int;

-- Advisory locks that a claim or a finish takes. As an expression, which plpgsql evaluates without a query.
create or replace function lock_worker(worker bigint) returns text
language sql volatile
return pg_advisory_xact_lock_shared(key_space(), (hashint8(lock_worker.worker) & -4) | 1)::text;

-- False: nobody sleeps on this lane. Trying the bell shared and giving it straight back disturbs nobody.
create or replace function has_sleeper(lane bigint) returns boolean
language sql volatile
return case when pg_try_advisory_lock_shared(key_space(), (hashint8(has_sleeper.lane) & -4) | 2)
  then not pg_advisory_unlock_shared(key_space(), (hashint8(has_sleeper.lane) & -4) | 2) else true end;

create or replace function channel() returns text
language sql stable security definer set search_path from current as $$
  select 'posthouse_' || quote_ident(current_schema())::regnamespace::oid
$$;
comment on function channel() is 'The NOTIFY channel of this schema. Payloads: a lane''s id, "new", "keep", or "w" (wake up) or "c" (jobs to cancel) and a worker''s id.';

-- What is read after a lock must be newer than the lock, which only READ COMMITTED gives.
create or replace function need_read_committed(p_what text) returns void
language plpgsql stable set search_path from current as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'posthouse: % under isolation level %', p_what, current_setting('transaction_isolation')
      using errcode = '25001', hint = 'Call it in a transaction of its own that begins with: begin isolation level read committed';
  end if;
end $$;

-- A snapshot never lists its own transaction: rows that this transaction appends later would count as seen.
create or replace function snapshot_now() returns pg_snapshot
language plpgsql volatile set search_path from current as $$
declare
  s pg_snapshot := pg_current_snapshot();
  own xid8 := pg_current_xact_id_if_assigned();
begin
  if own is null or own >= pg_snapshot_xmax(s) then return s; end if;
  return (least(pg_snapshot_xmin(s), own)::text || ':' || pg_snapshot_xmax(s)::text || ':' ||
    (select string_agg(x::text, ',' order by x) from (select pg_snapshot_xip(s) union select own) q(x)))::pg_snapshot;
end $$;

create or replace function is_claimed(txid xid8, id bigint, lo pg_snapshot, hi pg_snapshot, pos_txid xid8, pos_id bigint)
returns boolean language sql immutable parallel safe
return coalesce(pg_visible_in_snapshot(txid, lo)
  or (pg_visible_in_snapshot(txid, hi) and (txid, id) <= (pos_txid, pos_id)), false);
comment on function is_claimed(xid8, bigint, pg_snapshot, pg_snapshot, xid8, bigint) is 'Whether a job of the log is claimed, given its lane''s newest batch (nulls: no batch, so no).';
