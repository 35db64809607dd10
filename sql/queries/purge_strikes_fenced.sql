-- Deletes old strikes, as the owner of maintenance. Params: $1 lease text, $2 term bigint, $3 keep_days integer. Returns: 1 row,
-- how many. Locks: the lease, the rows. Idempotent; a term that is over is TG001.
select maintenance.purge_strikes($1::text, $2::bigint, $3::integer) as purged;
