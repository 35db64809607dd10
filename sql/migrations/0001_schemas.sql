-- One schema per domain, each owned by a role that cannot log in, with nothing open to everyone.
-- Expected duration: milliseconds. Locks: none that others wait for.
create schema identity authorization tollgate_identity_owner;
create schema network authorization tollgate_network_owner;
create schema jobs authorization tollgate_jobs_owner;
create schema credits authorization tollgate_credits_owner;

-- PostgreSQL gives EXECUTE on every new function to everyone. Not here.
alter default privileges for role tollgate_identity_owner revoke execute on functions from public;
alter default privileges for role tollgate_network_owner revoke execute on functions from public;
alter default privileges for role tollgate_jobs_owner revoke execute on functions from public;
alter default privileges for role tollgate_credits_owner revoke execute on functions from public;

-- The owners reach into each other's schemas only where a grant of a later migration names the object.
grant usage on schema network to tollgate_identity_owner, tollgate_jobs_owner, tollgate_credits_owner;
grant usage on schema identity to tollgate_jobs_owner, tollgate_credits_owner;
grant usage on schema jobs to tollgate_credits_owner;
grant usage on schema credits to tollgate_identity_owner, tollgate_jobs_owner;

grant usage on schema identity, network to tollgate_dispatcher, tollgate_operator, tollgate_auditor;
grant usage on schema jobs to tollgate_dispatcher, tollgate_auditor;
grant usage on schema credits
  to tollgate_dispatcher, tollgate_settler, tollgate_billing, tollgate_operator, tollgate_auditor;
