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

-- Adds credit to an account. Idempotent by `p_id`, a UUIDv7 of the caller's: `new`, or `exists` for the same top-up again.
-- The id with another account or amount is 23505, outside the window 22023, an unknown account P0002.
create function credits.top_up(p_id uuid, p_account text, p_amount_micro bigint)
returns table (answer text, free_micro bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_account constant integer := identity.account_id(p_account);
  v_before credits.transfers;
  v_answer text := 'exists';
begin
  perform credits.lock_accounts(array[v_account]);
  select * into v_before from credits.transfers where id = p_id and phase = 0;
  if not found then
    if p_id < jobs.first_id(clock_timestamp() - interval '7 days')
       or p_id >= jobs.first_id(clock_timestamp() + interval '10 minutes') then
      raise exception 'the time in id % is outside the accepted window', p_id using errcode = 'invalid_parameter_value';
    end if;
    if p_amount_micro is null or p_amount_micro <= 0 then
      raise exception 'a top-up is more than zero' using errcode = 'invalid_parameter_value';
    end if;
    insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)
    values (p_id, 0, 'top_up', 1, v_account, p_amount_micro);
    update credits.accounts set credited_micro = credited_micro + p_amount_micro where id = v_account;
    v_answer := 'new';
  elsif (v_before.kind, v_before.credit_account_id, v_before.amount_micro)
        is distinct from ('top_up'::credits.transfer_kind, v_account, p_amount_micro) then
    raise exception 'id % was used for another transfer', p_id using errcode = 'unique_violation';
  end if;
  return query select v_answer, a.credited_micro - a.captured_micro - a.held_micro
                 from credits.accounts a where a.id = v_account;
end
$$;

-- An account with its credit and its namespaces.
create function credits.show_account(p_account text) returns table (
  id integer, name text, credited_micro bigint, captured_micro bigint, held_micro bigint, namespaces text[]
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_account constant integer := identity.account_id(p_account);
begin
  return query
  select i.id, i.name, a.credited_micro, a.captured_micro, a.held_micro,
         array(select n.name from identity.namespaces n where n.account_id = i.id order by n.name)
    from identity.accounts i join credits.accounts a on a.id = i.id
   where i.id = v_account;
end
$$;

-- One job's row, its lock and its resolution with the times of their commits, for people. Commit times are null on a server
-- that does not track them.
create function credits.job_story(p_id uuid) returns table (
  job_id uuid, state jobs.state, code text, kind jobs.kind, priority jobs.priority, account text, namespace text,
  publisher text, model text, model_version integer, model_version_id integer, input_price_micro bigint, output_price_micro bigint,
  input_tokens_max integer, output_tokens_max integer, timeout_ms integer, input_tokens integer, output_tokens integer,
  attempt smallint, attempts_max smallint, node text, session bigint, outcome jobs.outcome, reply_owed boolean,
  created_at timestamptz, start_by timestamptz, deadline timestamptz, ended_at timestamptz,
  locked_micro bigint, charged_micro bigint,
  lock_at timestamptz, lock_committed_at timestamptz,
  resolution credits.transfer_kind, resolution_micro bigint, resolution_at timestamptz,
  resolution_committed_at timestamptz, result_digest bytea
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_tracked constant boolean := current_setting('track_commit_timestamp') = 'on';
begin
  return query
  select j.id, j.state, j.code, j.kind, j.priority, a.name, n.name, p.name, m.name, v.version, v.id, v.input_price_micro,
         v.output_price_micro, j.input_tokens_max, j.output_tokens_max, j.timeout_ms, j.input_tokens, j.output_tokens,
         j.attempt, j.attempts_max, j.node, j.session, j.outcome, j.reply_owed, j.created_at, j.start_by, j.deadline,
         j.ended_at, j.locked_micro, j.charged_micro,
         l.at, case when v_tracked then pg_xact_commit_timestamp(l.xmin) end,
         s.kind, s.amount_micro, s.at, case when v_tracked then pg_xact_commit_timestamp(s.xmin) end, s.digest
    from jobs.jobs j
    left join identity.accounts a on a.id = j.account_id
    left join identity.namespaces n on n.id = j.namespace_id
    left join identity.publishers p on p.id = j.publisher_id
    left join network.model_versions v on v.id = j.model_version_id
    left join network.models m on m.id = v.model_id
    left join credits.transfers l on l.id = p_id and l.phase = 0 and l.kind = 'lock'
    left join credits.transfers s on s.id = p_id and s.phase = 1
   where j.id = p_id;
end
$$;

grant execute on function
  credits.lock_batch(uuid[], integer[], integer[], integer[], bytea[], jobs.kind[], jobs.priority[], text[], text[], text[],
                     integer[], integer[], integer[], integer[], smallint[], text[], bigint[], integer, integer),
  credits.end_jobs(uuid[], smallint[], text[], bigint[], text[], boolean[]),
  credits.sweep_overdue(integer)
  to tollgate_dispatcher;
grant execute on function
  credits.settle_batch(uuid[], smallint[], text[], bigint[], boolean[], integer[], integer[], bytea[])
  to tollgate_settler;
grant execute on function credits.top_up(uuid, text, bigint) to tollgate_billing;
grant execute on function credits.show_account(text) to tollgate_billing, tollgate_operator;
grant execute on function credits.job_story(uuid) to tollgate_dispatcher, tollgate_operator, tollgate_auditor;
reset role;
