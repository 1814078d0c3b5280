-- Whether there is a limit or a pause at all. Whoever claims one job at a time asks this instead of three tables.

create or replace function rules_lock() returns int
language sql immutable parallel safe
return (hashtext('rules') & -4) | 3;

-- False: no transaction has committed a limit or a pause that is still in force.
create or replace function has_rules() returns boolean
language sql volatile
return pg_sequence_last_value('rule_mark'::regclass) is not null;

create or replace function mark_rules() returns trigger
language plpgsql security definer set search_path from current as $$
begin
  -- Until the commit, so that nobody takes the mark back before the row is there to be seen.
  perform pg_advisory_xact_lock_shared(key_space(), rules_lock());
  if not has_rules() then perform nextval('rule_mark'); end if;
  return null;
end $$;
comment on function mark_rules() is 'Trigger: whoever sets a limit or pauses something marks that there is a rule.';

create or replace trigger limit_rule_marked after insert on limit_rule for each row execute function mark_rules();
create or replace trigger queue_marked after insert or update on queue for each row when (new.paused) execute function mark_rules();
create or replace trigger kind_marked after insert or update on kind for each row when (new.paused) execute function mark_rules();

create or replace function prune_rules() returns void
language plpgsql security definer set search_path from current as $$
begin
  if not has_rules() or not pg_try_advisory_xact_lock(key_space(), rules_lock()) then return; end if;
  -- Nobody is setting one, and what has been committed is seen from here on.
  if not exists (select from limit_rule) and not exists (select from queue q where q.paused) and not exists (select from kind k where k.paused) then
    perform setval('rule_mark', 1, false);
  end if;
end $$;
comment on function prune_rules() is 'Part of prune(): takes the mark back when no limit is left and nothing is paused.';
