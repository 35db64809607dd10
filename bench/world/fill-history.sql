-- Writes jobs that ended in the past month, with their transfers, as the product leaves them behind: of 100 jobs 97 succeeded
-- (a lock and its capture), 2 failed (a lock and its void) and 1 was refused (no transfer). Counters of accounts follow.
-- Params: $1 first integer (number of the first job), $2 count integer, $3 total integer (of all calls), $4 model text.
-- Returns: 1 row, how many jobs. Locks: the accounts'. Not idempotent.
with places as materialized (
  select array_agg(a.id order by a.id) as accounts, array_agg(n.id order by a.id) as namespaces
    from identity.accounts a join identity.namespaces n on n.account_id = a.id
), drawn as materialized (
  -- Evenly over 30 days up to an hour ago, so that what comes now is at the end of every index.
  select s.n, s.at, (p.accounts)[1 + s.n % cardinality(p.accounts)] as account_id,
         (p.namespaces)[1 + s.n % cardinality(p.accounts)] as namespace_id,
         md5(s.n::text || random()::text) as random, s.n % 100 as lot
    from places p cross join lateral (
      select g.n, now() - interval '1 hour' - interval '30 days' * (1 - g.n::double precision / $3::integer) as at
        from generate_series($1::integer, $1::integer + $2::integer - 1) as g (n)) as s
), made as (
  insert into jobs.jobs (id, created_at, start_by, deadline, ended_at, session, locked_micro, charged_micro, account_id,
                         namespace_id, publisher_id, model_version_id, input_tokens_max, output_tokens_max, timeout_ms,
                         input_tokens, output_tokens, state, kind, priority, outcome, attempt, attempts_max, digest, node, code,
                         reply_to, correlation_id)
  select v.id, d.at, d.at + interval '20 s', d.at + interval '85 s', d.at + interval '2 s',
         case when d.lot < 99 then extract(epoch from d.at)::bigint * 1000 end,
         case when d.lot < 99 then 116800 else 0 end, case when d.lot < 97 then 37200 else 0 end, d.account_id, d.namespace_id,
         u.id, m.id, 400, 256, 60000, case when d.lot < 99 then 180 end, case when d.lot < 99 then 64 end,
         (case when d.lot < 97 then 'succeeded' when d.lot < 99 then 'failed' else 'refused' end)::jobs.state, 'chat', 'interactive',
         (case when d.lot < 97 then 'completed' when d.lot < 99 then 'failed' end)::jobs.outcome,
         case when d.lot < 99 then 1 else 0 end, 3, sha256(d.random::bytea),
         case when d.lot < 99 then 'bench-' || 1 + d.n % 10 end,
         case when d.lot = 99 then 'TG_JOB_LIMITS' when d.lot > 96 then 'TG_WORKER_ERROR' end,
         'reply.p-bench', v.id::text
    from drawn d
   cross join lateral (select (lpad(to_hex(floor(extract(epoch from d.at) * 1000)::bigint), 12, '0') || '7' || substr(d.random, 1, 3)
                               || 'a' || substr(d.random, 4, 15))::uuid as id) as v
   cross join (select id from identity.publishers where name = 'bench') as u
   cross join (select mv.id from network.model_versions mv join network.models mm on mm.id = mv.model_id where mm.name = $4::text) as m
   order by v.id
  returning id, created_at, ended_at, account_id, locked_micro, charged_micro, state, digest
), locked as (
  insert into credits.transfers (id, at, phase, kind, debit_account_id, credit_account_id, amount_micro)
  select id, created_at, 0, 'lock', account_id, 2, locked_micro from made where state <> 'refused'
), resolved as (
  insert into credits.transfers (id, at, phase, kind, debit_account_id, credit_account_id, amount_micro, digest)
  select id, ended_at, 1, case when state = 'succeeded' then 'capture'::credits.transfer_kind else 'void' end, account_id, 2,
         charged_micro, digest
    from made where state <> 'refused'
), counted as (
  update credits.accounts a set captured_micro = a.captured_micro + s.amount_micro
    from (select account_id, sum(charged_micro)::bigint as amount_micro from made group by account_id) as s
   where a.id = s.account_id
)
select count(*)::integer as count from made
