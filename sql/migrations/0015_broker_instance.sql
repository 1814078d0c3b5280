-- Brokers: which one serves this database.

create table broker_instance (
  id bigint generated always as identity primary key,
  name text not null,
  host text not null,
  pid int not null,
  version text not null,
  queue_count int not null check (queue_count between 0 and 1000),
  started_at timestamptz not null default clock_timestamp(),
  last_ping_at timestamptz not null default clock_timestamp(),
  in_session boolean not null default false,
  shutdown_at timestamptz,
  lost boolean not null default false
) with (fillfactor = 50);
create unique index broker_instance_active on broker_instance ((true)) where shutdown_at is null;
comment on table broker_instance is 'Brokers that serve or served this database; at most one has no shutdown_at. Read it as broker_queueinstance.';
comment on column broker_instance.in_session is 'A session holds an advisory lock for it: when that is gone, so is the broker.';
comment on column broker_instance.lost is 'Another one took its place, since it gave no sign of life.';
