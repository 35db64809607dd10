-- Puts a new version with these prices in place of the active one. Params: $1 name text, $2 input_price_micro bigint,
-- $3 output_price_micro bigint. Returns: 1 row. Locks: the model; an unknown one is P0002.
select network.set_price($1::text, $2::bigint, $3::bigint) as id;
