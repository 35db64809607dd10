-- What later attempts of these jobs need. Params: $1 ids uuid[]. Returns: one row per id that has a job, in no order. Locks: none.
select job_id, state, attempt, node, namespace, model_version_id, remaining_ms, tried, last_class, last_code, last_node
  from jobs.read_retries($1::uuid[]);
