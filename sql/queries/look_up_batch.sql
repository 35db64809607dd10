-- What is known of these job ids; arrays are parallel. Params: $1 ids uuid[], $2 account_ids integer[], $3 digests bytea[].
-- Returns: one jobs.answer per id that has a row, in no order. Locks: none.
select job_id, answer, state, attempt, node, session, start_ms, remaining_ms, model_version_id, locked_micro, charged_micro, code
  from jobs.look_up_batch($1::uuid[], $2::integer[], $3::bytea[]);
