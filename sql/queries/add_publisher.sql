-- Adds a publisher. Params: $1 name text. Returns: 1 row. Locks: none; a name in use is 23505.
select identity.add_publisher($1::text) as id;
