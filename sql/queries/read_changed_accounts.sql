-- Accounts that changed since a revision, with their namespaces. Params: $1 revision bigint. Returns: 0..n rows. Locks: none.
select a.id, a.name,
       array(select n.name from identity.namespaces n where n.account_id = a.id order by n.id) as namespaces,
       array(select n.id from identity.namespaces n where n.account_id = a.id order by n.id) as namespace_ids
  from identity.accounts a
 where a.revision > $1::bigint;
