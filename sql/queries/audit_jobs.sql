-- A page of jobs, each with its lock, its resolution and what it names, all of one snapshot: no job is ever seen half moved. The
-- laterals have `limit 1` so that PostgreSQL looks each row up by its key instead of joining whole tables.
-- Params: $1 after uuid, $2 limit integer. Returns: by id. Locks: none.
with page as materialized (
  select j.* from jobs.jobs j where j.id > $1::uuid order by j.id limit $2::integer
), moment as materialized (
  select clock_timestamp() as now
)
select p.id, p.state, p.outcome, p.code, p.attempt, p.node, p.session, p.account_id, p.namespace_id, p.publisher_id,
       p.model_version_id, p.input_tokens_max, p.output_tokens_max, p.input_tokens, p.output_tokens, p.locked_micro,
       p.charged_micro, p.reply_owed, p.digest is not null as has_body,
       extract(epoch from m.now - p.created_at)::double precision * 1000 as created_ago_ms,
       extract(epoch from m.now - p.ended_at)::double precision * 1000 as ended_ago_ms,
       extract(epoch from m.now - p.deadline)::double precision * 1000 as overdue_ms,
       l.kind as lock_kind, l.amount_micro as lock_micro, l.debit_account_id as lock_account_id,
       r.kind as resolution_kind, r.amount_micro as resolution_micro,
       (select a.kind from credits.accounts a where a.id = p.account_id limit 1) as account_kind,
       (select n.account_id from identity.namespaces n where n.id = p.namespace_id limit 1) as namespace_account_id,
       coalesce((select true from identity.publishers i where i.id = p.publisher_id limit 1), false) as has_publisher,
       coalesce((select true from network.pools o join network.model_versions w on w.model_id = o.model_id
                  where w.id = p.model_version_id
                    and coalesce('~r.' || o.region, '') || coalesce('~v.' || o.vram_gb, '') = p.pool_suffix limit 1),
                p.pool_suffix is null) as has_pool,
       v.id as version_id, v.input_price_micro, v.output_price_micro,
       u.input_price_micro as run_input_price_micro, u.output_price_micro as run_output_price_micro,
       g.attempts as given_up, g.owed as given_up_owed
  from page p
 cross join moment m
  left join lateral (select t.kind, t.amount_micro, t.debit_account_id from credits.transfers t
                      where t.id = p.id and t.phase = 0 limit 1) as l on true
  left join lateral (select t.kind, t.amount_micro from credits.transfers t
                      where t.id = p.id and t.phase = 1 limit 1) as r on true
  left join lateral (select i.id, i.input_price_micro, i.output_price_micro from network.model_versions i
                      where i.id = p.model_version_id limit 1) as v on true
  left join lateral (select i.input_price_micro, i.output_price_micro from network.model_versions i
                      where i.id = coalesce(p.run_version_id, p.model_version_id) limit 1) as u on true
  left join lateral (select array_agg(i.attempt order by i.attempt) as attempts,
                            array_agg(i.attempt order by i.attempt) filter (where i.is_owed) as owed
                       from jobs.attempts i where i.job_id = p.id) as g on true
 order by p.id;
