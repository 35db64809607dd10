-- The directory's own half: nodes with their keys, models with their versions and prices, and the change counter that
-- every coordinator follows. Expected duration: milliseconds. Locks: none that others wait for.
set local role tollgate_network_owner;

-- One row, one number: every change of a record that the directory holds takes the next revision, in the same transaction.
-- Whoever takes one keeps the row locked until it commits, so revisions become visible in their order and
-- "revision > the last one I read" misses nothing.
create table network.revision (
  only_row boolean primary key default true check (only_row),
  last bigint not null
);
insert into network.revision (last) values (0);

create function network.next_revision() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_revision bigint;
begin
  update network.revision set last = last + 1 returning last into v_revision;
  perform pg_notify('tollgate_directory', '');
  return v_revision;
end
$$;

-- Stamps a row of the directory; also a row that is only touched because something it carries has changed.
create function network.stamp_revision() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  new.revision := network.next_revision();
  return new;
end
$$;

create type network.lifecycle as enum ('probation', 'active', 'retired');

create table network.nodes (
  id text primary key check (id ~ '^[a-z0-9][a-z0-9_-]{0,61}$'),
  owner text not null check (owner ~ '^[a-z0-9][a-z0-9_-]{0,61}$'),
  -- Ed25519, raw. One key, one node: a shared key would let one machine sign for another.
  public_key bytea not null unique check (octet_length(public_key) = 32),
  lifecycle network.lifecycle not null,
  registered_at timestamptz not null default clock_timestamp(),
  revision bigint not null
);
create index on network.nodes (revision);
create trigger stamp before insert or update on network.nodes
  for each row execute function network.stamp_revision();

create table network.models (
  id integer generated always as identity primary key,
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
  created_at timestamptz not null default clock_timestamp()
);

-- A version is what a job pins: its price and its limits never change, a new price is a new version.
-- The bounds keep the widest product, 2 * 100,000,000 tokens * price, inside bigint.
create table network.model_versions (
  id integer generated always as identity primary key,
  model_id integer not null references network.models,
  version integer not null check (version > 0),
  -- Micro-credits per 1,000,000 tokens. Null: no price, so no lock and no dispatch.
  input_price_micro bigint check (input_price_micro between 0 and 10000000000),
  output_price_micro bigint check (output_price_micro between 0 and 10000000000),
  input_tokens_max integer not null check (input_tokens_max between 1 and 10000000),
  output_tokens_max integer not null check (output_tokens_max between 1 and 10000000),
  timeout_ms_max integer not null check (timeout_ms_max between 1000 and 3600000),
  created_at timestamptz not null default clock_timestamp(),
  retired_at timestamptz,
  revision bigint not null,
  unique (model_id, version)
);
create unique index one_active_version on network.model_versions (model_id) where retired_at is null;
create index on network.model_versions (revision);
create trigger stamp before insert or update on network.model_versions
  for each row execute function network.stamp_revision();

create function network.refuse_repricing() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'a model version never changes: add a new one'
    using errcode = 'restrict_violation', table = tg_table_name, schema = tg_table_schema;
end
$$;
create trigger immutable before update on network.model_versions for each row
  when ((old.id, old.model_id, old.version, old.input_price_micro, old.output_price_micro, old.input_tokens_max,
         old.output_tokens_max, old.timeout_ms_max, old.created_at)
        is distinct from
        (new.id, new.model_id, new.version, new.input_price_micro, new.output_price_micro, new.input_tokens_max,
         new.output_tokens_max, new.timeout_ms_max, new.created_at)
        or (old.retired_at is not null and old.retired_at is distinct from new.retired_at))
  execute function network.refuse_repricing();
create trigger permanent before delete on network.model_versions
  for each row execute function network.refuse_repricing();

create table network.node_models (
  node_id text not null references network.nodes,
  model_id integer not null references network.models,
  primary key (node_id, model_id)
);

create function network.touch_node() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  update network.nodes set revision = revision where id = coalesce(new.node_id, old.node_id);
  return null;
