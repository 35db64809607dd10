-- Takes a lease that nobody holds, or prolongs one's own. Params: $1 name text, $2 owner text, $3 ttl_ms integer. Returns: 1 row,
-- the term, null while another holds it. Locks: the lease. Idempotent for one owner.
select maintenance.take_lease($1::text, $2::text, $3::integer) as term;
