-- The migrations this database has. Params: none. Returns: in order. Locks: none.
select version, name, sha256 from tollgate.migrations order by version;
