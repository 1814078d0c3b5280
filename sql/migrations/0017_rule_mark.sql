-- Whether any limit is set or anything is paused, told without a query to those who claim one job at a time.

create sequence rule_mark;
comment on sequence rule_mark is 'Called: something may be paused, or have a limit. Unlike a row, that is seen by everybody at once, committed or not, and read without a query. prune() takes it back when there is no such thing.';
select nextval('rule_mark') where exists (select from limit_rule) or exists (select from queue q where q.paused) or exists (select from kind k where k.paused);
