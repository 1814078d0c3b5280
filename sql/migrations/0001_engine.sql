-- The engine's tables. See docs/internals/engine.md for how they work together.

create table meta (
  key text collate "C" primary key,
  value text not null
);
comment on table meta is 'Version, settings of the schema, and the identity of the cluster that runs it.';

create sequence job_id;

create table job (
  id bigint not null default nextval('job_id'),
  lane bigint not null,
  txid xid8 not null default pg_current_xact_id(),
  queued_at timestamptz not null default statement_timestamp(),
  attempt int not null default 0,
  payload jsonb,
  payload_bytes bytea,
  headers jsonb,
  options jsonb
) partition by range (queued_at);
create index job_lane on job (lane, txid, id);
create index job_id_idx on job (id);
comment on table job is 'The log of jobs: append only; a row leaves only when its job moves to another table or its partition is dropped.';
comment on column job.txid is 'Transaction that appended the row; with the lane''s newest batch it tells whether the job is claimed.';
comment on column job.queued_at is 'Start of the statement that appended the row; chooses the partition and nothing else.';
comment on column job.attempt is 'Attempts already used.';
comment on column job.options is 'Null for a plain job. Keys: max_attempts, timeout_ms, crashes, enqueued_at.';

create table lane (
  lane bigint primary key,
  queue text collate "C" not null,
  kind text collate "C" not null,
  priority int not null,
  express boolean not null default false
);
create index lane_names on lane (queue, kind, priority, express);
comment on table lane is 'The unit of order, limits and pausing: (queue, kind, priority, express); lane is a hash of these (lane_of).';

create table lane_seen (
  lane bigint not null,
  queue text collate "C" not null,
  kind text collate "C" not null,
  priority int not null,
  express boolean not null default false
);
create index lane_seen_lane on lane_seen (lane);
comment on table lane_seen is 'Lanes that were used first and no worker has folded into lane yet. No unique index, so that no transaction waits for another.';

create table queue (
  queue text collate "C" primary key,
  priority int not null default 0,
  paused boolean not null default false
);
comment on table queue is 'Settings of queues that have any; a queue without a row has the defaults.';

create table batch (
  lane bigint not null,
  seq bigint not null,
  worker bigint not null,
  token bigint not null,
  lo pg_snapshot not null,
  hi pg_snapshot not null,
  pos_txid xid8 not null,
  pos_id bigint not null,
  claimed_at timestamptz not null,
  closed_at timestamptz,
  n int not null,
  started_to int not null,
  moved int not null default 0,
  acked bit varying,
  ids bigint[] not null,
  primary key (lane, seq)
) with (fillfactor = 60);
create unique index batch_token on batch (worker, token);
create index batch_claimed_at on batch using brin (claimed_at) with (pages_per_range = 16);
comment on table batch is 'One row a claim. The newest of a lane is the lane''s cursor. Updated only in columns without index, so that updates stay on the page.';
comment on column batch.lo is 'With hi: the window. Jobs visible in hi and not in lo, in order of (txid, id), are claimed up to (pos_txid, pos_id).';
comment on column batch.token is 'The worker''s own number for the claim: the fence that every ack names.';
comment on column batch.started_to is 'Members below this position may have been started.';
comment on column batch.acked is 'Members that have ended; null while none has. A closed batch has ended whole.';
comment on column batch.moved is 'Members that ended otherwise than by success and left the log.';

create table deferred (
  id bigint primary key,
  lane bigint not null,
  state text collate "C" not null check (state in ('scheduled', 'retryable')),
  due_at timestamptz not null,
  queued_at timestamptz not null,
  attempt int not null,
  payload jsonb,
  payload_bytes bytea,
  headers jsonb,
  options jsonb
);
create index deferred_due on deferred (due_at, id);
comment on table deferred is 'Jobs that wait for their time: scheduled, or between two attempts.';

create table dead (
  id bigint primary key,
  lane bigint not null,
  state text collate "C" not null check (state in ('failed', 'cancelled', 'expired')),
  ended_at timestamptz not null,
  queued_at timestamptz not null,
  attempt int not null,
  reason text,
  payload jsonb,
  payload_bytes bytea,
  headers jsonb,
  options jsonb
);
create index dead_ended on dead (ended_at, id);
comment on table dead is 'Jobs that ended otherwise than by success: the dead letters.';

create table attempt_error (
  job bigint not null,
  attempt int not null,
  at timestamptz not null,
  worker bigint,
  type text,
  message text,
  stack text
);
create index attempt_error_job on attempt_error (job, attempt);
create index attempt_error_at on attempt_error (at);
comment on table attempt_error is 'One row a failed attempt.';

create table done (
  worker bigint not null,
  token bigint not null,
  pos int not null,
  job bigint not null,
  rescued boolean not null default false,
  at timestamptz not null default clock_timestamp(),
  primary key (worker, token, pos)
);
comment on table done is 'Completions inside handlers'' own transactions; a row with rescued is the tombstone that keeps a late one out.';

create table worker (
  id bigint generated always as identity primary key,
  name text not null,
  host text not null,
  pid bigint not null,
  version text not null,
  queues text[] not null,
  kinds text[] not null,
  max_attempts int[] not null,
  slots int not null,
  lease interval not null,
  started_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  end_reason text,
  reaped_at timestamptz
);
create index worker_live on worker (id) where reaped_at is null;
comment on table worker is 'One row an incarnation of a worker; updated only at its end.';

create table heartbeat (
  worker bigint not null,
  at timestamptz not null default clock_timestamp(),
  low_token bigint not null,
  free int not null,
  running int not null
);
create index heartbeat_worker on heartbeat (worker, at desc);
comment on table heartbeat is 'Signs of life, appended; the newest of a worker counts. No batch below low_token is open.';

create table leader (
  id bigint generated always as identity primary key,
  term bigint not null,
  worker bigint not null,
  at timestamptz not null default clock_timestamp(),
  since timestamptz not null default clock_timestamp(),
  promoted_to timestamptz not null
);
comment on table leader is 'Leadership of the elected duties, appended; the newest row counts.';

-- Partitions: everything until tomorrow, tomorrow, and the rest. The leader attaches the next ones days ahead (rotate).
do $$
declare
  today date := (now() at time zone 'UTC')::date;
begin
  execute format('create table %I partition of job for values from (minvalue) to (%L)',
    'job_' || to_char(today, 'YYYYMMDD'), (today + 1)::timestamp at time zone 'UTC');
  execute format('create table %I partition of job for values from (%L) to (%L)',
    'job_' || to_char(today + 1, 'YYYYMMDD'), (today + 1)::timestamp at time zone 'UTC', (today + 2)::timestamp at time zone 'UTC');
  execute format('create table %I partition of job for values from (%L) to (maxvalue)',
    'job_' || to_char(today + 2, 'YYYYMMDD'), (today + 2)::timestamp at time zone 'UTC');
end $$;
