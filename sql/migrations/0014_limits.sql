-- What an account may ask, and publishers that are cut off for flooding.
-- Expected duration: milliseconds. Locks: identity.accounts and identity.publishers exclusively for as long.
set local role tollgate_identity_owner;

-- Limits of an account's own, per coordinator; null: the configuration's.
alter table identity.accounts
  add column jobs_per_second integer check (jobs_per_second between 1 and 1000000),
  add column burst_jobs integer check (burst_jobs between 1 and 10000000),
  add column open_locks_max integer check (open_locks_max between 1 and 10000000),
  add column queued_max integer check (queued_max between 1 and 10000000);

-- Set while RabbitMQ lets the publisher write nothing; a coordinator gives the right back when the time is over, then clears it.
alter table identity.publishers add column banned_until timestamptz;

-- Sets limits of an account's own; null leaves one as it is, 0 gives the configuration's back.
create function identity.limit_account(
  p_account text, p_jobs_per_second integer, p_burst_jobs integer, p_open_locks_max integer, p_queued_max integer
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  update identity.accounts
     set jobs_per_second = nullif(coalesce(p_jobs_per_second, jobs_per_second), 0),
         burst_jobs = nullif(coalesce(p_burst_jobs, burst_jobs), 0),
         open_locks_max = nullif(coalesce(p_open_locks_max, open_locks_max), 0),
         queued_max = nullif(coalesce(p_queued_max, queued_max), 0)
   where id = identity.account_id(p_account);
end
$$;

-- Cuts a publisher off for so many milliseconds from now. Answers whether it was not cut off before: several coordinators may see
-- the same flood, and one of them tells of it. A cut-off is never made shorter.
create function identity.ban_publisher(p_id integer, p_hold_off_ms integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_now timestamptz;
  v_before timestamptz;
begin
  select banned_until into v_before from identity.publishers where id = p_id for update;
  v_now := clock_timestamp();
  update identity.publishers
     set banned_until = greatest(banned_until, v_now + p_hold_off_ms * interval '1 ms') where id = p_id;
  return found and (v_before is null or v_before <= v_now);
end
$$;

-- Forgets a cut-off that is over. Answers whether this call did.
create function identity.lift_ban(p_id integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  update identity.publishers set banned_until = null where id = p_id and banned_until <= clock_timestamp();
  return found;
end
$$;

grant select on identity.entitlements to tollgate_credits_owner;
grant execute on function identity.limit_account(text, integer, integer, integer, integer) to tollgate_operator;
grant execute on function identity.ban_publisher(integer, integer), identity.lift_ban(integer) to tollgate_dispatcher;
reset role;

set local role tollgate_jobs_owner;
-- How many jobs of each account hold a credit lock now, by the partial index of open jobs.
create function jobs.count_open_locks(p_account_ids integer[]) returns table (account_id integer, open integer)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
begin
  return query
  select a.id, (count(j.account_id))::integer
    from unnest(p_account_ids) as a (id)
    left join (select i.account_id from jobs.jobs i where i.state = 'locked' and i.account_id = any (p_account_ids)) as j
      on j.account_id = a.id
   group by a.id;
end
$$;
grant execute on function jobs.count_open_locks(integer[]) to tollgate_dispatcher;
reset role;

set local role tollgate_credits_owner;
drop function credits.show_account(text);
-- An account with its credit, its namespaces, its limits and who may spend for it. `banned_ms`: what is left of the cut-off of the
-- publisher at the same place, 0 for none.
create function credits.show_account(p_account text) returns table (
  id integer, name text, credited_micro bigint, captured_micro bigint, held_micro bigint, namespaces text[],
  jobs_per_second integer, burst_jobs integer, open_locks_max integer, queued_max integer,
  publishers text[], banned_ms double precision[]
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_account constant integer := identity.account_id(p_account);
begin
  return query
  select i.id, i.name, a.credited_micro, a.captured_micro, a.held_micro,
         array(select n.name from identity.namespaces n where n.account_id = i.id order by n.name),
         i.jobs_per_second, i.burst_jobs, i.open_locks_max, i.queued_max,
         p.names, p.banned_ms
    from identity.accounts i
    join credits.accounts a on a.id = i.id
   cross join lateral (
     select coalesce(array_agg(b.name order by b.name), '{}') as names,
            coalesce(array_agg(greatest(0, coalesce(ceil(extract(epoch from b.banned_until - clock_timestamp()) * 1000), 0))
                               ::double precision order by b.name), '{}') as banned_ms
       from identity.entitlements e join identity.publishers b on b.id = e.publisher_id
      where e.account_id = i.id) as p
   where i.id = v_account;
end
$$;
grant execute on function credits.show_account(text) to tollgate_billing, tollgate_operator;

reset role;
