-- Where the runner writes what it has done. Runs before the migrations, under the runner's advisory lock, every time.
create schema if not exists tollgate authorization tollgate_schema_owner;
create table if not exists tollgate.migrations (
  version integer primary key,
  name text not null,
  sha256 bytea not null check (octet_length(sha256) = 32),
  applied_at timestamptz not null default clock_timestamp()
);
alter table tollgate.migrations owner to tollgate_schema_owner;
grant usage on schema tollgate
  to tollgate_dispatcher, tollgate_settler, tollgate_billing, tollgate_operator, tollgate_auditor;
grant select on tollgate.migrations
  to tollgate_dispatcher, tollgate_settler, tollgate_billing, tollgate_operator, tollgate_auditor;
