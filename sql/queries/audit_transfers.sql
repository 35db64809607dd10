-- A page of transfers; a lock comes right before its resolution. What a transfer names is looked up by `limit 1` subqueries, which
-- PostgreSQL never turns into a hash of the whole table.
-- Params: $1 after_id uuid, $2 after_phase smallint, $3 limit integer. Returns: by (id, phase). Locks: none.
with page as materialized (
  select t.id, t.phase, t.kind, t.debit_account_id, t.credit_account_id, t.amount_micro, t.at, t.xmin
    from credits.transfers t
   where t.id >= $1::uuid and (t.id, t.phase) > ($1::uuid, $2::smallint)
   order by t.id, t.phase
   limit $3::integer
)
select p.id, p.phase, p.kind, p.debit_account_id, p.credit_account_id, p.amount_micro,
       extract(epoch from p.at)::double precision * 1000 as at_ms,
       p.xmin::text::bigint as xid,
       (select a.kind from credits.accounts a where a.id = p.debit_account_id limit 1) as debit_kind,
       (select a.kind from credits.accounts a where a.id = p.credit_account_id limit 1) as credit_kind,
       coalesce((select true from jobs.jobs j where j.id = p.id limit 1), false) as has_job
  from page p
 order by p.id, p.phase;
