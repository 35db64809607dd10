-- What may be done with a job without touching money, and the readers that the money functions share.
-- `= any` with the batch's bounds finds rows through one partition's primary key; the join to the arguments is then a hash
-- join of two small sets. The planner guesses ten elements for an array it cannot see and would loop instead, or scan an
-- empty partition and keep that plan while it fills: forbidden here, both. A forbidden plan that is the only one left costs
-- 10^10 on paper, and would be compiled for half a second: hence `jit = off`.
-- Expected duration: milliseconds. Locks: none that others wait for.
set local role tollgate_jobs_owner;

create function jobs.milliseconds_left(p_until timestamptz, p_now timestamptz) returns integer
language sql immutable parallel safe
return greatest(0, floor(extract(epoch from p_until - p_now) * 1000))::integer;

-- What is known of these ids: no row for an id that has none. `account` comes before `body`: the caller tells another account
-- nothing else.
create function jobs.look_up_batch(p_ids uuid[], p_account_ids integer[], p_digests bytea[])
returns setof jobs.answer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_nestloop = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_lowest uuid;
  v_highest uuid;
begin
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);
  return query
  select j.id,
         case when j.account_id <> r.account_id then 'account' when j.digest <> r.digest then 'body' else 'exists' end,
         j.state, j.attempt, j.node, j.session,
         case when j.ended_at is null then jobs.milliseconds_left(j.start_by, v_now) else 0 end,
         case when j.ended_at is null
              then jobs.milliseconds_left(j.created_at + j.timeout_ms * interval '1 ms', v_now) else 0 end,
         j.model_version_id, j.locked_micro, j.charged_micro, j.code
    from jobs.jobs j
    join unnest(p_ids, p_account_ids, p_digests) as r (id, account_id, digest) on r.id = j.id
   where j.id = any (p_ids) and j.id between v_lowest and v_highest;
end
$$;

-- A locked job asked for again with the same body is answered where the newest request says. (`ended_at is null` is "locked";
-- with the state itself the planner may take the index of open jobs and read all of it.)
create function jobs.replace_reply(
  p_ids uuid[], p_account_ids integer[], p_digests bytea[], p_reply_tos text[], p_correlation_ids text[]
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_nestloop = off as $$
declare
  v_lowest uuid;
  v_highest uuid;
begin
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);
  update jobs.jobs j set reply_to = r.reply_to, correlation_id = r.correlation_id
    from unnest(p_ids, p_account_ids, p_digests, p_reply_tos, p_correlation_ids)
         as r (id, account_id, digest, reply_to, correlation_id)
   where r.id = j.id and j.id = any (p_ids) and j.id between v_lowest and v_highest
     and j.ended_at is null and j.account_id = r.account_id and j.digest = r.digest
     and (j.reply_to, j.correlation_id) is distinct from (r.reply_to, r.correlation_id);
end
$$;

-- The jobs with the names that a reply and a trace need. The names are looked up one by one: a join could be planned as a
-- scan of all namespaces. Runs with the rights of the function that calls it.
create function jobs.describe(p_ids uuid[]) returns setof jobs.description
language plpgsql volatile as $$
declare
  v_lowest uuid;
  v_highest uuid;
begin
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);
  return query
  select j.id, j.account_id, j.namespace_id,
         (select n.name from identity.namespaces n where n.id = j.namespace_id),
         (select p.name from identity.publishers p where p.id = j.publisher_id),
         j.reply_to, j.correlation_id, j.traceparent, j.state, j.code, j.attempt, j.node, j.session,
         j.model_version_id, j.locked_micro, j.charged_micro,
         floor(extract(epoch from j.ended_at) * 1000)::double precision,
         coalesce(j.input_tokens > j.input_tokens_max or j.output_tokens > j.output_tokens_max, false)
    from jobs.jobs j
   where j.id = any (p_ids) and j.id between v_lowest and v_highest;
end
$$;

-- Remembers refusals, and expiries in the queue, of jobs that were never locked. Only the inserter answers the client
-- (`new`); for the others it is a look-up. An id outside the window gets no row: TG_JOB_ID_WINDOW.
create function jobs.end_unlocked_batch(
  p_ids uuid[], p_account_ids integer[], p_namespace_ids integer[], p_publisher_ids integer[], p_digests bytea[],
  p_kinds jobs.kind[], p_priorities jobs.priority[], p_reply_tos text[], p_correlation_ids text[],
  p_traceparents text[], p_states jobs.state[], p_codes text[]
) returns setof jobs.answer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
declare
  v_now timestamptz;
  v_oldest uuid;
  v_newest uuid;
  v_new uuid[];
