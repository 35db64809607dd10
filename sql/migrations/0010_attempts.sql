-- What becomes of a job whose attempt failed: the next attempt under the same credit lock, or its end. And cancellation.
-- Giving an attempt up moves the fence in one UPDATE: from then on its results are late. Lock order everywhere: accounts, jobs,
-- attempts, transfers, each by id.
-- Expected duration: milliseconds on a new database. The column defaults are not written to old rows; the index is built under
-- a lock that writers wait for, about a second per million open and closed jobs.
set local role tollgate_jobs_owner;

-- `uncounted`: attempts given up through no fault of job or node; attempt - uncounted is the number of tries used up.
-- `retry_at`: while the job is locked and has no node, when the next attempt is due.
-- `run_version_id`: the fallback that runs instead of the version that the lock was priced by.
-- `pool_suffix`: what the job's constraint adds to the name of a model to make its pool's, null for most (0012 fills it). With it the
-- pool of a fallback is known as well as that of the model that was asked for.
alter table jobs.jobs
  add column pool_suffix text,
  add column retry_at timestamptz,
  add column run_version_id integer,
  add column uncounted smallint not null default 0;
create index retries_due on jobs.jobs (retry_at) where retry_at is not null and state = 'locked';

-- The attempts that were given up for a later one; the newest one is in the job's own row. Rows come with the move of the fence
-- and never change, but for `is_owed`: slot, trace and alarm are still to be done by the loop that pays what is owed.
create table jobs.attempts (
  job_id uuid not null,
  ended_at timestamptz not null,
  session bigint not null,
  attempt smallint not null,
  is_counted boolean not null,
  is_owed boolean not null,
  outcome jobs.outcome not null,
  class text not null,
  code text not null,
  node text not null,
  -- Of the result that said so; null where none came.
  digest bytea check (octet_length(digest) = 32),
  primary key (job_id, attempt)
) partition by range (job_id);
create index attempts_owed on jobs.attempts (job_id) where is_owed;

-- Makes one month's partition of a table of this schema unless it is there; answers whether it did.
create function jobs.ensure_partition(p_table text, p_month timestamptz, p_options text) returns boolean
language plpgsql volatile as $$
declare
  v_name constant text := format('%s_%s', p_table, to_char(p_month at time zone 'UTC', 'YYYYMM'));
begin
  if to_regclass(format('jobs.%I', v_name)) is not null then
    return false;
  end if;
  execute format('create table jobs.%I (like jobs.%I including all) %s', v_name, p_table, p_options);
  execute format('alter table jobs.%I attach partition jobs.%I for values from (%L) to (%L)', p_table, v_name,
                 jobs.first_id(p_month),
                 jobs.first_id((p_month at time zone 'UTC' + interval '1 month') at time zone 'UTC'));
  return true;
end
$$;

-- Makes the partitions of months -1 to +3 that are missing; answers how many. LIKE and ATTACH instead of
-- CREATE ... PARTITION OF, which waits behind every reader of the parent and stops whoever comes after it.
create or replace function jobs.ensure_partitions() returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  v_month timestamptz;
  v_made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('tollgate.jobs.ensure_partitions'));
  for v_step in -1..3 loop
    v_month := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => v_step)) at time zone 'UTC';
    -- Each job leaves one dead row behind when it ends: vacuum early, so that its space is used again.
    v_made := v_made
      + jobs.ensure_partition('jobs', v_month,
          'with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)')::integer
      + jobs.ensure_partition('attempts', v_month, '')::integer;
  end loop;
  return v_made;
end
$$;

-- A reply names the version that ran.
create or replace function jobs.describe(p_ids uuid[]) returns setof jobs.description
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
         coalesce(j.run_version_id, j.model_version_id), j.locked_micro, j.charged_micro,
         floor(extract(epoch from j.ended_at) * 1000)::double precision,
         coalesce(j.input_tokens > j.input_tokens_max or j.output_tokens > j.output_tokens_max, false)
    from jobs.jobs j
   where j.id = any (p_ids) and j.id between v_lowest and v_highest;
end
$$;

