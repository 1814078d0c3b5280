-- Jobs that wait for other jobs.

create sequence dependency_mark;
comment on sequence dependency_mark is 'Called: some job may wait for another. Unlike a row, that is seen by everybody at once, committed or not, and read without a query. prune() takes it back when none does.';

create table dependency (
  child bigint not null,
  parent bigint not null,
  primary key (child, parent)
);
create index dependency_parent on dependency (parent, child);
comment on table dependency is 'One row for each job that has not ended (parent) and each job that is blocked on it (child); deleted by whoever ends the parent.';

create table dependency_check (
  parent bigint not null,
  ok boolean,
  fence xid8,
  at timestamptz not null default clock_timestamp()
);
create index dependency_check_parent on dependency_check (parent);
comment on table dependency_check is 'Jobs at whose children the leader shall look: an enqueue that names a job cannot know whether that is just ending, and whoever ends a job releases no more than 1000 children and waits for nobody long. No unique index, so that no transaction waits for another.';
comment on column dependency_check.ok is 'How it has ended, should it be gone when the leader looks; null: whoever wrote this does not know.';
comment on column dependency_check.fence is 'The leader has found it unfinished; whoever ends it under a transaction id from here on sees its children.';

alter table deferred
  drop constraint deferred_state_check,
  add constraint deferred_state_check check (state in ('scheduled', 'retryable', 'blocked'));
comment on table deferred is 'Jobs that wait for their time (scheduled, or between two attempts) or for other jobs (blocked; due_at is infinity then).';
