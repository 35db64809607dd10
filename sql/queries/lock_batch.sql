-- Sets credits aside for attempt 1 of each job, or says why not; arrays are parallel, ids distinct. Params: $1 ids uuid[],
-- $2 account_ids integer[], $3 namespace_ids integer[], $4 publisher_ids integer[], $5 digests bytea[], $6 kinds jobs.kind[],
-- $7 priorities jobs.priority[], $8 reply_tos text[], $9 correlation_ids text[], $10 traceparents text[],
-- $11 model_version_ids integer[], $12 input_tokens_max integer[], $13 output_tokens_max integer[], $14 timeouts_ms integer[],
-- $15 attempts_max smallint[], $16 nodes text[], $17 sessions bigint[], $18 pool_suffixes text[], $19 start_window_ms integer,
-- $20 grace_ms integer.
-- Returns: one jobs.answer per id, in no order. Locks: the accounts, then new job rows. Idempotent by id.
select job_id, answer, state, attempt, node, session, start_ms, remaining_ms, model_version_id, locked_micro, charged_micro, code
  from credits.lock_batch($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::bytea[], $6::jobs.kind[],
                          $7::jobs.priority[], $8::text[], $9::text[], $10::text[], $11::integer[], $12::integer[],
                          $13::integer[], $14::integer[], $15::smallint[], $16::text[], $17::bigint[], $18::text[],
                          $19::integer, $20::integer);
