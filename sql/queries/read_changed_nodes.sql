-- Nodes that changed since a revision, with the models they may serve; from 0 all of them. Params: $1 revision bigint. Returns:
-- 0..n rows by id; times as milliseconds from now, negative in the past, so that no clock is compared. Locks: none.
select n.id, n.owner, n.public_key, n.lifecycle, n.region, n.vram_gb,
       array(select m.name from network.node_models nm join network.models m on m.id = nm.model_id
              where nm.node_id = n.id order by m.name) as models,
       (extract(epoch from n.drain_by - clock_timestamp()) * 1000)::double precision as drain_ms,
       (extract(epoch from n.ineligible_until - clock_timestamp()) * 1000)::double precision as ineligible_ms,
       n.ineligible_reason
  from network.nodes n
 where n.revision > $1::bigint
 order by n.id;
