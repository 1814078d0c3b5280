-- Results of jobs.

create table result (
  job bigint primary key,
  at timestamptz not null default clock_timestamp(),
  value jsonb,
  value_bytes bytea,
  problem text,
  check (num_nonnulls(value, value_bytes) <= 1 and num_nonnulls(value, value_bytes, problem) >= 1)
);
create index result_at on result (at);
comment on table result is 'What jobs that succeeded brought back, one row a job; written in the transaction that acks the job. A job without a result has no row.';
comment on column result.problem is 'Why the result is missing or not whole.';

create table progress (
  job bigint primary key,
  worker bigint not null,
  token bigint not null,
  at timestamptz not null,
  fraction real not null,
  text text
) with (fillfactor = 50);
comment on table progress is 'How far running jobs say that they are, at most about once a second; a row counts only while the batch that it names holds its job. Updated in columns without index.';
