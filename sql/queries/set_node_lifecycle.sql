-- Activates, puts on probation or retires a node. Params: $1 id text, $2 lifecycle network.lifecycle. Returns: nothing. Locks:
-- the node. Idempotent; an unknown or retired node is P0002.
select from network.set_node_lifecycle($1::text, $2::network.lifecycle);