drop function jobs.open_attempts(uuid, integer);
-- A page of the attempts that may be running, in the order of (deadline, id): that is the partial index, which holds open
-- jobs only. `p_after` is the last job of the page before; it is found also when it has ended meanwhile. `start_over_ms`: since
-- the attempt should have begun, negative before.
create function jobs.open_attempts(p_after uuid, p_limit integer)
returns table (job_id uuid, attempt smallint, node text, session bigint, pool text, deadline_in_ms double precision,
               start_over_ms double precision)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_after timestamptz := (select j.deadline from jobs.jobs j where j.id = p_after);
begin
  return query
  select j.id, j.attempt, j.node, j.session,
         (select m.name || coalesce(j.pool_suffix, '') from network.models m join network.model_versions v on v.model_id = m.id
           where v.id = coalesce(j.run_version_id, j.model_version_id)),
         floor(extract(epoch from j.deadline - v_now) * 1000)::double precision,
         floor(extract(epoch from v_now - j.start_by) * 1000)::double precision
    from jobs.jobs j
   where j.state = 'locked' and j.node is not null
     and (j.deadline, j.id) > (coalesce(v_after, '-infinity'), coalesce(p_after, '00000000-0000-0000-0000-000000000000'))
   order by j.deadline, j.id
   limit p_limit;
end
$$;

-- What a retry message's job needs to run again; no row for an id that has none. Its input is in the traces.
create function jobs.read_retries(p_ids uuid[]) returns table (
  job_id uuid, state jobs.state, attempt smallint, node text, namespace text, model_version_id integer, remaining_ms integer,
  tried text[], last_class text, last_code text, last_node text
)
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
  select j.id, j.state, j.attempt, j.node, (select n.name from identity.namespaces n where n.id = j.namespace_id),
         j.model_version_id, jobs.milliseconds_left(j.created_at + j.timeout_ms * interval '1 ms', v_now),
         array(select distinct a.node from jobs.attempts a where a.job_id = j.id order by a.node),
         l.class, l.code, l.node
    from jobs.jobs j
    left join lateral (select a.class, a.code, a.node from jobs.attempts a
                        where a.job_id = j.id and a.attempt = j.attempt - 1 limit 1) as l on true
   where j.id = any (p_ids) and j.id between v_lowest and v_highest;
end
$$;

-- Gives a node to attempts that wait for one, under the lock that stands; sets their start window anew. Where `run_version_id` is
-- not the locked one it must be a fallback that the lock pays for. One answer per id that has a row: `new` (placed by this
-- call), `repriced` (this version cannot run under the lock) or what `exists` says. Moves no credit, and locks the accounts all
-- the same: so nobody else holds the jobs.
create function jobs.place_batch(
  p_ids uuid[], p_attempts smallint[], p_nodes text[], p_sessions bigint[], p_version_ids integer[], p_start_window_ms integer
) returns setof jobs.answer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_nestloop = off as $$
declare
  v_now timestamptz;
  v_lowest uuid;
  v_highest uuid;
  v_placed uuid[];
  v_unpayable uuid[];
