-- Keys: at most so many jobs of a key at once, in order.

alter table lane add column keyed boolean not null default false;
alter table lane_seen add column keyed boolean not null default false;
comment on column lane.keyed is 'A lane of jobs that have a key; they have lanes of their own, so that others pay nothing for them.';

alter table batch add column keys text[];
alter table batch add column freed bit varying;
comment on column batch.keys is 'The keys of the members, when the claim went by keys; else null.';
comment on column batch.freed is 'Members whose end the keys know of.';

alter table limit_rule drop constraint limit_rule_scope_check;
alter table limit_rule add constraint limit_rule_scope_check check (scope in ('kind', 'queue', 'all', 'key', 'serialized'));
comment on table limit_rule is 'Limits of a kind, a queue or (name '''') all jobs; scope key: of each key of the kind; serialized: the kind runs one after another. What an operator has set hides what workers have declared, whole; null: no limit.';

create table key_turn (
  kind text collate "C" not null,
  key text collate "C" not null,
  seq bigint not null,
  at timestamptz not null default clock_timestamp(),
  holders bigint[] not null,
  parked_to bigint not null,
  parked_last bigint not null,
  primary key (kind, key, seq)
);
comment on table key_turn is 'Who has the key, appended; the newest row of a key counts. Written in the transaction that claims or ends the job.';
comment on column key_turn.holders is 'Jobs that were admitted and have not ended: running, about to be claimed, or between two attempts.';
comment on column key_turn.parked_to is 'Parked jobs up to here have had their turn; there is no row of them.';
comment on column key_turn.parked_last is 'The last place that was given to a parked job.';

create table parked (
  kind text collate "C" not null,
  key text collate "C" not null,
  seq bigint not null,
  id bigint not null,
  lane bigint not null,
  parked_at timestamptz not null default clock_timestamp(),
  queued_at timestamptz not null,
  attempt int not null,
  payload jsonb,
  payload_bytes bytea,
  headers jsonb,
  options jsonb,
  primary key (kind, key, seq)
);
create index parked_id on parked (id);
comment on table parked is 'Jobs that a claim has met while their key was busy. Each is moved here once and back to the log, into the express twin of its lane, when its turn comes.';
comment on column parked.lane is 'Where it goes.';

create table key_rule (
  kind text collate "C" not null,
  key text collate "C" not null,
  paused boolean not null default false,
  primary key (kind, key)
);
comment on table key_rule is 'Keys that are paused.';

create table key_check (
  kind text collate "C" not null,
  key text collate "C" not null,
  at timestamptz not null default clock_timestamp()
);
comment on table key_check is 'Keys that the leader shall look at: a job of theirs ended elsewhere than in a finish, or they were resumed. No unique index, so that no transaction waits for another.';
