-- Sets limits of an account's own; null leaves one as it is, 0 gives the configuration's back. Params: $1 account text, $2
-- jobs_per_second integer, $3 burst_jobs integer, $4 open_locks_max integer, $5 queued_max integer. Returns: nothing. Locks: the
-- account. Idempotent; an unknown name is P0002.
select from identity.limit_account($1::text, $2::integer, $3::integer, $4::integer, $5::integer);
