import { Client } from 'pg';
import t from 'tap';
import { testLedger } from '../support/ledger.ts';

/**
 * The plans of the hot statements, as PostgreSQL itself tells them: each reads one partition by its primary key, and nothing
 * is scanned whole. The plans were made while the tables were nearly empty, which is when the planner is tempted most.
 */
await t.test('lock_batch and settle_batch', async (t) => {
  const ledger = await testLedger(t);
  const watched = new Client({ connectionString: ledger.adminUrl });
  const plans: string[] = [];
  watched.on('notice', (notice) => plans.push(notice.message ?? ''));
  await watched.connect();
  t.after(() => watched.end());
  await watched.query(`load 'auto_explain'`);
  for (const setting of [
    'auto_explain.log_min_duration = 0',
    'auto_explain.log_nested_statements = on',
    'auto_explain.log_analyze = on',
    'client_min_messages = log',
  ])
    await watched.query(`set ${setting}`);

  const arrays = `array_agg(id), array_agg($2::int), array_agg(1), array_agg(1), array_agg(sha256(id::text::bytea)),
    array_agg('chat'::jobs.kind), array_agg('batch'::jobs.priority), array_agg(null::text), array_agg(null::text),
    array_agg(null::text), array_agg($3::int), array_agg(10), array_agg(10), array_agg(60000), array_agg(1::smallint),
    array_agg('node-1'::text), array_agg(7::bigint), array_agg('0a1b'::text), 20000, 5000`;
  const ids = Array.from({ length: 64 }, () => ledger.lockRequest().jobId);
  // Ten times, because a plan is made for good at the sixth.
  for (let i = 0; i < 10; i++) {
    const batch = i === 9 ? ids : Array.from({ length: 8 }, () => ledger.lockRequest().jobId);
    plans.length = 0;
    await watched.query(
      `select credits.lock_batch(ids, a, n, p, d, k, y, r, c, e, v, i, o, m, x, w, s, q, b, g)
         from (select ${arrays} from unnest($1::uuid[]) as id) as z (ids, a, n, p, d, k, y, r, c, e, v, i, o, m, x, w, s, q, b, g)`,
      [batch, ledger.accountId, ledger.modelVersionId],
    );
  }
  const lockPlans = plans.splice(0);
  for (let i = 0; i < 10; i++) {
    const batch = i === 9 ? ids : [ledger.lockRequest().jobId];
    plans.length = 0;
    await watched.query(
      `select credits.settle_batch(array_agg(id), array_agg(1::smallint), array_agg('node-1'::text), array_agg(7::bigint),
                                   array_agg(true), array_agg(5), array_agg(5), array_agg(sha256(id::text::bytea)))
         from unnest($1::uuid[]) as id`,
      [batch],
    );
  }
  const settlePlans = plans.splice(0);
  const lookUpPlans: string[] = [];
  for (let i = 0; i < 10; i++) {
    plans.length = 0;
    await watched.query(
      'select jobs.look_up_batch($1::uuid[], array_fill($2::int, array[64]), array_fill(null::bytea, array[64]))',
      [ids, ledger.accountId],
    );
  }
  lookUpPlans.push(...plans.splice(0));

  await t.test('wrote what the plans are of', async (t) => {
    const [row] = await ledger.sql('select count(*)::int as n from credits.transfers where phase = 1');
    t.same(row, { n: 64 });
  });

  for (const [name, texts] of Object.entries({ lock: lockPlans, settle: settlePlans, lookUp: lookUpPlans })) {
    await t.test(`${name}: no table is scanned whole, and one partition is read`, (t) => {
      t.ok(texts.length >= 2, `${texts.length} plans`);
      for (const text of texts) {
        t.notMatch(text, /Seq Scan/, text);
        t.notMatch(text, /deadline_id_idx/, text);
        const read = new Set(
          [...text.matchAll(/Scan using (jobs_\d{6}|transfers_\d{6})_/g)].map((match) => match[1]),
        );
        t.ok(
          [...read].filter((table) => table?.startsWith('jobs')).length <= 1,
          `partitions read: ${[...read].join()}`,
        );
      }
      t.end();
    });
  }
});
