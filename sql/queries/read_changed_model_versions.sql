-- Model versions that changed since a revision. Params: $1 revision bigint. Returns: 0..n rows, older versions first. Locks:
-- none.
select v.id, m.name as model, v.version, v.input_price_micro, v.output_price_micro, v.input_tokens_max, v.output_tokens_max,
       v.timeout_ms_max, v.retired_at is not null as is_retired
  from network.model_versions v
  join network.models m on m.id = v.model_id
 where v.revision > $1::bigint
 order by v.id;
