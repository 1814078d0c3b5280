-- Every option of a job on schedules; holds of kinds; who has said a limit.

alter table schedule
  add dedupe_key text,
  add on_duplicate text collate "C" not null default 'skip',
  add dedupe_scope text collate "C" not null default 'unfinished',
  add dedupe_window interval,
  add expires_in interval,
  add timeout interval;
comment on column schedule.dedupe_key is 'Of the jobs that it enqueues, as on_duplicate, dedupe_scope, dedupe_window, expires_in and timeout.';

alter table limit_rule
  drop constraint limit_rule_origin_check,
  add constraint limit_rule_origin_check check (origin in ('declared', 'set', 'held')),
  add held_until timestamptz,
  add said_by text,
  add constraint limit_rule_held_check check ((origin = 'held') = (held_until is not null));
comment on column limit_rule.held_until is 'Of origin held: no job that it counts is claimed before, whatever the other rows say.';
comment on column limit_rule.said_by is 'The worker that declared it, the role that set it, or the worker whose handler asked for the hold.';
