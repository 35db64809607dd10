-- Remembers refusals and expiries of jobs that were never locked; arrays are parallel, ids distinct. Params: $1 ids uuid[],
-- $2 account_ids integer[], $3 namespace_ids integer[], $4 publisher_ids integer[], $5 digests bytea[], $6 kinds jobs.kind[],
-- $7 priorities jobs.priority[], $8 reply_tos text[], $9 correlation_ids text[], $10 traceparents text[],
-- $11 states jobs.state[], $12 codes text[]. Returns: one jobs.answer per id, in no order. Locks: the accounts, then new job
-- rows. Idempotent by id.
select job_id, answer, state, attempt, node, session, start_ms, remaining_ms, model_version_id, locked_micro, charged_micro, code
  from jobs.end_unlocked_batch($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::bytea[], $6::jobs.kind[],
                               $7::jobs.priority[], $8::text[], $9::text[], $10::text[], $11::jobs.state[], $12::text[]);
