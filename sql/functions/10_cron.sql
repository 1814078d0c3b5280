-- Cron texts and their ticks. Local times are computed on the calendar alone; PostgreSQL says the zone's offsets.

-- One field's allowed values as bits.
create or replace function cron_field(p_cron text, p_field text, p_name text, p_low int, p_high int, p_names text[] default '{}') returns bigint
language plpgsql immutable set search_path from current as $$
declare
  v_item text;
  v_part text[];
  v_from int;
  v_to int;
  v_step int;
  v_mask bigint := 0;
  v_problem text;
  v_base int := case when p_low = 1 then 1 else 0 end;
begin
  foreach v_item in array string_to_array(lower(p_field), ',') loop
    v_part := regexp_match(v_item, '^(?:(\*)|([a-z]{3}|[0-9]{1,4})(?:-([a-z]{3}|[0-9]{1,4}))?)(?:/([0-9]{1,4}))?$');
    v_problem := null;
    if v_part is null then
      v_problem := 'is';
    elsif v_part[1] is not null then
      v_from := p_low;
      v_to := case when p_name = 'day of week' then 6 else p_high end;
    else
      v_from := case when v_part[2] ~ '^[0-9]' then v_part[2]::int else array_position(p_names, v_part[2]) - 1 + v_base end;
      v_to := case when v_part[3] is null then v_from when v_part[3] ~ '^[0-9]' then v_part[3]::int
        when v_part[3] = 'sun' and p_name = 'day of week' then 7
        else array_position(p_names, v_part[3]) - 1 + v_base end;
      if v_from is null or v_to is null or v_from not between p_low and p_high or v_to not between p_low and p_high then
        v_problem := 'is';
      elsif v_from > v_to then
        v_problem := 'ends before it begins:';
      elsif v_part[4] is not null and v_part[3] is null then
        v_problem := 'has a step but no range:';
      end if;
    end if;
    v_step := coalesce(v_part[4]::int, 1);
    if v_problem is null and v_step not between 1 and p_high - p_low then v_problem := 'has a step out of range:'; end if;
    if v_problem is not null then
      raise exception 'posthouse: cron %: % % %', quote_literal(p_cron), p_name, v_problem, quote_literal(v_item)
        using errcode = '22023', hint = format('%s is * or numbers %s to %s%s, as lists (1,2), ranges (1-5) and ranges with a step of 1 to %s (*/2, 1-5/2).',
          p_name, p_low, p_high, case p_name when 'month' then ' or jan to dec' when 'day of week' then ' (0 and 7 are Sunday) or sun to sat' else '' end, p_high - p_low);
    end if;
    for v_value in v_from..v_to by v_step loop
      v_mask := v_mask | (1::bigint << case when p_name = 'day of week' then v_value % 7 else v_value end);
    end loop;
  end loop;
  return v_mask;
end $$;

create or replace function cron_masks(cron text) returns bigint[]
language plpgsql immutable set search_path from current as $$
declare
  v_trimmed text := regexp_replace(cron_masks.cron, '^\s+|\s+$', '', 'g');
  v_text text := case lower(v_trimmed)
    when '@yearly' then '0 0 1 1 *' when '@annually' then '0 0 1 1 *' when '@monthly' then '0 0 1 * *' when '@weekly' then '0 0 * * 0'
    when '@daily' then '0 0 * * *' when '@midnight' then '0 0 * * *' when '@hourly' then '0 * * * *' else v_trimmed end;
  f text[] := regexp_split_to_array(v_text, '\s+');
  m bigint[];
