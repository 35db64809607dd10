-- A page of the attempts that may be running. Params: $1 after uuid (last of the page before, or null), $2 limit integer.
-- Returns: in the order of (deadline, id). Locks: none.
select job_id, attempt, node, session, pool, deadline_in_ms, start_over_ms
  from jobs.open_attempts($1::uuid, $2::integer);
