-- Gives a lease back. Params: $1 name text, $2 term bigint. Returns: nothing. Locks: the lease. Idempotent; a term that is over
-- changes nothing.
select from maintenance.release_lease($1::text, $2::bigint);
