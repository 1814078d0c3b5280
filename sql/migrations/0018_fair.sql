-- Settings of kinds that are no limits: weight, fair_by; lanes of tenants.

create table kind_setting (
  kind text collate "C" not null,
  name text collate "C" not null check (name in ('weight', 'fair_by')),
  origin text collate "C" not null check (origin in ('declared', 'set')),
  value text,
  at timestamptz not null default clock_timestamp(),
  said_by text,
  primary key (kind, name, origin)
);
comment on table kind_setting is 'Settings of kinds. What an operator has set hides what workers have declared; null: the default.';
comment on column kind_setting.said_by is 'The worker that declared it, or the role that set it.';

alter table lane add column share text collate "C";
alter table lane_seen add column share text collate "C";
comment on column lane.share is 'Of a kind with fair_by: "=" and a hash of the value for the lane of one tenant, "#" and a number for a lane that several share; null: jobs without a value, and of all other kinds.';

drop index lane_names;
create index lane_names on lane (queue, kind, priority, express, keyed, share);
create index lane_seen_names on lane_seen (queue, kind, priority, keyed, share);
