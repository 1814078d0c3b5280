-- Jobs that are good until a time, and requests to cancel jobs that run.

create table expiry (
  job bigint not null,
  at timestamptz not null
);
create index expiry_at on expiry (at);
comment on table expiry is 'One row a job that was enqueued with expires_at, for the leader to end it in time when nobody claims it; deleted when that time has come, whatever became of the job.';

create table cancel_request (
  job bigint primary key,
  worker bigint not null,
  at timestamptz not null default clock_timestamp()
);
create index cancel_request_worker on cancel_request (worker);
comment on table cancel_request is 'Running jobs that somebody wants cancelled. While the row is there, the job does not become available again; the leader removes it when the job has ended.';
comment on column cancel_request.worker is 'Who was asked last.';
