-- How a credit lock ends: by a result, by somebody who gives up, or by its deadline. Shapes and lock order as in lock_batch.
-- Expected duration: milliseconds. Locks: none that others wait for.
set local role tollgate_credits_owner;

-- Ends credit locks by results. The fence (attempt, node, session) stands in the UPDATE's WHERE and nowhere else: what does
-- not match moves nothing. One answer per id: `settled`; `same` (this result was settled before), `different` (another one
-- was), `late` (ended without a result, or a newer attempt runs), `stale` (fence), `unknown`.
create function credits.settle_batch(
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
  perform from credits.accounts where id = any (v_account_ids) order by id for no key update;
  v_now := clock_timestamp();

  with ended as (
    update jobs.jobs j
       set state = case when r.completed then 'succeeded'::jobs.state else 'failed' end,
           outcome = case when r.completed then 'completed'::jobs.outcome else 'failed' end,
           code = case when r.completed then null else 'TG_WORKER_ERROR' end,
           charged_micro = case when r.completed then least(j.locked_micro, (
             select credits.cost_micro(r.input_tokens, r.output_tokens, v.input_price_micro, v.output_price_micro)
               from network.model_versions v where v.id = j.model_version_id)) else 0 end,
           input_tokens = r.input_tokens, output_tokens = r.output_tokens, ended_at = v_now
      from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_completed, p_input_tokens, p_output_tokens, p_digests)
           as r (id, attempt, node, session, completed, input_tokens, output_tokens, digest)
     where j.id = r.id and j.id = any (p_ids) and j.id between v_lowest and v_highest
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
           when j.id is null then 'unknown'
           when r.attempt < j.attempt then 'late'
           when j.attempt <> r.attempt or j.node is distinct from r.node or j.session is distinct from r.session
             then 'stale'
           when t.digest is null then 'late'
           when t.digest = r.digest then 'same'
           else 'different'
         end,
         d
    from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_digests) as r (id, attempt, node, session, digest)
    left join (select i.id, i.attempt, i.node, i.session from jobs.jobs i
                where i.id = any (p_ids) and i.id between v_lowest and v_highest) as j on j.id = r.id
    left join (select i.id, i.digest from credits.transfers i
                where i.id = any (p_ids) and i.id between v_lowest and v_highest and i.phase = 1) as t on t.id = r.id
    left join jobs.describe(p_ids) as d on d.job_id = r.id
   where r.id <> all (v_done);
end
$$;

-- Ends locked jobs without a result: nothing is charged, all returns. Answers the jobs this call ended; the others were
-- ended by somebody else before, or the fence does not match.
create function credits.end_jobs(
  p_ids uuid[], p_attempts smallint[], p_nodes text[], p_sessions bigint[], p_codes text[], p_reply_owed boolean[]
) returns setof jobs.description
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
  perform from credits.accounts where id = any (v_account_ids) order by id for no key update;
  v_now := clock_timestamp();

  with ended as (
    update jobs.jobs j
       set state = 'failed', outcome = 'lost', code = r.code, reply_owed = r.reply_owed, ended_at = v_now
      from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_codes, p_reply_owed)
           as r (id, attempt, node, session, code, reply_owed)
     where j.id = r.id and j.id = any (p_ids) and j.id between v_lowest and v_highest
       and j.ended_at is null and j.attempt = r.attempt and j.node = r.node and j.session = r.session
    returning j.id, j.account_id, j.locked_micro
  ), transferred as (
    insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)
    select id, 1, 'void', account_id, 2, 0 from ended order by id
  ), counted as (
    update credits.accounts a set held_micro = a.held_micro - s.locked_micro
      from (select account_id, sum(locked_micro)::bigint as locked_micro from ended group by account_id) as s
     where a.id = s.account_id and a.id = any (v_account_ids)
  )
  select coalesce(array_agg(id), '{}') into v_done from ended;
  if cardinality(v_done) > 0 then
    return query select * from jobs.describe(v_done);
  end if;
end
$$;

-- Ends at most `p_limit` jobs past their deadline, oldest deadline first: job failed, lock expired, reply owed. One sweep
-- at a time in the whole database; a second one answers nothing at once. A job that ended meanwhile is passed over.
create function credits.sweep_overdue(p_limit integer) returns setof jobs.description
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_nestloop = off as $$
declare
  v_now timestamptz := clock_timestamp();
  v_ids uuid[];
  v_account_ids integer[];
  v_done uuid[];
begin
  if not pg_try_advisory_xact_lock(hashtext('tollgate.credits.sweep_overdue')) then
    return;
  end if;
  select array_agg(s.id), array_agg(distinct s.account_id) into v_ids, v_account_ids
    from (select j.id, j.account_id from jobs.jobs j
           where j.state = 'locked' and j.deadline < v_now order by j.deadline limit p_limit) as s;
  if v_ids is null then
    return;
  end if;
  perform from credits.accounts where id = any (v_account_ids) order by id for no key update;
  v_now := clock_timestamp();

  with ended as (
    update jobs.jobs j
       set state = 'failed', outcome = 'expired', code = 'TG_JOB_OVERDUE', reply_owed = true, ended_at = v_now
     where j.id = any (v_ids) and j.ended_at is null and j.deadline < v_now
    returning j.id, j.account_id, j.locked_micro
  ), transferred as (
    insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)
    select id, 1, 'expire', account_id, 2, 0 from ended order by id
  ), counted as (
    update credits.accounts a set held_micro = a.held_micro - s.locked_micro
      from (select account_id, sum(locked_micro)::bigint as locked_micro from ended group by account_id) as s
     where a.id = s.account_id and a.id = any (v_account_ids)
  )
  select coalesce(array_agg(id), '{}') into v_done from ended;
  if cardinality(v_done) > 0 then
    return query select * from jobs.describe(v_done);
  end if;
end
$$;

grant execute on function
  credits.settle_batch(uuid[], smallint[], text[], bigint[], boolean[], integer[], integer[], bytea[])
  to tollgate_settler;
grant execute on function
  credits.end_jobs(uuid[], smallint[], text[], bigint[], text[], boolean[]),
  credits.sweep_overdue(integer)
  to tollgate_dispatcher;
reset role;
