-- How many jobs of each account hold a credit lock now. Params: $1 account_ids integer[]. Returns: 1 row per account that was
-- asked for. Locks: none.
select account_id, open from jobs.count_open_locks($1::integer[]);
