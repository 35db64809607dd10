-- Ends jobs past their deadline, oldest first. Params: $1 limit integer. Returns: the jobs this call ended; none while another
-- sweep runs. Locks: the accounts, then the job rows. Idempotent: what has ended is passed over.
select job_id, account_id, namespace_id, namespace, publisher, reply_to, correlation_id, traceparent, state, code, attempt, node,
       session, model_version_id, locked_micro, charged_micro, ended_at_ms, is_over_limits
  from credits.sweep_overdue($1::integer);