begin
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);
  perform credits.lock_accounts(array(
    select distinct j.account_id from jobs.jobs j where j.id = any (p_ids) and j.id between v_lowest and v_highest));
  v_now := clock_timestamp();

  v_unpayable := array(
    select j.id
      from jobs.jobs j
      join unnest(p_ids, p_version_ids) as r (id, version_id) on r.id = j.id
      left join network.model_versions v on v.id = r.version_id and v.id = any (p_version_ids)
     where j.id = any (p_ids) and j.id between v_lowest and v_highest and j.model_version_id <> r.version_id
       and (v.id is null or v.retired_at is not null or v.input_price_micro is null or v.output_price_micro is null
            or j.input_tokens_max > v.input_tokens_max or j.output_tokens_max > v.output_tokens_max
            or credits.cost_micro(j.input_tokens_max, j.output_tokens_max, v.input_price_micro, v.output_price_micro)
               > j.locked_micro));

  with placed as (
    update jobs.jobs j
       set node = r.node, session = r.session, retry_at = null, run_version_id = nullif(r.version_id, j.model_version_id),
           start_by = v_now + p_start_window_ms * interval '1 ms'
      from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_version_ids) as r (id, attempt, node, session, version_id)
     where j.id = r.id and j.id = any (p_ids) and j.id between v_lowest and v_highest and j.id <> all (v_unpayable)
       and j.ended_at is null and j.attempt = r.attempt and j.node is null
       and v_now < j.created_at + j.timeout_ms * interval '1 ms'
    returning j.id
  )
  select coalesce(array_agg(id), '{}') into v_placed from placed;

  return query
  select j.id,
         case when j.id = any (v_placed) then 'new'
              when j.id = any (v_unpayable) and j.ended_at is null and j.node is null then 'repriced' else 'exists' end,
         j.state, j.attempt, j.node, j.session,
         case when j.ended_at is null then jobs.milliseconds_left(j.start_by, v_now) else 0 end,
         case when j.ended_at is null
              then jobs.milliseconds_left(j.created_at + j.timeout_ms * interval '1 ms', v_now) else 0 end,
         coalesce(j.run_version_id, j.model_version_id), j.locked_micro, j.charged_micro, j.code
    from jobs.jobs j
   where j.id = any (p_ids) and j.id between v_lowest and v_highest;
end
$$;

-- Takes at most `p_limit` attempts that were due `p_grace_ms` ago and still have no node: their alarm may be lost. Each is
-- answered to one caller, and comes again after as long as it has waited: the alarm's message may only wait for a slot.
create function jobs.claim_retries(p_limit integer, p_grace_ms integer)
returns table (job_id uuid, attempt smallint, pool text, priority jobs.priority, remaining_ms integer)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return query
  with due as (
    select j.id from jobs.jobs j
     where j.state = 'locked' and j.retry_at < v_now - p_grace_ms * interval '1 ms'
     order by j.retry_at limit p_limit for no key update skip locked
  )
  update jobs.jobs j
     set retry_at = v_now + greatest(interval '1 second', v_now - coalesce(
           (select a.ended_at from jobs.attempts a where a.job_id = j.id and a.attempt = j.attempt - 1), v_now))
    from due
   where j.id = due.id and j.state = 'locked' and j.node is null
  returning j.id, j.attempt,
            (select m.name || coalesce(j.pool_suffix, '') from network.models m join network.model_versions v on v.model_id = m.id
              where v.id = j.model_version_id),
            j.priority, jobs.milliseconds_left(j.created_at + j.timeout_ms * interval '1 ms', v_now);
end
$$;