begin
  perform credits.lock_accounts(p_account_ids);
  v_now := clock_timestamp();
  v_oldest := jobs.first_id(v_now - interval '7 days');
  v_newest := jobs.first_id(v_now + interval '10 minutes');

  with inserted as (
    insert into jobs.jobs (id, created_at, ended_at, account_id, namespace_id, publisher_id, state, kind, priority,
                           attempt, digest, code, reply_to, correlation_id, traceparent)
    select r.id, v_now, v_now, r.account_id, r.namespace_id, r.publisher_id, r.state, r.kind, r.priority,
           0, r.digest, r.code, r.reply_to, r.correlation_id, r.traceparent
      from unnest(p_ids, p_account_ids, p_namespace_ids, p_publisher_ids, p_digests, p_kinds, p_priorities, p_reply_tos,
                  p_correlation_ids, p_traceparents, p_states, p_codes)
           as r (id, account_id, namespace_id, publisher_id, digest, kind, priority, reply_to,
                 correlation_id, traceparent, state, code)
     where r.id >= v_oldest and r.id < v_newest and r.state in ('refused', 'expired')
     order by r.id
    on conflict (id) do nothing
    returning id
  )
  select coalesce(array_agg(id), '{}') into v_new from inserted;

  return query
  select r.id, 'new', r.state, null::smallint, null::text, null::bigint, 0, 0, null::integer, 0::bigint, 0::bigint, r.code
    from unnest(p_ids, p_states, p_codes) as r (id, state, code) where r.id = any (v_new);
  if cardinality(v_new) = cardinality(p_ids) then
    return;
  end if;

  perform jobs.replace_reply(p_ids, p_account_ids, p_digests, p_reply_tos, p_correlation_ids);
  return query
  with known as materialized (
    select * from jobs.look_up_batch(p_ids, p_account_ids, p_digests) as k where k.job_id <> all (v_new)
  )
  select * from known
  union all
  select r.id, 'refused', null, null, null, null, null, null, null, null, null, 'TG_JOB_ID_WINDOW'
    from unnest(p_ids) as r (id)
   where r.id <> all (v_new) and not exists (select from known where known.job_id = r.id);
end
$$;

-- The jobs that ended without a message behind them and are not answered yet, oldest ids first.
create function jobs.owed_replies(p_limit integer) returns setof jobs.description
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
declare
  v_ids uuid[];
begin
  v_ids := array(select id from jobs.jobs where reply_owed order by id limit p_limit);
  if cardinality(v_ids) > 0 then
    return query select * from jobs.describe(v_ids);
  end if;
end
$$;

-- Says that these were answered. Idempotent.
create function jobs.clear_owed(p_ids uuid[]) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
declare
  v_lowest uuid;
  v_highest uuid;
begin
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);
  update jobs.jobs set reply_owed = false
   where id = any (p_ids) and id between v_lowest and v_highest and reply_owed;
end
$$;

-- A page of the attempts that may be running, in the order of (deadline, id): that is the partial index, which holds open
-- jobs only. `p_after` is the last job of the page before; it is found also when it has ended meanwhile.
create function jobs.open_attempts(p_after uuid, p_limit integer)
returns table (job_id uuid, attempt smallint, node text, session bigint, pool text, deadline_in_ms double precision)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_after timestamptz := (select j.deadline from jobs.jobs j where j.id = p_after);
begin
  return query
  select j.id, j.attempt, j.node, j.session,
         (select m.name from network.models m join network.model_versions v on v.model_id = m.id
           where v.id = j.model_version_id),
         floor(extract(epoch from j.deadline - v_now) * 1000)::double precision
    from jobs.jobs j
   where j.state = 'locked' and j.node is not null
     and (j.deadline, j.id) > (coalesce(v_after, '-infinity'), coalesce(p_after, '00000000-0000-0000-0000-000000000000'))
   order by j.deadline, j.id
   limit p_limit;
end
$$;

grant select, insert, update on jobs.jobs to tollgate_credits_owner;
grant select on jobs.jobs to tollgate_auditor;
grant execute on function
  jobs.first_id(timestamptz), jobs.id_bounds(uuid[]),
  jobs.look_up_batch(uuid[], integer[], bytea[]), jobs.replace_reply(uuid[], integer[], bytea[], text[], text[]),
  jobs.describe(uuid[])
  to tollgate_credits_owner;
grant execute on function
  jobs.ensure_partitions(),
  jobs.look_up_batch(uuid[], integer[], bytea[]),
  jobs.end_unlocked_batch(uuid[], integer[], integer[], integer[], bytea[], jobs.kind[], jobs.priority[], text[], text[],
                          text[], jobs.state[], text[]),
  jobs.owed_replies(integer), jobs.clear_owed(uuid[]), jobs.open_attempts(uuid, integer)
  to tollgate_dispatcher;
grant execute on function jobs.ensure_partitions() to tollgate_migrator;
reset role;
