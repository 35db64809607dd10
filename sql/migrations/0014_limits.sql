-- What an account may ask, publishers that are cut off for flooding, and what a node may charge.
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

-- Ends credit locks by results, as before; but input and output are each charged up to their own limit: what a node claims for the
-- one does not use up what was set aside for the other.
create or replace function credits.settle_batch(
  p_ids uuid[], p_attempts smallint[], p_nodes text[], p_sessions bigint[], p_completed boolean[],
  p_input_tokens integer[], p_output_tokens integer[], p_digests bytea[]
) returns table (job_id uuid, answer text, job jobs.description)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_nestloop = off as $$
declare
  v_now timestamptz;
  v_lowest uuid;
  v_highest uuid;
  v_account_ids integer[];
  v_done uuid[];
begin
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);
  v_account_ids := array(
    select distinct j.account_id from jobs.jobs j where j.id = any (p_ids) and j.id between v_lowest and v_highest);
  -- A job that is locked while we wait here may belong to an account that is not among these: it is left alone, as not seen yet.
  perform from credits.accounts where id = any (v_account_ids) order by id for no key update;
  v_now := clock_timestamp();

  with ended as (
    update jobs.jobs j
       set state = case when r.completed then 'succeeded'::jobs.state else 'failed' end,
           outcome = case when r.completed then 'completed'::jobs.outcome else 'failed' end,
           code = case when r.completed then null else 'TG_WORKER_ERROR' end,
           charged_micro = case when r.completed then least(j.locked_micro, (
             select credits.cost_micro(least(r.input_tokens, j.input_tokens_max), least(r.output_tokens, j.output_tokens_max),
                                       v.input_price_micro, v.output_price_micro)
               from network.model_versions v where v.id = coalesce(j.run_version_id, j.model_version_id))) else 0 end,
           input_tokens = r.input_tokens, output_tokens = r.output_tokens, ended_at = v_now
      from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_completed, p_input_tokens, p_output_tokens, p_digests)
           as r (id, attempt, node, session, completed, input_tokens, output_tokens, digest)
     where j.id = r.id and j.id = any (p_ids) and j.id between v_lowest and v_highest
       and j.account_id = any (v_account_ids)
       and j.ended_at is null and j.attempt = r.attempt and j.node = r.node and j.session = r.session
    returning j.id, j.account_id, j.state, j.locked_micro, j.charged_micro, r.digest
  ), transferred as (
    insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro, digest)
    select id, 1, case when state = 'succeeded' then 'capture'::credits.transfer_kind else 'void' end,
           account_id, 2, charged_micro, digest
      from ended order by id
  ), counted as (
    update credits.accounts a
       set held_micro = a.held_micro - s.locked_micro, captured_micro = a.captured_micro + s.charged_micro
      from (select account_id, sum(locked_micro)::bigint as locked_micro, sum(charged_micro)::bigint as charged_micro
              from ended group by account_id) as s
     where a.id = s.account_id and a.id = any (v_account_ids)
  )
  select coalesce(array_agg(id), '{}') into v_done from ended;

  if cardinality(v_done) > 0 then
    return query select d.job_id, 'settled', d from jobs.describe(v_done) as d;
  end if;
  if cardinality(v_done) = cardinality(p_ids) then
    return;
  end if;

  return query
  select r.id,
         case
           when j.id is null or j.ended_at is null and j.attempt = r.attempt and j.node = r.node and j.session = r.session
             then 'unknown'
           when r.attempt < j.attempt then 'late'
           when j.attempt <> r.attempt or j.node is distinct from r.node or j.session is distinct from r.session
             then 'stale'
           when t.digest is null then 'late'
           when t.digest = r.digest then 'same'
           else 'different'
         end,
         d
    from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_digests) as r (id, attempt, node, session, digest)
    left join (select i.id, i.attempt, i.node, i.session, i.ended_at from jobs.jobs i
                where i.id = any (p_ids) and i.id between v_lowest and v_highest) as j on j.id = r.id
    left join (select i.id, i.digest from credits.transfers i
                where i.id = any (p_ids) and i.id between v_lowest and v_highest and i.phase = 1) as t on t.id = r.id
    left join jobs.describe(p_ids) as d on d.job_id = r.id
   where r.id <> all (v_done);
end
$$;
reset role;