-- Attempts that were given up with nobody standing behind what follows: a slot to free, a trace to write, an alarm to set.
create function jobs.owed_attempts(p_limit integer) returns table (
  job_id uuid, attempt smallint, node text, session bigint, outcome jobs.outcome, class text, code text, is_counted boolean,
  ended_at_ms double precision, namespace text, locked_micro bigint, pool text, priority jobs.priority,
  next_attempt smallint, retry_ms integer, remaining_ms integer
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return query
  select a.job_id, a.attempt, a.node, a.session, a.outcome, a.class, a.code, a.is_counted,
         floor(extract(epoch from a.ended_at) * 1000)::double precision,
         (select n.name from identity.namespaces n where n.id = j.namespace_id), j.locked_micro,
         (select m.name || coalesce(j.pool_suffix, '') from network.models m join network.model_versions v on v.model_id = m.id
           where v.id = j.model_version_id),
         j.priority, (a.attempt + 1)::smallint,
         case when j.ended_at is null and j.node is null and j.attempt = a.attempt + 1
              then jobs.milliseconds_left(j.retry_at, v_now) end,
         case when j.ended_at is null
              then jobs.milliseconds_left(j.created_at + j.timeout_ms * interval '1 ms', v_now) else 0 end
    from (select i.* from jobs.attempts i where i.is_owed order by i.job_id limit p_limit) as a
    join jobs.jobs j on j.id = a.job_id;
end
$$;

-- Says that what these attempts owed was done. Idempotent.
create function jobs.clear_owed_attempts(p_ids uuid[], p_attempts smallint[]) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
begin
  update jobs.attempts a set is_owed = false
    from unnest(p_ids, p_attempts) as r (id, attempt)
   where a.job_id = r.id and a.attempt = r.attempt and a.job_id = any (p_ids) and a.is_owed;
end
$$;

-- The attempts of one job that were given up, oldest first, for people.
create function jobs.attempts_of(p_id uuid) returns table (
  attempt smallint, node text, session bigint, outcome jobs.outcome, class text, code text, is_counted boolean,
  ended_at timestamptz
)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select a.attempt, a.node, a.session, a.outcome, a.class, a.code, a.is_counted, a.ended_at
    from jobs.attempts a where a.job_id = p_id order by a.attempt;
end;

grant select, insert on jobs.attempts to tollgate_credits_owner;
grant select on jobs.attempts to tollgate_auditor;
grant execute on function
  jobs.read_retries(uuid[]),
  jobs.place_batch(uuid[], smallint[], text[], bigint[], integer[], integer),
  jobs.claim_retries(integer, integer), jobs.owed_attempts(integer), jobs.clear_owed_attempts(uuid[], smallint[]),
  jobs.open_attempts(uuid, integer)
  to tollgate_dispatcher;
grant execute on function jobs.milliseconds_left(timestamptz, timestamptz) to tollgate_credits_owner;
reset role;

set local role tollgate_credits_owner;
grant execute on function credits.cost_micro(integer, integer, bigint, bigint) to tollgate_jobs_owner;
reset role;
set local role tollgate_jobs_owner;
grant execute on function jobs.attempts_of(uuid) to tollgate_dispatcher, tollgate_operator, tollgate_auditor;
reset role;

set local role tollgate_credits_owner;

-- Gives up the attempts that the fence names: the next attempt where the caller allows one (`delay_ms` is not null) and the job
-- still has a try and time for it, else the end of the job: failed, void, all returned. A counted failure uses up a try; of the
-- others a job may have `p_uncounted_max`. `owed`: no message stands behind this call, so a loop does what follows. One answer
-- per id: `retry` (the fence moved to `attempt`, due in `retry_ms`), `ended`, `retried` and `same` (what this very call did
-- before: do what follows again; `retry_ms` is null where the next attempt needs no alarm any more), `late`, `stale`,
-- `different`, `unknown` as settle_batch has them.
create function credits.give_up_batch(
  p_ids uuid[], p_attempts smallint[], p_nodes text[], p_sessions bigint[], p_outcomes jobs.outcome[], p_classes text[],
  p_codes text[], p_counted boolean[], p_delays_ms integer[], p_digests bytea[], p_owed boolean[], p_uncounted_max integer
) returns table (job_id uuid, answer text, next_attempt smallint, retry_ms integer, remaining_ms integer, pool text,
                 priority jobs.priority, job jobs.description)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_nestloop = off as $$
declare
  v_now timestamptz;
  v_lowest uuid;
  v_highest uuid;
  v_account_ids integer[];
  v_moved uuid[];
  v_ended uuid[];
begin
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);
  v_account_ids := array(
    select distinct j.account_id from jobs.jobs j where j.id = any (p_ids) and j.id between v_lowest and v_highest);
  -- A job that is locked while we wait here may belong to an account that is not among these: it is left alone, as not seen yet.
  perform from credits.accounts where id = any (v_account_ids) order by id for no key update;
  v_now := clock_timestamp();

  with moved as (
    update jobs.jobs j
       set attempt = j.attempt + 1, uncounted = j.uncounted + (not r.counted)::integer, node = null, session = null,
           retry_at = v_now + r.delay_ms * interval '1 ms'
      from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_outcomes, p_classes, p_codes, p_counted, p_delays_ms, p_digests,
                  p_owed) as r (id, attempt, node, session, outcome, class, code, counted, delay_ms, digest, owed)
     where j.id = r.id and j.id = any (p_ids) and j.id between v_lowest and v_highest
       and j.account_id = any (v_account_ids)
       and j.ended_at is null and j.attempt = r.attempt and j.node = r.node and j.session = r.session
       and r.delay_ms is not null and j.attempt < 100
       and case when r.counted then j.attempt - j.uncounted < j.attempts_max else j.uncounted < p_uncounted_max end
       and v_now + r.delay_ms * interval '1 ms' < j.created_at + j.timeout_ms * interval '1 ms'
    returning j.id, r.attempt, r.node, r.session, r.outcome, r.class, r.code, r.counted, r.digest, r.owed
  ), kept as (
    insert into jobs.attempts (job_id, attempt, ended_at, node, session, outcome, class, code, is_counted, digest, is_owed)
    select id, attempt, v_now, node, session, outcome, class, code, counted, digest, owed from moved order by id
  )
  select coalesce(array_agg(id), '{}') into v_moved from moved;

  with ended as (
    update jobs.jobs j
       set state = 'failed', outcome = r.outcome, code = r.code, reply_owed = r.owed, ended_at = v_now
      from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_outcomes, p_codes, p_digests, p_owed)
           as r (id, attempt, node, session, outcome, code, digest, owed)
     where j.id = r.id and j.id = any (p_ids) and j.id between v_lowest and v_highest
       and j.account_id = any (v_account_ids)
       and j.ended_at is null and j.attempt = r.attempt and j.node = r.node and j.session = r.session
    returning j.id, j.account_id, j.locked_micro, r.digest
  ), transferred as (
    insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro, digest)
    select id, 1, 'void', account_id, 2, 0, digest from ended order by id
  ), counted as (
    update credits.accounts a set held_micro = a.held_micro - s.locked_micro
      from (select account_id, sum(locked_micro)::bigint as locked_micro from ended group by account_id) as s
     where a.id = s.account_id and a.id = any (v_account_ids)
  )
  select coalesce(array_agg(id), '{}') into v_ended from ended;

  return query
  select r.id, x.answer, j.attempt,
         case when j.ended_at is null and j.node is null and j.attempt = r.attempt + 1
              then jobs.milliseconds_left(coalesce(j.retry_at, v_now), v_now) end,
         case when j.ended_at is null
              then jobs.milliseconds_left(j.created_at + j.timeout_ms * interval '1 ms', v_now) else 0 end,
         (select m.name || coalesce(j.pool_suffix, '') from network.models m join network.model_versions v on v.model_id = m.id where v.id = j.model_version_id),
         j.priority, d
    from unnest(p_ids, p_attempts, p_nodes, p_sessions, p_digests) as r (id, attempt, node, session, digest)
    left join (select i.* from jobs.jobs i where i.id = any (p_ids) and i.id between v_lowest and v_highest) as j on j.id = r.id
    left join (select i.* from jobs.attempts i where i.job_id = any (p_ids) and i.job_id between v_lowest and v_highest) as a
           on a.job_id = r.id and a.attempt = r.attempt and a.node = r.node and a.session = r.session
    left join (select i.id, i.digest from credits.transfers i
                where i.id = any (p_ids) and i.id between v_lowest and v_highest and i.phase = 1) as t on t.id = r.id
    left join jobs.describe(p_ids) as d on d.job_id = r.id
   cross join lateral (select case
           when r.id = any (v_moved) then 'retry'
           when r.id = any (v_ended) then 'ended'
           when j.id is null or j.ended_at is null and j.attempt = r.attempt and j.node = r.node and j.session = r.session
             then 'unknown'
           when a.job_id is not null and a.digest is not distinct from r.digest then 'retried'
           when r.attempt < j.attempt then case when a.digest is null then 'late' else 'different' end
           when j.attempt <> r.attempt or j.node is distinct from r.node or j.session is distinct from r.session then 'stale'
           when t.digest is null then 'late'
           when t.digest = r.digest then 'same'
           else 'different' end) as x (answer);
