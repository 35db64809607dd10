-- Claims a migration; the first statement of its transaction. Params: $1 version integer, $2 name text, $3 sha256 bytea.
-- Returns: nothing. Locks: none.
insert into tollgate.migrations (version, name, sha256) values ($1::integer, $2::text, $3::bytea);
