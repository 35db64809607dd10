-- Jobs that ended without a message behind them and are not answered yet. Params: $1 limit integer. Returns: oldest ids first.
-- Locks: none.
select job_id, account_id, namespace_id, namespace, publisher, reply_to, correlation_id, traceparent, state, code, attempt, node,
       session, model_version_id, locked_micro, charged_micro, ended_at_ms, is_over_limits
  from jobs.owed_replies($1::integer);
