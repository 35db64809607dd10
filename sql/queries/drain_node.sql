-- Drains a node until a deadline, or ends its drain. Params: $1 id text, $2 deadline_ms bigint (null: no drain). Returns: nothing.
-- Locks: the node. Idempotent but for the deadline; an unknown or retired node is P0002.
select from network.drain_node($1::text, $2::bigint);
