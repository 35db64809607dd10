-- Ends locked jobs without a result; arrays are parallel, ids distinct. Params: $1 ids uuid[], $2 attempts smallint[],
-- $3 nodes text[], $4 sessions bigint[], $5 codes text[], $6 reply_owed boolean[]. Returns: the jobs this call ended. Locks:
-- the accounts, then the job rows. Idempotent: what has ended is passed over.
select job_id, account_id, namespace_id, namespace, publisher, reply_to, correlation_id, traceparent, state, code, attempt, node,
       session, model_version_id, locked_micro, charged_micro, ended_at_ms, is_over_limits
  from credits.end_jobs($1::uuid[], $2::smallint[], $3::text[], $4::bigint[], $5::text[], $6::boolean[]);
