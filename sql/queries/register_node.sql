-- Registers a node, or replaces the models of one. Params: $1 id text, $2 owner text, $3 public_key bytea (32),
-- $4 lifecycle network.lifecycle, $5 models text[]. Returns: nothing. Locks: the node. Idempotent; another owner or key is
-- 23505, an unknown model P0002.
select from network.register_node($1::text, $2::text, $3::bytea, $4::network.lifecycle, $5::text[]);