end
$$;

-- Cancels jobs for their account. A job that has no row gets one: whatever arrives later under its id finds it cancelled. A
-- locked job ends, nothing is charged and the reply is owed. One answer per id: `recorded` (no job was seen yet), `cancelled`
-- (it was locked; `job` says where it ran), `ended` (it had ended before, in the state that `job` says), `account` (another
-- account's), `window` (no row, and the time in the id is outside the accepted window).
create function credits.cancel_batch(
  p_ids uuid[], p_account_ids integer[], p_namespace_ids integer[], p_publisher_ids integer[]
) returns table (job_id uuid, answer text, job jobs.description)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_nestloop = off as $$
declare
  v_now timestamptz;
  v_lowest uuid;
  v_highest uuid;
  v_recorded uuid[];
  v_cancelled uuid[];
begin
  perform from credits.accounts where id = any (p_account_ids) order by id for no key update;
  v_now := clock_timestamp();
  select lowest, highest into v_lowest, v_highest from jobs.id_bounds(p_ids);

  -- Kind and priority are not known yet; nobody reads them of a job that never ran.
  with inserted as (
    insert into jobs.jobs (id, created_at, ended_at, account_id, namespace_id, publisher_id, state, kind, priority, attempt, code)
    select r.id, v_now, v_now, r.account_id, r.namespace_id, r.publisher_id, 'cancelled', 'chat', 'interactive', 0,
           'TG_JOB_CANCELLED'
      from unnest(p_ids, p_account_ids, p_namespace_ids, p_publisher_ids) as r (id, account_id, namespace_id, publisher_id)
     where r.id >= jobs.first_id(v_now - interval '7 days') and r.id < jobs.first_id(v_now + interval '10 minutes')
     order by r.id
    on conflict (id) do nothing
    returning id
  )
  select coalesce(array_agg(id), '{}') into v_recorded from inserted;

  with ended as (
    update jobs.jobs j set state = 'cancelled', code = 'TG_JOB_CANCELLED', reply_owed = true, ended_at = v_now
      from unnest(p_ids, p_account_ids) as r (id, account_id)
     where j.id = r.id and j.id = any (p_ids) and j.id between v_lowest and v_highest
       and j.ended_at is null and j.account_id = r.account_id
    returning j.id, j.account_id, j.locked_micro
  ), transferred as (
    insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)
    select id, 1, 'void', account_id, 2, 0 from ended order by id
  ), counted as (
    update credits.accounts a set held_micro = a.held_micro - s.locked_micro
      from (select account_id, sum(locked_micro)::bigint as locked_micro from ended group by account_id) as s
     where a.id = s.account_id and a.id = any (p_account_ids)
  )
  select coalesce(array_agg(id), '{}') into v_cancelled from ended;

  return query
  select r.id,
         case when r.id = any (v_recorded) then 'recorded'
              when r.id = any (v_cancelled) then 'cancelled'
              when d.job_id is null then 'window'
              when d.account_id <> r.account_id then 'account'
              else 'ended' end,
         d
    from unnest(p_ids, p_account_ids) as r (id, account_id)
    left join jobs.describe(p_ids) as d on d.job_id = r.id;
