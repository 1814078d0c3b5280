-- What is written once a result or once a failed attempt, and read by upkeep alone: the times are in order of their
-- places, so a summary of each few pages says as much as an entry a row.

drop index result_at;
create index result_at on result using brin (at) with (pages_per_range = 16, autosummarize = on);
drop index attempt_error_at;
create index attempt_error_at on attempt_error using brin (at) with (pages_per_range = 16, autosummarize = on);