end
$$;
create trigger touch after insert or update or delete on network.node_models
  for each row execute function network.touch_node();

-- Registers a node for the models named. The same node again with the same owner and key replaces its models; another
-- owner or key for the same id, or a retired id, is a duplicate (23505). An unknown model is P0002.
create function network.register_node(
  p_id text, p_owner text, p_public_key bytea, p_lifecycle network.lifecycle, p_models text[]
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_missing text;
begin
  select r.name into v_missing from unnest(p_models) as r (name)
   where not exists (select from network.models m where m.name = r.name) limit 1;
  if v_missing is not null then
    raise exception 'no model %', v_missing using errcode = 'no_data_found';
  end if;

  insert into network.nodes (id, owner, public_key, lifecycle) values (p_id, p_owner, p_public_key, p_lifecycle)
  on conflict (id) do nothing;
  perform from network.nodes
    where id = p_id and owner = p_owner and public_key = p_public_key and lifecycle <> 'retired' for update;
  if not found then
    raise exception 'node % is registered with another owner or key, or retired', p_id using errcode = 'unique_violation';
  end if;

  delete from network.node_models nm using network.models m
   where nm.node_id = p_id and m.id = nm.model_id and not m.name = any (p_models);
  insert into network.node_models (node_id, model_id)
  select p_id, m.id from network.models m where m.name = any (p_models) order by m.id
  on conflict do nothing;
end
$$;

-- Moves a node between probation and active, or retires it for good.
create function network.set_node_lifecycle(p_id text, p_lifecycle network.lifecycle) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  update network.nodes set lifecycle = p_lifecycle
   where id = p_id and (lifecycle <> 'retired' or p_lifecycle = 'retired');
  if not found then
    raise exception 'no node % that is not retired', p_id using errcode = 'no_data_found';
  end if;
end
$$;

-- Adds a model with its first version. Prices may be null: then it is known and cannot be used.
create function network.add_model(
  p_name text, p_input_price_micro bigint, p_output_price_micro bigint,
  p_input_tokens_max integer, p_output_tokens_max integer, p_timeout_ms_max integer
) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_model integer;
  v_version integer;
begin
  insert into network.models (name) values (p_name) returning id into v_model;
  insert into network.model_versions (model_id, version, input_price_micro, output_price_micro,
                                      input_tokens_max, output_tokens_max, timeout_ms_max)
  values (v_model, 1, p_input_price_micro, p_output_price_micro,
          p_input_tokens_max, p_output_tokens_max, p_timeout_ms_max)
  returning id into v_version;
  return v_version;
end
$$;

-- Retires the active version of a model and puts one with the new prices and the same limits in its place.
create function network.set_price(p_name text, p_input_price_micro bigint, p_output_price_micro bigint)
returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_model integer;
  v_old network.model_versions;
  v_version integer;
begin
  select id into v_model from network.models where name = p_name for update;
  if not found then
    raise exception 'no model %', p_name using errcode = 'no_data_found';
  end if;
  update network.model_versions set retired_at = clock_timestamp()
   where model_id = v_model and retired_at is null
  returning * into strict v_old;
  insert into network.model_versions (model_id, version, input_price_micro, output_price_micro,
                                      input_tokens_max, output_tokens_max, timeout_ms_max)
  values (v_model, v_old.version + 1, p_input_price_micro, p_output_price_micro,
          v_old.input_tokens_max, v_old.output_tokens_max, v_old.timeout_ms_max)
  returning id into v_version;
  return v_version;
end
$$;

grant execute on function network.stamp_revision() to tollgate_identity_owner;
grant select on network.models, network.model_versions to tollgate_jobs_owner, tollgate_credits_owner;
grant select on all tables in schema network to tollgate_dispatcher, tollgate_operator, tollgate_auditor;
grant execute on function
  network.register_node(text, text, bytea, network.lifecycle, text[]),
  network.set_node_lifecycle(text, network.lifecycle),
  network.add_model(text, bigint, bigint, integer, integer, integer),
  network.set_price(text, bigint, bigint)
  to tollgate_operator;
reset role;
