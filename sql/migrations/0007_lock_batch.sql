-- The only ways to move a credit. Each is one call and one commit of several statements: the first locks the account rows,
-- the next ones, each with a snapshot taken after that wait, decide. In one statement they would read every other table as
-- it was before the wait. Lock order everywhere: accounts, jobs, transfers, each by id.
-- "Locked" is written `ended_at is null` where jobs are found by id (a check keeps the two the same): with the state itself
-- the planner may take the index of open jobs and read all of it.
-- Expected duration: milliseconds. Locks: none that others wait for.
set local role tollgate_credits_owner;

-- Of these jobs, those that their account's free credit does not reach, taken one by one in the order given. Ids that have a
-- row are passed over: they cost nothing now. Called by lock_batch, with its rights, when an account runs short.
create function credits.jobs_beyond_credit(p_ids uuid[], p_account_ids integer[], p_amounts_micro bigint[])
returns uuid[]
language plpgsql volatile as $$
declare
  v_known uuid[];
  v_beyond uuid[] := '{}';
  v_lowest uuid;
  v_highest uuid;
  v_account_id integer;
  v_free_micro bigint;
  v_job record;
begin
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);
  v_known := array(select id from jobs.jobs where id = any (p_ids) and id between v_lowest and v_highest);
  for v_account_id, v_free_micro in
    select a.id, a.credited_micro - a.captured_micro - a.held_micro
      from (select r.account_id, sum(r.amount_micro) as total_micro
              from unnest(p_account_ids, p_amounts_micro) as r (account_id, amount_micro) group by r.account_id) as s
      join credits.accounts a on a.id = s.account_id
     where a.id = any (p_account_ids) and s.total_micro > a.credited_micro - a.captured_micro - a.held_micro
  loop
    for v_job in
      select r.id, r.amount_micro
        from unnest(p_ids, p_account_ids, p_amounts_micro) with ordinality as r (id, account_id, amount_micro, place)
       where r.account_id = v_account_id and r.id <> all (v_known) order by r.place
    loop
      if v_job.amount_micro <= v_free_micro then
        v_free_micro := v_free_micro - v_job.amount_micro;
      else
        v_beyond := v_beyond || v_job.id;
      end if;
    end loop;
  end loop;
  return v_beyond;
end
$$;

-- Sets credits aside for attempt 1 of each job, or remembers why not. One answer per id: `new`, `refused` (with a row: no
-- price, limits, credit; without: window, unknown account), `repriced` (no row: the version is retired or unknown), and for
-- ids that have a row what jobs.look_up_batch says.
create function credits.lock_batch(
  p_ids uuid[], p_account_ids integer[], p_namespace_ids integer[], p_publisher_ids integer[], p_digests bytea[],
  p_kinds jobs.kind[], p_priorities jobs.priority[], p_reply_tos text[], p_correlation_ids text[],
  p_traceparents text[], p_model_version_ids integer[], p_input_tokens_max integer[], p_output_tokens_max integer[],
  p_timeouts_ms integer[], p_attempts_max smallint[], p_nodes text[], p_sessions bigint[],
  p_start_window_ms integer, p_grace_ms integer
) returns setof jobs.answer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_nestloop = off as $$
declare
  v_now timestamptz;
  v_oldest uuid;
  v_newest uuid;
  v_verdicts text[];
  v_amounts_micro bigint[];
  v_is_short boolean;
  v_beyond uuid[];
  v_new uuid[];
  v_all_new boolean;
