-- Pools by constraint: a job may ask for a region and for memory, and waits with those that ask for the same.
-- Expected duration: milliseconds. Locks: network.nodes exclusively for as long.
set local role tollgate_network_owner;

-- Where a node stands and how much memory its cards have together, as its operator registered them. Null: not known, and no job
-- that asks for it goes there.
alter table network.nodes
  add column region text check (region ~ '^[a-z0-9][a-z0-9_-]{0,61}$'),
  add column vram_gb integer check (vram_gb between 1 and 100000);

-- Says where a node stands. Idempotent, also in the directory's revision.
create function network.set_node_place(p_id text, p_region text, p_vram_gb integer) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from network.nodes where id = p_id and lifecycle <> 'retired' for update;
  if not found then
    raise exception 'no node % that is not retired', p_id using errcode = 'no_data_found';
  end if;
  update network.nodes set region = p_region, vram_gb = p_vram_gb
   where id = p_id and (region, vram_gb) is distinct from (p_region, p_vram_gb);
end
$$;

-- The pools that jobs have opened beside those of the models. A row means two queues on the broker and an intake in every
-- coordinator, so they are bounded, and stay. `vram_gb` is one of the classes in src/contracts/names.ts.
create table network.pools (
  model_id integer not null references network.models,
  region text check (region ~ '^[a-z0-9][a-z0-9_-]{0,61}$'),
  vram_gb integer check (vram_gb > 0),
  opened_at timestamptz not null default clock_timestamp(),
  revision bigint not null,
  check (num_nonnulls(region, vram_gb) > 0),
  unique nulls not distinct (model_id, region, vram_gb)
);
create index on network.pools (revision);
create trigger stamp before insert or update on network.pools
  for each row execute function network.stamp_revision();

-- Opens pools while there are fewer than `p_pools_max` of them; what is open already or has no model is passed over. Answers how
-- many it opened. Idempotent; several at once wait for each other, so that the bound holds.
create function network.open_pools(p_models text[], p_regions text[], p_vram_gb integer[], p_pools_max integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_opened integer;
begin
  perform from network.revision for update;
  insert into network.pools (model_id, region, vram_gb)
  select m.id, r.region, r.vram_gb
    from unnest(p_models, p_regions, p_vram_gb) with ordinality as r (model, region, vram_gb, place)
    join network.models m on m.name = r.model
   where not exists (select from network.pools p
                      where p.model_id = m.id and (p.region, p.vram_gb) is not distinct from (r.region, r.vram_gb))
   order by r.place
   limit greatest(0, p_pools_max - (select count(*) from network.pools))
  on conflict do nothing;
  get diagnostics v_opened = row_count;
  return v_opened;
end
$$;

grant select on network.pools to tollgate_dispatcher, tollgate_operator, tollgate_auditor;
grant execute on function network.set_node_place(text, text, integer) to tollgate_operator;
grant execute on function network.open_pools(text[], text[], integer[], integer) to tollgate_dispatcher;
reset role;

set local role tollgate_credits_owner;
drop function credits.lock_batch(
  uuid[], integer[], integer[], integer[], bytea[], jobs.kind[], jobs.priority[], text[], text[], text[],
  integer[], integer[], integer[], integer[], smallint[], text[], bigint[], integer, integer);

-- Sets credits aside for attempt 1 of each job, or remembers why not. One answer per id: `new`, `refused` (with a row: no
-- price, limits, credit; without: window, unknown account), `repriced` (no row: the version is retired or unknown), and for
-- ids that have a row what jobs.look_up_batch says.
create function credits.lock_batch(
  p_ids uuid[], p_account_ids integer[], p_namespace_ids integer[], p_publisher_ids integer[], p_digests bytea[],
  p_kinds jobs.kind[], p_priorities jobs.priority[], p_reply_tos text[], p_correlation_ids text[],
  p_traceparents text[], p_model_version_ids integer[], p_input_tokens_max integer[], p_output_tokens_max integer[],
  p_timeouts_ms integer[], p_attempts_max smallint[], p_nodes text[], p_sessions bigint[], p_pool_suffixes text[],
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
                           priority, attempt, attempts_max, digest, node, code, reply_to, correlation_id, traceparent,
                           pool_suffix)
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
           r.reply_to, r.correlation_id, r.traceparent, r.pool_suffix
      from unnest(p_ids, p_account_ids, p_namespace_ids, p_publisher_ids, p_digests, p_kinds, p_priorities, p_reply_tos,
                  p_correlation_ids, p_traceparents, p_model_version_ids, p_input_tokens_max, p_output_tokens_max,
                  p_timeouts_ms, p_attempts_max, p_nodes, p_sessions, p_pool_suffixes, v_verdicts, v_amounts_micro)
           as r (id, account_id, namespace_id, publisher_id, digest, kind, priority, reply_to, correlation_id, traceparent,
                 model_version_id, input_tokens_max, output_tokens_max, timeout_ms, attempts_max, node, session, pool_suffix,
                 verdict, amount_micro)
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
                     integer[], integer[], integer[], integer[], smallint[], text[], bigint[], text[], integer,
                     integer)
  to tollgate_dispatcher;

drop function credits.job_story(uuid);
-- One job's row, its lock and its resolution with the times of their commits, for people. Commit times are null on a server
-- that does not track them.
create function credits.job_story(p_id uuid) returns table (
  job_id uuid, state jobs.state, code text, kind jobs.kind, priority jobs.priority, account text, namespace text,
  publisher text, model text, pool_suffix text, model_version integer, model_version_id integer, input_price_micro bigint, output_price_micro bigint,
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
  select j.id, j.state, j.code, j.kind, j.priority, a.name, n.name, p.name, m.name, j.pool_suffix, v.version, v.id, v.input_price_micro,
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

grant execute on function credits.job_story(uuid) to tollgate_dispatcher, tollgate_operator, tollgate_auditor;
reset role;
