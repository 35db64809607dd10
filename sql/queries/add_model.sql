-- Adds a model with its first version. Params: $1 name text, $2 input_price_micro bigint, $3 output_price_micro bigint (per
-- 1,000,000 tokens, null: no price), $4 input_tokens_max integer, $5 output_tokens_max integer, $6 timeout_ms_max integer.
-- Returns: 1 row. Locks: none; a name in use is 23505.
select network.add_model($1::text, $2::bigint, $3::bigint, $4::integer, $5::integer, $6::integer) as id;
