-- Limits of how many jobs run at once, and of how many are started in a second.

create table limit_rule (
  name text collate "C" not null,
  scope text collate "C" not null check (scope in ('kind', 'queue', 'all')),
  origin text collate "C" not null check (origin in ('declared', 'set')),
  concurrency int check (concurrency > 0),
  per_second numeric check (per_second > 0),
  burst int check (burst > 0),
  at timestamptz not null default clock_timestamp(),
  primary key (name, scope, origin)
);
comment on table limit_rule is 'Limits of a kind, a queue or (name '''') all jobs. What an operator has set hides what workers have declared, whole; null: no limit.';

create table limit_bucket (
  scope text collate "C" not null,
  name text collate "C" not null,
  seq bigint not null,
  at timestamptz not null,
  tokens numeric not null,
  primary key (scope, name, seq)
);
comment on table limit_bucket is 'Token buckets, appended: the newest row of a limit says how many jobs it would have let start at that moment.';
