-- Ends credit locks by results; arrays are parallel, ids distinct. Params: $1 ids uuid[], $2 attempts smallint[],
-- $3 nodes text[], $4 sessions bigint[], $5 completed boolean[], $6 input_tokens integer[], $7 output_tokens integer[],
-- $8 digests bytea[]. Returns: one row per id, in no order; no job where the answer is unknown. Locks: the accounts, then the
-- job rows. Idempotent by id and digest.
select s.job_id as id, s.answer, (s.job).*
  from credits.settle_batch($1::uuid[], $2::smallint[], $3::text[], $4::bigint[], $5::boolean[], $6::integer[],
                            $7::integer[], $8::bytea[]) as s;
