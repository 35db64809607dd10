-- Makes an account with counters at zero. Params: $1 name text. Returns: 1 row. Locks: none; a name in use is 23505.
select identity.create_account($1::text) as id;
