-- Opens pools for constraints, as far as there is room; arrays are parallel and distinct. Params: $1 models text[],
-- $2 regions text[], $3 vram_gb integer[], $4 pools_max integer. Returns: 1 row. Locks: the directory's revision. Idempotent.
select opened from network.open_pools($1::text[], $2::text[], $3::integer[], $4::integer) as opened;
