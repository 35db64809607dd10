-- Publishers that changed since a revision, with the accounts they may spend for and what is left of a cut-off, in milliseconds.
-- Params: $1 revision bigint. Returns: 0..n rows. Locks: none.
select p.id, p.name, array(select e.account_id from identity.entitlements e where e.publisher_id = p.id) as account_ids,
       ceil(extract(epoch from p.banned_until - clock_timestamp()) * 1000)::double precision as banned_ms
  from identity.publishers p
 where p.revision > $1::bigint;
