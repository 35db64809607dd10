-- Writes the statements that set one password for all login roles, for the runner to send (they take no parameters). Params:
-- $1 password text. Returns: one row per role. Locks: none.
select format('alter role %I password %L', rolname, $1::text) as statement
  from pg_roles
 where rolcanlogin and rolname in ('tollgate_dispatcher', 'tollgate_settler', 'tollgate_billing', 'tollgate_operator',
                                   'tollgate_auditor', 'tollgate_maintainer', 'tollgate_migrator')
 order by rolname;
