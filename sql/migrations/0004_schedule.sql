-- Schedules and the history of their fires. See docs/decisions/0007-schedules.md.

create table schedule (
  name text collate "C" primary key,
  owner text collate "C",
  kind text collate "C" not null,
  queue text collate "C" not null default 'default',
  priority int not null default 0,
  payload jsonb,
  payload_bytes bytea,
  headers jsonb,
  max_attempts int,
  cron text,
  masks bigint[],
  every interval,
  anchor timestamptz,
  at timestamptz,
  time_zone text not null default 'UTC',
  jitter interval not null default '0',
  misfire text collate "C" not null default 'latest' check (misfire in ('skip', 'latest', 'all')),
  misfire_limit int not null default 100,
  overlap text collate "C" not null default 'allow' check (overlap in ('allow', 'skip', 'replace')),
  enabled boolean not null default true,
  paused boolean not null default false,
  next_at timestamptz,
  due_at timestamptz,
  last_tick timestamptz,
  last_fired_at timestamptz,
  last_job bigint,
  open_jobs bigint[] not null default '{}',
  last_error text,
  edited_at timestamptz not null default clock_timestamp(),
  check (num_nonnulls(cron, every, at) = 1)
);
create index schedule_due on schedule (due_at) where due_at is not null;
comment on table schedule is 'Schedules. Edit them with add_schedule, set_schedule, remove_schedule, pause_schedule, resume_schedule, sync_schedules: the times in a row are computed by these.';
comment on column schedule.owner is 'The application that declares it (sync_schedules); null: made by hand.';
comment on column schedule.masks is 'The parsed cron text, see cron_masks.';
comment on column schedule.anchor is 'An interval''s ticks are anchor + k * every, k from 1.';
comment on column schedule.next_at is 'The next tick; every earlier one is decided. Null: none, or the schedule rests.';
comment on column schedule.due_at is 'When the next tick is fired: next_at and its share of jitter.';
comment on column schedule.last_tick is 'The newest decided tick; no tick up to it is ever fired (again).';
comment on column schedule.open_jobs is 'Jobs of the schedule that overlap looks at.';

create table schedule_fire (
  schedule text collate "C" not null,
  tick timestamptz not null,
  outcome text collate "C" not null check (outcome in ('fired', 'manual', 'skipped', 'missed', 'failed')),
  job bigint,
  note text,
  at timestamptz not null default clock_timestamp(),
  primary key (schedule, tick)
);
create index schedule_fire_at on schedule_fire (at);
comment on table schedule_fire is 'One row a decided tick, inserted with its job: what makes a tick fire once. Append only, kept for retention_dead.';
