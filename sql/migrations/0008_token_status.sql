-- What a token's enqueue did beside making a job.

alter table enqueue_token add column status text collate "C";
comment on column enqueue_token.status is 'What the call did, for the same call again: replaced or rescheduled; null: it made the job.';
