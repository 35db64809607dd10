-- The attempts of one job that were given up, oldest first. Params: $1 id uuid. Returns: no row where none was. Locks: none.
select attempt, node, session, outcome, class, code, is_counted, ended_at from jobs.attempts_of($1::uuid);
