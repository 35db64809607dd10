-- Pools with a constraint opened since a revision; from 0 all of them. Params: $1 revision bigint. Returns: 0..n rows. Locks: none.
select m.name as model, p.region, p.vram_gb
  from network.pools p join network.models m on m.id = p.model_id
 where p.revision > $1::bigint
 order by m.name, p.region, p.vram_gb;
