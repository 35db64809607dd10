-- Gives nodes to attempts that wait for one; arrays are parallel, ids distinct. Params: $1 ids uuid[], $2 attempts smallint[],
-- $3 nodes text[], $4 sessions bigint[], $5 version_ids integer[], $6 start_window_ms integer. Returns: one jobs.answer per id that
-- has a row, in no order. Locks: the accounts, then the job rows. Idempotent by id and attempt.
select job_id, answer, state, attempt, node, session, start_ms, remaining_ms, model_version_id, locked_micro, charged_micro, code
  from jobs.place_batch($1::uuid[], $2::smallint[], $3::text[], $4::bigint[], $5::integer[], $6::integer);
