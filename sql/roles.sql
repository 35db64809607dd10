-- The roles of the cluster: made where they are missing, left alone where they stand, safe when two runs meet.
-- Roles belong to the whole cluster and migrations to one database, so this runs before the migrations, every time.
-- Owners cannot log in: each owns one schema and lends its rights through SECURITY DEFINER functions. Logins hold no table of
-- credits; what each may call is granted in the migration that makes the object.
do $$
declare
  v_owners constant text[] := array['identity', 'network', 'jobs', 'credits', 'schema', 'maintenance', 'workflows'];
  v_logins constant text[] := array['dispatcher', 'settler', 'billing', 'operator', 'auditor', 'maintainer', 'migrator'];
  v_name text;
begin
  foreach v_name in array v_owners loop
    v_name := format('tollgate_%s_owner', v_name);
    continue when exists (select from pg_roles where rolname = v_name);
    begin
      execute format('create role %I nologin', v_name);
    exception when duplicate_object or unique_violation then null; -- A run beside this one was first.
    end;
  end loop;

  foreach v_name in array v_logins loop
    v_name := format('tollgate_%s', v_name);
    continue when exists (select from pg_roles where rolname = v_name);
    begin
      execute format('create role %I login', v_name);
      -- A backstop; a coordinator sets shorter limits when it connects.
      execute format('alter role %I set idle_in_transaction_session_timeout = %L', v_name, '10s');
      if v_name <> 'tollgate_migrator' then
        execute format('alter role %I set statement_timeout = %L', v_name, '10s');
        execute format('alter role %I set lock_timeout = %L', v_name, '5s');
      end if;
      if v_name = 'tollgate_auditor' then
        execute format('alter role %I set default_transaction_read_only = on', v_name);
      end if;
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;

  -- The migrator makes objects in the owners' names.
  foreach v_name in array v_owners loop
    v_name := format('tollgate_%s_owner', v_name);
    continue when pg_has_role('tollgate_migrator', v_name, 'member');
    begin
      execute format('grant %I to tollgate_migrator', v_name);
    exception when unique_violation then null;
    end;
  end loop;

  if not has_database_privilege('tollgate_migrator', current_database(), 'create') then
    execute format('grant create on database %I to tollgate_migrator', current_database());
  end if;
end
$$;
