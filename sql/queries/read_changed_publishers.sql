-- Publishers that changed since a revision, with the accounts they may spend for. Params: $1 revision bigint. Returns: 0..n
-- rows. Locks: none.
select p.id, p.name, array(select e.account_id from identity.entitlements e where e.publisher_id = p.id) as account_ids
  from identity.publishers p
 where p.revision > $1::bigint;
