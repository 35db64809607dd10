-- Adds a namespace to its account. Params: $1 name text (`acme/prod`). Returns: 1 row. Locks: none; a name in use is 23505, an
-- unknown account P0002.
select identity.add_namespace($1::text) as id;