begin
  perform from credits.accounts where id = any (p_account_ids) order by id for no key update;

  v_now := clock_timestamp();
  v_oldest := jobs.first_id(v_now - interval '7 days');
  v_newest := jobs.first_id(v_now + interval '10 minutes');

  -- What each job would get were it new: `lock`, a refusal to record (TG_…), or a reason to write no row (-…).
  select array_agg(x.verdict order by x.place), array_agg(x.amount_micro order by x.place),
         bool_or(x.total_micro > x.free_micro)
    into v_verdicts, v_amounts_micro, v_is_short
    from (select r.place, w.verdict, c.amount_micro, a.credited_micro - a.captured_micro - a.held_micro as free_micro,
                 sum(c.amount_micro) over (partition by r.account_id) as total_micro
            from unnest(p_ids, p_account_ids, p_model_version_ids, p_input_tokens_max, p_output_tokens_max, p_timeouts_ms)
                 with ordinality
                 as r (id, account_id, model_version_id, input_tokens_max, output_tokens_max, timeout_ms, place)
            left join (select i.* from credits.accounts i
                        where i.id = any (p_account_ids) and i.kind = 'customer') as a on a.id = r.account_id
            left join (select i.* from network.model_versions i
                        where i.id = any (p_model_version_ids)) as v on v.id = r.model_version_id
           cross join lateral (select case
                   when r.id < v_oldest or r.id >= v_newest then '-window'
                   when a.id is null then '-account'
                   when v.id is null or v.retired_at is not null then '-repriced'
                   when v.input_price_micro is null or v.output_price_micro is null then 'TG_MODEL_NO_PRICE'
                   when r.input_tokens_max > v.input_tokens_max or r.output_tokens_max > v.output_tokens_max
                     or r.timeout_ms > v.timeout_ms_max then 'TG_JOB_LIMITS'
                   else 'lock' end) as w (verdict)
           cross join lateral (select case when w.verdict = 'lock' then credits.cost_micro(
                   r.input_tokens_max, r.output_tokens_max, v.input_price_micro, v.output_price_micro)
                   else 0 end) as c (amount_micro)) as x;
  if v_is_short then
    v_beyond := credits.jobs_beyond_credit(p_ids, p_account_ids, v_amounts_micro);
    v_verdicts := array(
      select case when r.id = any (v_beyond) then 'TG_CREDIT_INSUFFICIENT' else r.verdict end
        from unnest(p_ids, v_verdicts) with ordinality as r (id, verdict, place) order by r.place);
  end if;

  -- Only the inserter of the arbiter's row writes a transfer and moves a counter.
  with inserted as (
    insert into jobs.jobs (id, created_at, start_by, deadline, ended_at, session, locked_micro, account_id, namespace_id,
                           publisher_id, model_version_id, input_tokens_max, output_tokens_max, timeout_ms, state, kind,
                           priority, attempt, attempts_max, digest, node, code, reply_to, correlation_id, traceparent)
    select r.id, v_now,
           case when r.verdict = 'lock' then v_now + p_start_window_ms * interval '1 ms' end,
           case when r.verdict = 'lock'
                then v_now + (p_start_window_ms + r.timeout_ms + p_grace_ms) * interval '1 ms' end,
           case when r.verdict <> 'lock' then v_now end,
           case when r.verdict = 'lock' then r.session end,
           case when r.verdict = 'lock' then r.amount_micro else 0 end,
           r.account_id, r.namespace_id, r.publisher_id, r.model_version_id, r.input_tokens_max, r.output_tokens_max,
           r.timeout_ms,
           case when r.verdict = 'lock' then 'locked'::jobs.state else 'refused' end,
           r.kind, r.priority,
           case when r.verdict = 'lock' then 1 else 0 end,
           r.attempts_max, r.digest,
           case when r.verdict = 'lock' then r.node end,
           case when r.verdict <> 'lock' then r.verdict end,
           r.reply_to, r.correlation_id, r.traceparent
      from unnest(p_ids, p_account_ids, p_namespace_ids, p_publisher_ids, p_digests, p_kinds, p_priorities, p_reply_tos,
                  p_correlation_ids, p_traceparents, p_model_version_ids, p_input_tokens_max, p_output_tokens_max,
                  p_timeouts_ms, p_attempts_max, p_nodes, p_sessions, v_verdicts, v_amounts_micro)
           as r (id, account_id, namespace_id, publisher_id, digest, kind, priority, reply_to, correlation_id, traceparent,
                 model_version_id, input_tokens_max, output_tokens_max, timeout_ms, attempts_max, node, session, verdict,
                 amount_micro)
     where r.verdict not like '-%'
     order by r.id
    on conflict (id) do nothing
    returning id, account_id, locked_micro, state
  ), transferred as (
    insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)
    select id, 0, 'lock', account_id, 2, locked_micro from inserted where state = 'locked'
  ), counted as (
    update credits.accounts a set held_micro = a.held_micro + s.amount_micro
      from (select account_id, sum(locked_micro)::bigint as amount_micro
              from inserted where state = 'locked' group by account_id) as s
     where a.id = s.account_id and a.id = any (p_account_ids)
  )
  select coalesce(array_agg(id), '{}') into v_new from inserted;
  v_all_new := cardinality(v_new) = cardinality(p_ids);

  return query
  select r.id, case r.verdict when 'lock' then 'new' else 'refused' end,
         case r.verdict when 'lock' then 'locked'::jobs.state else 'refused' end,
         1::smallint, r.node, r.session, p_start_window_ms, r.timeout_ms, r.model_version_id, r.amount_micro, 0::bigint,
         nullif(r.verdict, 'lock')
    from unnest(p_ids, p_nodes, p_sessions, p_timeouts_ms, p_model_version_ids, v_verdicts, v_amounts_micro)
         as r (id, node, session, timeout_ms, model_version_id, verdict, amount_micro)
   where v_all_new or r.id = any (v_new);
  if v_all_new then
    return;
  end if;

  perform jobs.replace_reply(p_ids, p_account_ids, p_digests, p_reply_tos, p_correlation_ids);
  return query
  with known as materialized (
    select * from jobs.look_up_batch(p_ids, p_account_ids, p_digests) as k where k.job_id <> all (v_new)
  )
  select * from known
  union all
  select r.id, case r.verdict when '-repriced' then 'repriced' else 'refused' end,
         null, null, null, null, null, null, null, null, null,
         case r.verdict when '-window' then 'TG_JOB_ID_WINDOW' when '-account' then 'TG_ACCOUNT_UNKNOWN' end
    from unnest(p_ids, v_verdicts) as r (id, verdict)
   where r.id <> all (v_new) and not exists (select from known where known.job_id = r.id);
end
$$;

grant execute on function
  credits.lock_batch(uuid[], integer[], integer[], integer[], bytea[], jobs.kind[], jobs.priority[], text[], text[], text[],
                     integer[], integer[], integer[], integer[], smallint[], text[], bigint[], integer, integer)
  to tollgate_dispatcher;
reset role;
