-- SQL jobs of the broker, and schedules of such. See docs/decisions/0018-sql-jobs.md.

create table broker_job (
  job bigint primary key,
  name text not null,
  language text collate "C" not null,
  statement text not null,
  run_as text collate "C",
  made_by text collate "C" not null,
  own boolean not null default false,
  user_login text,
  schedule bigint,
  depends_on bigint[],
  at timestamptz not null default clock_timestamp()
);
create index broker_job_at on broker_job (at);
comment on table broker_job is 'What broker_add_job was told of a job of the engine: what is run and as whom is read here and nowhere else, since a payload is whatever its producer likes. Written by functions alone; removed by prune() when the job is gone.';
comment on column broker_job.made_by is 'session_user of who added it: must be a member of run_as, then and when it runs.';
comment on column broker_job.own is 'A superuser''s job for itself: runs only where the daemon logs in as that very role.';
comment on column broker_job.schedule is 'broker_schedule.id.';

create table broker_cron (
  id bigint generated always as identity primary key,
  schedule text collate "C" not null unique references schedule (name) on delete cascade,
  name text not null unique,
  language text collate "C" not null,
  statement text not null,
  run_as text collate "C",
  made_by text collate "C" not null,
  own boolean not null default false,
  user_login text
);
comment on table broker_cron is 'What the jobs of a schedule of SQL jobs do; when they do it stands in schedule. Edit it through broker_schedule.';
