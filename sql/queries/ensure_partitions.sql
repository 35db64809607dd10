-- Makes the monthly partitions that are missing, -1 to +3. Params: none. Returns: 1 row, how many were made. Locks: SHARE
-- UPDATE EXCLUSIVE on the two parents, at most 2 s. Idempotent.
select jobs.ensure_partitions() + credits.ensure_partitions() as made;
