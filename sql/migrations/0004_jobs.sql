-- The arbiter: one row per job id, partitioned by the month inside the id. Expected duration: milliseconds. Locks: none
-- that others wait for.
set local role tollgate_jobs_owner;

create type jobs.state as enum ('locked', 'refused', 'cancelled', 'expired', 'succeeded', 'failed');
create type jobs.kind as enum ('chat', 'completion', 'embedding', 'image', 'audio');
create type jobs.priority as enum ('interactive', 'batch');
-- How an attempt ended: by a result (completed, failed), or without one (lost, expired).
create type jobs.outcome as enum ('completed', 'failed', 'lost', 'expired');

-- Everything that must be known of a job without its content. No foreign keys: five of them doubled the cost of a lock.
-- Widest columns first, so that no padding is stored.
create table jobs.jobs (
  id uuid primary key,
  created_at timestamptz not null,
  start_by timestamptz,
  deadline timestamptz,
  ended_at timestamptz,
  session bigint,
  locked_micro bigint not null default 0,
  charged_micro bigint not null default 0,
  account_id integer not null,
  namespace_id integer not null,
  publisher_id integer not null,
  model_version_id integer,
  input_tokens_max integer,
  output_tokens_max integer,
  timeout_ms integer,
  input_tokens integer,
  output_tokens integer,
  state jobs.state not null,
  kind jobs.kind not null,
  priority jobs.priority not null,
  outcome jobs.outcome,
  -- 0: it never had one. With node and session this is the fence of a result.
  attempt smallint not null,
  attempts_max smallint,
  -- Ended by a transaction that no message stands behind, and not answered yet.
  reply_owed boolean not null default false,
  -- HMAC of the canonical body; null matches any body of the account.
  digest bytea check (octet_length(digest) = 32),
  node text,
  code text,
  reply_to text,
  correlation_id text,
  traceparent text,
  constraint charge_within_lock check (charged_micro between 0 and locked_micro),
  constraint ended_unless_locked check ((state = 'locked') = (ended_at is null)),
  constraint lock_is_complete check (
    state <> 'locked' or num_nulls(start_by, deadline, model_version_id, input_tokens_max, output_tokens_max,
                                   timeout_ms, attempts_max) = 0 and attempt > 0)
) partition by range (id);

-- The open jobs by deadline, for the sweep and for rebuilding slots; what is closed leaves it at the next vacuum.
create index open_jobs on jobs.jobs (deadline, id) where state = 'locked';
create index replies_owed on jobs.jobs (id) where reply_owed;

-- The least UUIDv7 of a moment: a bound of partitions and of the id window. STABLE as its parts are, or it would not be
-- inlined, and a function in SQL that is not inlined is planned again in every call (0.1 ms).
create function jobs.first_id(p_at timestamptz) returns uuid
language sql stable parallel safe
return rpad(lpad(to_hex(floor(extract(epoch from p_at) * 1000)::bigint), 12, '0'), 32, '0')::uuid;

-- Makes the partitions of months -1 to +3 that are missing; answers how many. LIKE and ATTACH instead of
-- CREATE ... PARTITION OF, which waits behind every reader of the parent and stops whoever comes after it.
create function jobs.ensure_partitions() returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  v_month timestamptz;
  v_name text;
  v_made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('tollgate.jobs.ensure_partitions'));
  for v_step in -1..3 loop
    v_month := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => v_step)) at time zone 'UTC';
    v_name := format('jobs_%s', to_char(v_month at time zone 'UTC', 'YYYYMM'));
    continue when to_regclass(format('jobs.%I', v_name)) is not null;
    -- Each job leaves one dead row behind when it ends: vacuum early, so that its space is used again.
    execute format('create table jobs.%I (like jobs.jobs including all)
                      with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)', v_name);
    execute format('alter table jobs.jobs attach partition jobs.%I for values from (%L) to (%L)', v_name,
                   jobs.first_id(v_month),
                   jobs.first_id((v_month at time zone 'UTC' + interval '1 month') at time zone 'UTC'));
    v_made := v_made + 1;
  end loop;
  return v_made;
end
$$;

-- What a caller is told of an id: `new`, `exists`, `refused`, `repriced`, `body` or `account` (the conflicts).
create type jobs.answer as (
  job_id uuid,
  answer text,
  state jobs.state,
  attempt smallint,
  node text,
  session bigint,
  start_ms integer,
  remaining_ms integer,
  model_version_id integer,
  locked_micro bigint,
  charged_micro bigint,
  code text
);

-- A job with the names that a reply and a trace need.
create type jobs.description as (
  job_id uuid,
  account_id integer,
  namespace_id integer,
  namespace text,
  publisher text,
  reply_to text,
  correlation_id text,
  traceparent text,
  state jobs.state,
  code text,
  attempt smallint,
  node text,
  session bigint,
  model_version_id integer,
  locked_micro bigint,
  charged_micro bigint,
  ended_at_ms double precision,
  is_over_limits boolean
);

-- Bounds of a batch, lowest and highest id: with them PostgreSQL leaves the other partitions alone. Written so that it is
-- inlined, see first_id.
create function jobs.id_bounds(p_ids uuid[]) returns table (lowest uuid, highest uuid)
language sql immutable parallel safe
begin atomic
  select s.ids[1], s.ids[cardinality(s.ids)] from (select array_agg(i.id order by i.id) as ids from unnest(p_ids) as i (id)) as s;
end;
reset role;
