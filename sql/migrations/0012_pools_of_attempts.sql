-- An attempt's slot is one of its pool, also when slots are rebuilt from here.
-- Expected duration: milliseconds. Locks: none that others wait for.
set local role tollgate_jobs_owner;

-- A page of the attempts that may be running, in the order of (deadline, id): that is the partial index, which holds open
-- jobs only. `p_after` is the last job of the page before; it is found also when it has ended meanwhile.
create or replace function jobs.open_attempts(p_after uuid, p_limit integer)
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
         (select m.name || coalesce(j.pool_suffix, '') from network.models m join network.model_versions v on v.model_id = m.id
           where v.id = j.model_version_id),
         floor(extract(epoch from j.deadline - v_now) * 1000)::double precision
    from jobs.jobs j
   where j.state = 'locked' and j.node is not null
     and (j.deadline, j.id) > (coalesce(v_after, '-infinity'), coalesce(p_after, '00000000-0000-0000-0000-000000000000'))
   order by j.deadline, j.id
   limit p_limit;
end
$$;

reset role;
