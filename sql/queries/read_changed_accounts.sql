-- Accounts that changed since a revision, with their namespaces and the limits of their own. Params: $1 revision bigint.
-- Returns: 0..n rows. Locks: none.
select a.id, a.name,
       array(select n.name from identity.namespaces n where n.account_id = a.id order by n.id) as namespaces,
       array(select n.id from identity.namespaces n where n.account_id = a.id order by n.id) as namespace_ids,
       a.jobs_per_second, a.burst_jobs, a.open_locks_max, a.queued_max
  from identity.accounts a
 where a.revision > $1::bigint;
