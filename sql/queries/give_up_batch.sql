-- Gives up attempts: the next one or the end of the job; arrays are parallel, ids distinct. Params: $1 ids uuid[],
-- $2 attempts smallint[], $3 nodes text[], $4 sessions bigint[], $5 outcomes jobs.outcome[], $6 classes text[], $7 codes text[],
-- $8 counted boolean[], $9 delays_ms integer[] (null: no next attempt), $10 digests bytea[], $11 owed boolean[],
-- $12 uncounted_max integer. Returns: one row per id, in no order. Locks: the accounts, then the job rows. Idempotent by id,
-- attempt and digest.
select g.job_id as id, g.answer, g.next_attempt, g.retry_ms, g.remaining_ms, g.pool, g.priority, (g.job).*
  from credits.give_up_batch($1::uuid[], $2::smallint[], $3::text[], $4::bigint[], $5::jobs.outcome[], $6::text[], $7::text[],
                             $8::boolean[], $9::integer[], $10::bytea[], $11::boolean[], $12::integer) as g;
