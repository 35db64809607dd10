-- Who pays and who may send: accounts, their namespaces, publishers, and which publisher may spend for which account.
-- Expected duration: milliseconds. Locks: none that others wait for.
set local role tollgate_identity_owner;

create table identity.accounts (
  -- Below 100 are the system's own accounts, which live in credits.accounts alone.
  id integer generated always as identity (start with 100) primary key,
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9_-]{0,61}$'),
  created_at timestamptz not null default clock_timestamp(),
  revision bigint not null
);
create index on identity.accounts (revision);

create table identity.namespaces (
  id integer generated always as identity primary key,
  account_id integer not null references identity.accounts,
  -- The full name, `acme/prod`.
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9_-]{0,61}/[a-z0-9][a-z0-9_-]{0,61}$'),
  created_at timestamptz not null default clock_timestamp()
);
create index on identity.namespaces (account_id);

create table identity.publishers (
  id integer generated always as identity primary key,
  -- Without the `p-` of its RabbitMQ user.
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9_-]{0,61}$'),
  created_at timestamptz not null default clock_timestamp(),
  revision bigint not null
);
create index on identity.publishers (revision);

create table identity.entitlements (
  publisher_id integer not null references identity.publishers,
  account_id integer not null references identity.accounts,
  created_at timestamptz not null default clock_timestamp(),
  primary key (publisher_id, account_id)
);

create trigger stamp before insert or update on identity.accounts
  for each row execute function network.stamp_revision();
create trigger stamp before insert or update on identity.publishers
  for each row execute function network.stamp_revision();

-- A namespace is read with its account, an entitlement with its publisher.
create function identity.touch_parent() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_table_name = 'namespaces' then
    update identity.accounts set revision = revision where id = coalesce(new.account_id, old.account_id);
  else
    update identity.publishers set revision = revision where id = coalesce(new.publisher_id, old.publisher_id);
  end if;
  return null;
end
$$;
create trigger touch after insert or update or delete on identity.namespaces
  for each row execute function identity.touch_parent();
create trigger touch after insert or update or delete on identity.entitlements
  for each row execute function identity.touch_parent();

create function identity.account_id(p_name text) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_id integer;
begin
  select id into v_id from identity.accounts where name = p_name;
  if not found then
    raise exception 'no account %', p_name using errcode = 'no_data_found';
  end if;
  return v_id;
end
$$;

-- Makes an account with counters at zero. A name in use is 23505.
create function identity.create_account(p_name text) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_id integer;
begin
  insert into identity.accounts (name) values (p_name) returning id into v_id;
  perform credits.open_account(v_id);
  return v_id;
end
$$;

-- Adds a namespace by its full name, `<account>/<name>`.
create function identity.add_namespace(p_name text) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_id integer;
begin
  insert into identity.namespaces (account_id, name)
  values (identity.account_id(split_part(p_name, '/', 1)), p_name) returning id into v_id;
  return v_id;
end
$$;

create function identity.add_publisher(p_name text) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_id integer;
begin
  insert into identity.publishers (name) values (p_name) returning id into v_id;
  return v_id;
end
$$;

-- Lets a publisher spend for an account. Idempotent.
create function identity.entitle(p_publisher text, p_account text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_publisher integer;
begin
  select id into v_publisher from identity.publishers where name = p_publisher;
  if not found then
    raise exception 'no publisher %', p_publisher using errcode = 'no_data_found';
  end if;
  insert into identity.entitlements (publisher_id, account_id)
  values (v_publisher, identity.account_id(p_account)) on conflict do nothing;
end
$$;

grant select on identity.namespaces, identity.publishers to tollgate_jobs_owner;
grant select on identity.accounts, identity.namespaces, identity.publishers to tollgate_credits_owner;
grant execute on function identity.account_id(text) to tollgate_credits_owner;
grant select on all tables in schema identity to tollgate_dispatcher, tollgate_operator, tollgate_auditor;
grant execute on function
  identity.create_account(text), identity.add_namespace(text), identity.add_publisher(text),
  identity.entitle(text, text)
  to tollgate_operator;
reset role;
