-- The strikes of a node and what each counts now. Params: $1 node text, $2 half_life_ms bigint. Returns: 0..200 rows, newest
-- first. Locks: none.
select kind, job_id, at, weight, counts_until, incident from network.explain_strikes($1::text, $2::bigint);
