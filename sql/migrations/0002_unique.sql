-- Uniqueness of jobs, and enqueues that may be sent again.

create table unique_key (
  kind text collate "C" not null,
  key text collate "C" not null,
  job bigint not null,
  scope text collate "C" not null,
  until timestamptz,
  primary key (kind, key)
) with (fillfactor = 80);
comment on table unique_key is 'The job that took a dedupe key last. Nobody removes the row when that job ends: the next enqueue asks what became of it and takes the key over; prune() removes rows that nobody asked for.';
comment on column unique_key.scope is 'unfinished: held until the job has ended; until_claimed: held while the job waits for a worker.';
comment on column unique_key.until is 'Held until then in any case, unless the job failed, was cancelled or deleted; null: no window.';

create table enqueue_token (
  token uuid primary key,
  job bigint not null,
  fingerprint bytea not null,
  at timestamptz not null default clock_timestamp()
);
create index enqueue_token_at on enqueue_token (at);
comment on table enqueue_token is 'Tokens of enqueues that may be sent again, kept for meta.retention_tokens (1 day).';
