-- Voids the strikes of a time at which the fault was ours. Params: $1 began_ago_ms bigint, $2 ended_ago_ms bigint, $3 reason text,
-- $4 half_life_ms bigint, $5 score_max numeric. Returns: 1 row, how many were voided. Locks: the nodes in id order.
select network.declare_incident($1::bigint, $2::bigint, $3::text, $4::bigint, $5::numeric) as voided;
