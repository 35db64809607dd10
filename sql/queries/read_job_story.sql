-- One job's row, lock and resolution with their commit times. Params: $1 id uuid. Returns: 0..1 rows. Locks: none.
select * from credits.job_story($1::uuid);
