import { deflateRawSync } from 'node:zlib';
import t from 'tap';
import { makeJobs, payerOf } from '../../bench/world/jobs.ts';
import { ACCOUNTS, MODEL } from '../../bench/world/names.ts';
import { proseOf } from '../../bench/world/prose.ts';
import { planWithAccounts, planWithPools, USUAL_PLAN } from '../../bench/world/plan.ts';

await t.test('every pool has a node, and no node more pools than it may name', async (t) => {
  for (const pools of [1, 3, 100, 1_000]) {
    const { models, nodes } = planWithPools(pools);
    t.equal(models.length, pools);
    t.equal(nodes.length, planWithPools(1).nodes.length, 'the number of nodes is not compared');
    t.same(new Set(nodes.flatMap((node) => node.models)), new Set(models));
    t.ok(nodes.every((node) => node.models.length > 0 && node.models.length <= 64));
  }
  t.throws(() => planWithPools(0), RangeError);
  t.throws(() => planWithPools(1_025), RangeError);
});

await t.test('more accounts begin with the usual ones', async (t) => {
  t.same(planWithAccounts(1_000).accounts.slice(0, 100), ACCOUNTS);
  t.same(planWithAccounts(100), USUAL_PLAN);
});

await t.test('accounts pay in turn, and a hot one its share besides', async (t) => {
  const accounts = ['a', 'b', 'c'];
  const payers = (hotShare: number) =>
    Array.from({ length: 6 }, (_, n) => payerOf(n, { accounts, hotShare })).join('');
  t.equal(payers(0), 'abcabc');
  t.equal(payers(0.5), 'aabaca', 'of the others each has its turn');
});

await t.test('jobs are as large as was asked, and go to the models and accounts in turn', async (t) => {
  const small = makeJobs(3);
  t.same(
    small.map(({ body }) => body.length),
    [1_024, 1_024, 1_024],
  );
  t.equal(small[0]?.routingKey, `${MODEL}.interactive`);
  const [large] = makeJobs(1, { bodyBytes: 262_144 });
  t.equal(large?.body.length, 262_144);
  t.same(
    makeJobs(2, { models: ['x', 'y', 'z'] }, 1).map(({ routingKey }) => routingKey),
    ['y.interactive', 'z.interactive'],
    'counting on from those before',
  );
});

await t.test('prompts are as long as asked, not alike, and compress as prose does', async (t) => {
  const [first, second] = [proseOf(10_000), proseOf(10_000)];
  t.equal(Buffer.byteLength(first), 10_000);
  t.not(first, second);
  const share = deflateRawSync(first).length / first.length;
  t.ok(share > 0.3 && share < 0.6, `${share}`);
  t.equal(proseOf(300_000).length, 300_000);
});
