-- An account with its credit, its namespaces, its limits and who may spend for it. Params: $1 name text. Returns: 1 row; an
-- unknown name is P0002. Locks: none.
select id, name, credited_micro, captured_micro, held_micro, namespaces, jobs_per_second, burst_jobs, open_locks_max, queued_max,
       publishers, banned_ms
  from credits.show_account($1::text);
