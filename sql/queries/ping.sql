-- Asks for an answer. Params: none. Returns: 1 row. Locks: none.
select 1 as one;
