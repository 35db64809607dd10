-- Says that these jobs were answered. Params: $1 ids uuid[]. Returns: nothing. Locks: the job rows. Idempotent.
select from jobs.clear_owed($1::uuid[]);