end
$$;

grant execute on function
  credits.give_up_batch(uuid[], smallint[], text[], bigint[], jobs.outcome[], text[], text[], boolean[], integer[], bytea[],
                        boolean[], integer),
  credits.cancel_batch(uuid[], integer[], integer[], integer[])
  to tollgate_dispatcher;
-- Ends credit locks by results; the charge is by the price of the version that ran. Input and output are each charged up to their own
-- limit: what a node claims for the one does not use up what was set aside for the other. The fence (attempt, node, session) stands in
-- the UPDATE's WHERE and nowhere else: what does not match moves nothing. One answer per id: `settled`; `same` (this result was settled before), `different` (another one
-- was), `late` (ended without a result, or a newer attempt runs), `stale` (fence), `unknown`.
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

-- One job's row with the version that ran, its lock and its resolution with the times of their commits, for people. Commit times are null on a server
-- that does not track them.
create or replace function credits.job_story(p_id uuid) returns table (
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
    left join network.model_versions v on v.id = coalesce(j.run_version_id, j.model_version_id)
    left join network.models m on m.id = v.model_id
    left join credits.transfers l on l.id = p_id and l.phase = 0 and l.kind = 'lock'
    left join credits.transfers s on s.id = p_id and s.phase = 1
   where j.id = p_id;
end
$$;

-- Every end without a result goes through give_up_batch now.
drop function credits.end_jobs(uuid[], smallint[], text[], bigint[], text[], boolean[]);
reset role;
