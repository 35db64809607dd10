-- Adds credit to an account. Params: $1 id uuid (v7, the idempotency key), $2 account text, $3 amount_micro bigint. Returns: 1
-- row. Locks: the account. Idempotent by id; another use of it is 23505.
select answer, free_micro from credits.top_up($1::uuid, $2::text, $3::bigint);
