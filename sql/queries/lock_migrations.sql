-- One runner at a time in this database, until the transaction ends. Params: none. Returns: nothing. Locks: an advisory one.
select from pg_advisory_xact_lock(hashtext('tollgate.migrate'));
