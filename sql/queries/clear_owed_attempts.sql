-- Says that what these attempts owed was done; arrays are parallel. Params: $1 ids uuid[], $2 attempts smallint[].
-- Returns: nothing. Locks: the rows of the attempts. Idempotent.
select jobs.clear_owed_attempts($1::uuid[], $2::smallint[]);
