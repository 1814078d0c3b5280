-- Rates and holds of keys, keys of schedules' jobs, since when something is paused.

alter table schedule add key text;
comment on column schedule.key is 'Of the jobs that it enqueues.';

alter table limit_rule drop constraint limit_rule_scope_check;
alter table limit_rule add constraint limit_rule_scope_check check (scope in ('kind', 'queue', 'all', 'key', 'key_rate', 'serialized'));
comment on table limit_rule is 'Limits of a kind, a queue or (name '''') all jobs; scope key: of each key of the kind; key_rate: starts of each key of the kind; serialized: the kind runs one after another. What an operator has set hides what workers have declared, whole; null: no limit.';
comment on table limit_bucket is 'Token buckets, appended: the newest row of a limit says how many jobs it would have let start at that moment. Of scope key_rate the name is kind, blank, key.';

create table key_hold (
  kind text collate "C" not null,
  key text collate "C" not null,
  until timestamptz not null,
  at timestamptz not null default clock_timestamp(),
  said_by text
);
create index key_hold_key on key_hold (kind, key, until);
comment on table key_hold is 'Keys that a handler''s RetryAfter holds, appended; the latest end counts. No unique index, so that no transaction waits for another.';

create table key_due (
  at timestamptz not null,
  kind text collate "C" not null,
  key text collate "C" not null
);
create index key_due_at on key_due (at);
create index key_due_key on key_due (kind, key, at);
comment on table key_due is 'When the leader shall look at a key with parked jobs: its rate has a token then, or its hold is over.';

alter table key_rule add paused_at timestamptz;
alter table queue add paused_at timestamptz;
alter table kind add paused_at timestamptz;
comment on column key_rule.paused_at is 'Since when; null: it is not paused, or was before this column was there.';
comment on column queue.paused_at is 'Since when; null: it is not paused, or was before this column was there.';
comment on column kind.paused_at is 'Since when; null: it is not paused, or was before this column was there.';

alter table heartbeat add rss_bytes bigint, add cpu_ms bigint, add children int;
comment on column heartbeat.rss_bytes is 'Memory of the worker''s process and its children; null: an older worker.';
comment on column heartbeat.cpu_ms is 'Processor time that they, and children that have ended, have used since the worker started.';