begin
  if cron is null or length(cron) > 1000 or v_text ~ '^@' or cardinality(f) not in (5, 6) or v_text = '' then
    raise exception 'posthouse: cron is %', coalesce(quote_literal(left(cron_masks.cron, 100)), 'null')
      using errcode = '22023', hint = 'cron is 5 fields (minute hour day month weekday), 6 with seconds first, or @yearly, @monthly, @weekly, @daily, @hourly. For "every n minutes" from now use every.';
  end if;
  if cardinality(f) = 5 then f := array['0'] || f; end if;
  m := array[
    cron_field(cron, f[1], 'second', 0, 59), cron_field(cron, f[2], 'minute', 0, 59), cron_field(cron, f[3], 'hour', 0, 23),
    cron_field(cron, f[4], 'day of month', 1, 31), cron_field(cron, f[5], 'month', 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'),
    cron_field(cron, f[6], 'day of week', 0, 7, '{sun,mon,tue,wed,thu,fri,sat}'),
    (f[1] ~ '^\*' or f[2] ~ '^\*' or f[3] ~ '^\*')::int, (f[4] ~ '^\*' or f[6] ~ '^\*')::int];
  if m[8] = 1 and not exists (select from generate_series(1, 12) mo, generate_series(1, 31) d
      where (m[5] >> mo) & 1 = 1 and (m[4] >> d) & 1 = 1 and d <= case when mo = 2 then 29 when mo in (4, 6, 9, 11) then 30 else 31 end) then
    raise exception 'posthouse: cron %: day of month % is in none of the months %', quote_literal(cron), quote_literal(f[4]), quote_literal(f[5])
      using errcode = '22023', hint = 'Choose a day that one of the months has.';
  end if;
  return m;
end $$;
comment on function cron_masks(text) is
'Parses a cron text: 5 fields (minute hour day month weekday), 6 with seconds first, or @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly. Returns the allowed seconds, minutes, hours, days, months and weekdays as bits; 1 when second, minute or hour begins with * (it goes by real time when clocks change); 1 when day and weekday must both match (one of them begins with *), else either does.';

-- The lowest set bit from p_from on; null: none.
create or replace function cron_bit(mask bigint, from_bit int) returns int
language sql immutable parallel safe
return nullif(strpos(reverse((cron_bit.mask >> cron_bit.from_bit)::bit(64)::text), '1'), 0) - 1 + cron_bit.from_bit;

-- The first local time after p_after, in seconds; null: none within 41 years. The calendar repeats every 28 years but for
-- the years 2100, 2200, …, around which a 29 February on one weekday takes 40.
create or replace function cron_local(m bigint[], p_after timestamp) returns timestamp
language plpgsql immutable set search_path from current as $$
declare
  v_start timestamp := date_trunc('second', p_after) + interval '1 s';
  v_day date := v_start::date;
  v_last date := v_day + 15000;
  v_second int := extract(epoch from v_start - v_day);
  v_dom bigint;
  v_dow bigint;
  h int;
  mi int;
  s int;
begin
  while v_day < v_last loop
    if (m[5] >> extract(month from v_day)::int) & 1 = 0 then
      v_day := date_trunc('month', v_day::timestamp) + interval '1 month';
      v_second := 0;
      continue;
    end if;
    v_dom := m[4] >> extract(day from v_day)::int;
    v_dow := m[6] >> extract(dow from v_day)::int;
    if ((v_dom & v_dow) | ((v_dom | v_dow) * (1 - m[8]))) & 1 = 1 then
      h := cron_bit(m[3], v_second / 3600);
      if h = v_second / 3600 then
        mi := cron_bit(m[2], v_second / 60 % 60);
        if mi = v_second / 60 % 60 then
          s := cron_bit(m[1], v_second % 60);
          if s is not null then return v_day + make_interval(hours => h, mins => mi, secs => s); end if;
          mi := cron_bit(m[2], mi + 1);
        end if;
        if mi is not null then return v_day + make_interval(hours => h, mins => mi, secs => cron_bit(m[1], 0)); end if;
        h := cron_bit(m[3], h + 1);
      end if;
      if h is not null then return v_day + make_interval(hours => h, mins => cron_bit(m[2], 0), secs => cron_bit(m[1], 0)); end if;
    end if;
    v_day := v_day + 1;
    v_second := 0;
  end loop;
  return null;
end $$;

create or replace function zone_offset(t timestamptz, zone text) returns interval
language sql stable parallel safe
return (zone_offset.t at time zone zone_offset.zone) - (zone_offset.t at time zone 'UTC');

-- The first second of the new offset, given one change in (p_from, p_to].
create or replace function zone_change(p_from timestamptz, p_to timestamptz, p_zone text) returns timestamptz
language plpgsql stable set search_path from current as $$
declare
  v_old interval := zone_offset(p_from, p_zone);
  v_low bigint := floor(extract(epoch from p_from));
  v_high bigint := ceil(extract(epoch from p_to));
  v_mid bigint;
begin
  while v_high - v_low > 1 loop
    v_mid := (v_low + v_high) / 2;
    if zone_offset(to_timestamp(v_mid), p_zone) = v_old then v_low := v_mid; else v_high := v_mid; end if;
  end loop;
  return to_timestamp(v_high);
end $$;

-- The first tick after p_after. The rule for changes of the clock of less than three hours is that of Debian's cron:
-- what begins with * in second, minute or hour goes by real time; of the rest, what falls into a skipped time comes right
-- after the change, once, and what falls into a repeated time comes the first time only. After larger changes the new
-- time counts at once.
create or replace function cron_next(m bigint[], zone text, p_after timestamptz) returns timestamptz
language plpgsql stable set search_path from current as $$
declare
  t timestamptz := to_timestamp(floor(extract(epoch from p_after)));
  v_fixed boolean := m[7] = 0;
  v_rule interval := '3 hours';
  v_step interval := '3 hours';
  v_offset interval;
  v_other interval;
  v_from timestamp;   -- local: the match is after it
  v_match timestamp;
  v_at timestamptz;   -- the match, as long as the offset stays
  v_change timestamptz;
  v_probe timestamptz;
begin
  if zone = 'UTC' then return cron_local(m, t at time zone 'UTC') at time zone 'UTC'; end if;
  v_offset := zone_offset(t, zone);
  v_from := t at time zone zone;
  if v_fixed then
    v_other := zone_offset(t - v_rule, zone);
    if v_other > v_offset and v_other - v_offset < v_rule then
      v_change := zone_change(t - v_rule, t, zone);
      v_from := greatest(v_from, (v_change at time zone 'UTC') + v_other - interval '1 s');
    end if;
  end if;
  loop
    v_match := cron_local(m, v_from);
    if v_match is null then return null; end if;
    v_at := (v_match - v_offset) at time zone 'UTC';
    if v_at - t > interval '48 hours' then
      t := v_at - interval '48 hours';
      v_offset := zone_offset(t, zone);
      v_from := t at time zone zone;
      continue;
    end if;
    v_change := null;
    v_probe := t;
    while v_probe < v_at loop
      v_other := zone_offset(least(v_probe + v_step, v_at), zone);
      if v_other <> v_offset then
        v_change := zone_change(v_probe, least(v_probe + v_step, v_at), zone);
        exit;
      end if;
      v_probe := v_probe + v_step;
    end loop;
    if v_change is null then return v_at; end if;
    v_from := (v_change at time zone zone) - interval '1 s';
    if v_fixed and v_other > v_offset and v_other - v_offset < v_rule and v_match <= v_from then return v_change; end if;
    if v_fixed and v_other < v_offset and v_offset - v_other < v_rule then
      v_from := (v_change at time zone 'UTC') + v_offset - interval '1 s';
    end if;
    t := v_change;
    v_offset := v_other;
  end loop;
end $$;
comment on function cron_next(bigint[], text, timestamptz) is 'The first tick of a parsed cron text after a time, in an IANA time zone; null: none.';

create or replace function check_time_zone(p_zone text) returns void
language plpgsql stable set search_path from current as $$
begin
  if p_zone = 'UTC' then return; end if;
  -- AT TIME ZONE takes abbreviations (a fixed offset) and POSIX rules (with the sign turned round) as well.
  if p_zone is null or exists (select from pg_timezone_abbrevs a where a.abbrev = upper(p_zone))
     or not exists (select from pg_timezone_names z where z.name = p_zone and z.name !~ '^posix') then
    raise exception 'posthouse: time_zone is %', coalesce(quote_literal(left(p_zone, 100)), 'null')
      using errcode = '22023', hint = 'time_zone is UTC or an IANA name in its exact spelling, as Europe/Berlin; pg_timezone_names lists them.';
  end if;
end $$;

create or replace function preview_cron(cron text, time_zone text default 'UTC', n int default 10, from_time timestamptz default null)
returns table (tick timestamptz, local_time timestamp)
language plpgsql stable security definer set search_path from current as $$
declare
  m bigint[] := cron_masks(preview_cron.cron);
  t timestamptz := coalesce(preview_cron.from_time, clock_timestamp());
begin
  perform check_time_zone(preview_cron.time_zone);
  perform check_preview(preview_cron.n);
  for i in 1..preview_cron.n loop
    t := cron_next(m, preview_cron.time_zone, t);
    exit when t is null;
    tick := t;
    local_time := t at time zone preview_cron.time_zone;
    return next;
  end loop;
end $$;
comment on function preview_cron(text, text, int, timestamptz) is 'The next n (1 to 10000) ticks of a cron text after from_time (default: now), as instants and as the local clock shows them.';

create or replace function check_preview(p_n int) returns void
language plpgsql immutable set search_path from current as $$
begin
  if p_n is null or p_n not between 1 and 10000 then
    raise exception 'posthouse: n is %', coalesce(p_n::text, 'null') using errcode = '22023', hint = 'n is 1 to 10000.';
  end if;
end $$;
