-- Makes the monthly partitions that are missing, -1 to +3, as the owner of maintenance. Params: $1 lease text, $2 term bigint.
-- Returns: 1 row, how many were made. Locks: as ensure_partitions, and the lease. Idempotent; a term that is over is TG001.
select maintenance.ensure_partitions($1::text, $2::bigint) as made;
