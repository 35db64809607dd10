-- Three things that keep a node from new jobs, and never stand for one another: its lifecycle, an operator's drain, and strikes.
-- Expected duration: milliseconds. Locks: ACCESS EXCLUSIVE on network.nodes, for adding columns without a rewrite.
grant usage on schema network to tollgate_maintenance_owner;
set local role tollgate_network_owner;

alter table network.nodes
  -- An operator's drain: no new jobs from now on, and what is under way should have ended by then. Null: none.
  add column drain_by timestamptz,
  -- Ejected until then, and how often in a row: each time for twice as long.
  add column ineligible_until timestamptz,
  add column ineligible_reason text check (ineligible_reason is null or ineligible_until is not null),
  add column ejections integer not null default 0 check (ejections >= 0);

-- What a node can be blamed for. Weights are in network.strike_weight.
create type network.fault as enum ('lost', 'deadline', 'error', 'refused', 'bad_result', 'forged');

-- A time at which the fault was ours: a server was away. No node is blamed for what happened then.
create table network.incidents (
  id bigint generated always as identity primary key,
  began_at timestamptz not null,
  ended_at timestamptz not null check (ended_at >= began_at),
  reason text not null check (length(reason) between 1 and 200)
);
create index on network.incidents (ended_at);

-- Append-only but for the voiding. A job is only named: its row may be gone before its strike.
create table network.strikes (
  id bigint generated always as identity primary key,
  node_id text not null references network.nodes,
  kind network.fault not null,
  job_id uuid,
  at timestamptz not null,
  voided_at timestamptz,
  incident_id bigint references network.incidents,
  check ((voided_at is null) = (incident_id is null))
);
create index on network.strikes (node_id, at);
create index on network.strikes (at);

-- What a fresh strike counts. Against the default bound of 5: one forgery ejects, as do two losses within half an hour.
create function network.strike_weight(p_kind network.fault) returns double precision
language sql immutable parallel safe
return case p_kind when 'forged' then 6 when 'lost' then 3 when 'bad_result' then 2.5 when 'refused' then 0.5 else 1 end;

-- What a strike counts after a time: half of it after each half-life. Nothing has to run for it.
create function network.decayed(p_kind network.fault, p_age interval, p_half_life_ms bigint)
returns double precision
language sql immutable parallel safe
return network.strike_weight(p_kind) * power(0.5, least(greatest(extract(epoch from p_age) * 1000 / p_half_life_ms, 0), 100));

-- The sum of what a node's strikes count now.
create function network.strike_score(p_node text, p_half_life_ms bigint) returns double precision
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(sum(network.decayed(s.kind, clock_timestamp() - s.at, p_half_life_ms)), 0)
    from network.strikes s
   where s.node_id = p_node and s.voided_at is null
     and s.at > clock_timestamp() - make_interval(secs => p_half_life_ms / 1000.0 * 20);
end;

-- True if no pool of a node would have more than a share of its nodes ejected with it: a fault that all nodes share is none of
-- theirs, and the only node of a pool is never ejected. Call it under the lock of ejections.
create function network.may_eject(p_node text, p_ejected_percent_max integer) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select not exists (
    select from network.node_models own
      join network.node_models nm on nm.model_id = own.model_id
      join network.nodes n on n.id = nm.node_id and n.lifecycle <> 'retired'
     where own.node_id = p_node
     group by own.model_id
    having count(*) filter (where n.id = p_node or n.ineligible_until > clock_timestamp()) * 100
           > count(*) * p_ejected_percent_max);
end;

