-- Forgets a cut-off that is over. Params: $1 publisher_id integer. Returns: 1 row; false where there was none that is over. Locks:
-- the publisher. Idempotent.
select is_lifted from identity.lift_ban($1::integer) as is_lifted;
