-- A page of credit accounts with their counters, and the snapshot in which these were read: what was committed then and nothing
-- else must add up to them. Params: $1 after integer, $2 limit integer. Returns: by id. Locks: none.
select a.id, a.kind, a.credited_micro, a.captured_micro, a.held_micro,
       a.kind = 'system' or exists (select from identity.accounts i where i.id = a.id) as has_owner,
       pg_current_snapshot()::text as snapshot,
       extract(epoch from clock_timestamp())::double precision * 1000 as read_at_ms
  from credits.accounts a
 where a.id > $1::integer
 order by a.id
 limit $2::integer;
