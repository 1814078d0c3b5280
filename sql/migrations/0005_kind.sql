-- Settings of kinds.

create table kind (
  kind text collate "C" primary key,
  paused boolean not null default false
);
comment on table kind is 'Settings of kinds that have any; a kind without a row has the defaults.';
