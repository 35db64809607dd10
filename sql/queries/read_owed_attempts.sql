-- Attempts given up without a message behind them, whose slot, trace and alarm are still to be seen to. Params: $1 limit integer.
-- Returns: oldest ids first. Locks: none.
select job_id, attempt, node, session, outcome, class, code, is_counted, ended_at_ms, namespace, locked_micro, pool, priority,
       next_attempt, retry_ms, remaining_ms
  from jobs.owed_attempts($1::integer);
