-- The newest revision of the directory. Params: none. Returns: 1 row. Locks: none.
select last from network.revision;