-- Appends strikes and ejects the nodes that they bring to the bound. p_age_ms: how long ago each happened, by the caller's own
-- clock. What falls into an incident is void from the start. A node that is ejected again soon after is held for twice as long.
-- Answers the nodes that were ejected by this call, and those that would have been but for the share of their pools.
create function network.strike_batch(
  p_nodes text[], p_kinds network.fault[], p_jobs uuid[], p_age_ms bigint[],
  p_half_life_ms bigint, p_score_max numeric,
  p_hold_ms_min bigint, p_hold_ms_max bigint, p_ejected_percent_max integer
) returns table (node_id text, score double precision, hold_ms bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_node record;
  v_hold interval;
begin
  perform from network.nodes n where n.id = any (p_nodes) order by n.id for no key update;

  insert into network.strikes (node_id, kind, job_id, at, voided_at, incident_id)
  select n.id, r.kind, r.job_id, r.at, case when i.id is not null then clock_timestamp() end, i.id
    from (select u.node_id, u.kind, u.job_id, clock_timestamp() - make_interval(secs => u.age_ms / 1000.0) as at
            from unnest(p_nodes, p_kinds, p_jobs, p_age_ms) as u (node_id, kind, job_id, age_ms)) as r
    join network.nodes n on n.id = r.node_id
    left join lateral (select min(i.id) as id from network.incidents i
                        where i.ended_at >= r.at and i.began_at <= r.at) as i on true;

  for v_node in
    select n.id, n.ejections, n.ineligible_until, network.strike_score(n.id, p_half_life_ms) as score
      from network.nodes n
     where n.id = any (p_nodes) and n.lifecycle <> 'retired'
       and (n.ineligible_until is null or n.ineligible_until <= clock_timestamp())
     order by n.id
  loop
    continue when v_node.score < p_score_max;
    perform pg_advisory_xact_lock(hashtext('tollgate.network.ejections'));
    node_id := v_node.id;
    score := v_node.score;
    hold_ms := null;
    if network.may_eject(v_node.id, p_ejected_percent_max) then
      -- After a good time as long as the longest hold, the count begins anew.
      if v_node.ineligible_until < clock_timestamp() - make_interval(secs => p_hold_ms_max / 1000.0) then
        v_node.ejections := 0;
      end if;
      hold_ms := least(p_hold_ms_max, p_hold_ms_min * power(2, least(v_node.ejections, 30))::bigint);
      update network.nodes
         set ejections = v_node.ejections + 1,
             ineligible_until = clock_timestamp() + make_interval(secs => hold_ms / 1000.0),
             ineligible_reason = 'strikes'
       where id = v_node.id;
    end if;
    return next;
  end loop;
end
$$;

-- Declares that from one time to another (ms ago) the fault was ours: the strikes of that time are void, those still to come for it
-- too, and a node that would not have been ejected without them is back. Answers how many strikes were voided.
create function network.declare_incident(
  p_began_ago_ms bigint, p_ended_ago_ms bigint, p_reason text, p_half_life_ms bigint, p_score_max numeric
) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_incident network.incidents;
  v_nodes text[];
  v_voided integer;
begin
  insert into network.incidents (began_at, ended_at, reason)
  values (clock_timestamp() - make_interval(secs => p_began_ago_ms / 1000.0),
          clock_timestamp() - make_interval(secs => p_ended_ago_ms / 1000.0), p_reason)
  returning * into v_incident;
  select array_agg(distinct s.node_id) into v_nodes
    from network.strikes s where s.voided_at is null and s.at between v_incident.began_at and v_incident.ended_at;
  perform from network.nodes n where n.id = any (v_nodes) order by n.id for no key update;
  update network.strikes s set voided_at = clock_timestamp(), incident_id = v_incident.id
   where s.voided_at is null and s.at between v_incident.began_at and v_incident.ended_at;
  get diagnostics v_voided = row_count;
  update network.nodes n
     set ineligible_until = null, ineligible_reason = null, ejections = greatest(n.ejections - 1, 0)
   where n.id = any (v_nodes) and n.ineligible_until > clock_timestamp()
     and network.strike_score(n.id, p_half_life_ms) < p_score_max;
  return v_voided;
end
$$;

-- Drains a node: no new jobs; p_deadline_ms from now everything there should have ended. Null: the drain is over.
create function network.drain_node(p_id text, p_deadline_ms bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  update network.nodes set drain_by = clock_timestamp() + make_interval(secs => p_deadline_ms / 1000.0)
   where id = p_id and lifecycle <> 'retired';
  if not found then
    raise exception 'no node % that is not retired', p_id using errcode = 'no_data_found';
  end if;
end
$$;

-- A node's strikes with what each counts now, newest first, for its owner.
create function network.explain_strikes(p_node text, p_half_life_ms bigint)
returns table (kind text, job_id uuid, at timestamptz, weight double precision, counts_until timestamptz, incident text)
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select s.kind::text, s.job_id, s.at,
         case when s.voided_at is null then network.decayed(s.kind, clock_timestamp() - s.at, p_half_life_ms) else 0 end,
         -- From then on it counts less than a hundredth.
         s.at + make_interval(secs => p_half_life_ms / 1000.0 * ln(network.strike_weight(s.kind) * 100) / ln(2::double precision)),
         i.reason
    from network.strikes s left join network.incidents i on i.id = s.incident_id
   where s.node_id = p_node
   order by s.at desc, s.id desc
   limit 200;
end;

-- Deletes strikes and incidents that are older than p_keep_days; answers how many strikes.
create function network.purge_strikes(p_keep_days integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_purged integer;
begin
  delete from network.strikes where at < clock_timestamp() - make_interval(days => p_keep_days);
  get diagnostics v_purged = row_count;
  delete from network.incidents i
   where i.ended_at < clock_timestamp() - make_interval(days => p_keep_days)
     and not exists (select from network.strikes s where s.incident_id = i.id);
  return v_purged;
end
$$;

grant select on network.strikes, network.incidents to tollgate_auditor, tollgate_operator;
grant execute on function
  network.strike_batch(text[], network.fault[], uuid[], bigint[], bigint, numeric, bigint, bigint, integer)
  to tollgate_dispatcher;
grant execute on function network.declare_incident(bigint, bigint, text, bigint, numeric)
  to tollgate_dispatcher, tollgate_operator;
grant execute on function network.drain_node(text, bigint), network.explain_strikes(text, bigint) to tollgate_operator;
grant execute on function network.purge_strikes(integer) to tollgate_maintenance_owner;

set local role tollgate_maintenance_owner;
-- Deletes old strikes, as the owner of maintenance. Idempotent.
create function maintenance.purge_strikes(p_lease text, p_term bigint, p_keep_days integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform maintenance.hold_lease(p_lease, p_term);
  return network.purge_strikes(p_keep_days);
end
$$;
grant execute on function maintenance.purge_strikes(text, bigint, integer) to tollgate_maintainer;
reset role;
