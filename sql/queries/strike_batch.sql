-- Appends strikes and ejects the nodes that they bring to the bound. Params: $1 nodes text[], $2 kinds network.fault[],
-- $3 jobs uuid[], $4 age_ms bigint[], $5 half_life_ms bigint, $6 score_max numeric, $7 hold_ms_min bigint, $8 hold_ms_max bigint,
-- $9 ejected_percent_max integer. Returns: a row per node at the bound, hold_ms null where its pools spare it. Locks: the nodes in
-- id order, then ejections. Not idempotent.
select node_id, score, hold_ms
  from network.strike_batch($1::text[], $2::network.fault[], $3::uuid[], $4::bigint[], $5::bigint,
                            $6::numeric, $7::bigint, $8::bigint, $9::integer);
