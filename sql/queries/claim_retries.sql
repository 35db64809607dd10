-- Attempts that are due and have no node though their alarm should have rung. Params: $1 limit integer, $2 grace_ms integer.
-- Returns: each to one caller; it comes again after as long as it has waited. Locks: their job rows, skipping locked ones.
select job_id, attempt, pool, priority, remaining_ms from jobs.claim_retries($1::integer, $2::integer);
