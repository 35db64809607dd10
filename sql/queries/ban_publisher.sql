-- Cuts a publisher off for so many milliseconds from now. Params: $1 publisher_id integer, $2 hold_off_ms integer. Returns: 1 row;
-- false where it was cut off already. Locks: the publisher.
select is_new from identity.ban_publisher($1::integer, $2::integer) as is_new;
