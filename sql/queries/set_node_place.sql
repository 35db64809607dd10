-- Says where a node stands and what memory it has. Params: $1 id text, $2 region text, $3 vram_gb integer. Returns: nothing.
-- Locks: the node. Idempotent; an unknown or retired node is P0002.
select from network.set_node_place($1::text, $2::text, $3::integer);
