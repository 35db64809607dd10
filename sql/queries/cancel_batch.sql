-- Cancels jobs for their account; arrays are parallel, ids distinct. Params: $1 ids uuid[], $2 account_ids integer[],
-- $3 namespace_ids integer[], $4 publisher_ids integer[]. Returns: one row per id, in no order. Locks: the accounts, then the job
-- rows. Idempotent by id.
select c.job_id as id, c.answer, (c.job).*
  from credits.cancel_batch($1::uuid[], $2::integer[], $3::integer[], $4::integer[]) as c;
