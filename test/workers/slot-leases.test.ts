import t from 'tap';
import { StoreError } from '../../src/errors.ts';
import { until } from '../support/until.ts';
import { jobId, leasesOf, nodesOf, requests, testFleet } from './fleet-fixture.ts';

await t.test('a warm worker comes before a cold one, then the one with most free slots', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('cold-large', 'hello', { slots_total: 9 });
  await fleet.say('warm-small', 'hello', { slots_total: 2, warm_models: ['m'] });
  await fleet.say('warm-large', 'hello', { slots_total: 3, warm_models: ['m'] });
  const answers = await fleet.reserve(1, 7);
  const warm = nodesOf(answers.slice(0, 5));
  t.equal(warm[0], 'warm-large', 'most free slots of the warm ones');
  t.same(warm.toSorted(), ['warm-large', 'warm-large', 'warm-large', 'warm-small', 'warm-small']);
  t.same(nodesOf(answers.slice(5)), ['cold-large', 'cold-large']);
  t.match(answers[0], { kind: 'got', session: 1, isWarm: true, slotsFree: 3, workersFree: 3 });
  t.match(answers[6], { kind: 'got', isWarm: false, slotsFree: 8, workersFree: 3 });
});

await t.test('a batch of 512 over mixed pools fills what fits and spreads it evenly', async (t) => {
  const fleet = await testFleet(t);
  const pools = ['a', 'b', 'c'];
  for (let i = 0; i < 12; i++) {
    await fleet.say(`n-${i}`, 'hello', { slots_total: 40, pools: [pools[i % 3] ?? ''] });
  }
  const asked = Array.from({ length: 512 }, (_, i) => ({
    jobId: jobId(i),
    attempt: 1,
    pool: pools[i % 3] ?? '',
  }));
  const answers = await fleet.leases.reserveBatch(asked);
  t.equal(answers.filter((answer) => answer.kind === 'got').length, 480);
  t.equal(answers.filter((answer) => answer.kind === 'full').length, 32);
  t.same(
    answers.slice(0, 240).filter((answer) => answer.kind !== 'got'),
    [],
    'in order: the first fit',
  );
  const half = await testFleet(t);
  for (let i = 0; i < 12; i++) await half.say(`n-${i}`, 'hello', { slots_total: 40, pools });
  await half.leases.reserveBatch(asked.slice(0, 240));
  const used = (await half.registry.list()).map((worker) => worker.slotsInUse);
  t.same(
    used,
    Array.from({ length: 12 }, () => 20),
  );
});

await t.test('a worker of several pools is full in all of them at once', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('shared', 'hello', { slots_total: 2, pools: ['a', 'b'] });
  await fleet.say('own', 'hello', { slots_total: 1, pools: ['b'] });
  const asked = ['a', 'a', 'b', 'b', 'a'].map((pool, i) => ({ jobId: jobId(i), attempt: 1, pool }));
  t.same(nodesOf(await fleet.leases.reserveBatch(asked)), ['shared', 'shared', 'own', 'full', 'full']);
  t.same(
    await fleet.leases.poolSlots(),
    new Map([
      ['a', { total: 2, free: 0, workers: 1 }],
      ['b', { total: 3, free: 0, workers: 2 }],
    ]),
  );
});

await t.test('in one batch the place of a shared worker falls in the other pool too', async (t) => {
  const fleet = await testFleet(t);
  // Pool b fetches one worker at a time here; the best of them is used up by pool a meanwhile.
  await fleet.say('shared', 'hello', { slots_total: 3, pools: ['a', 'b'] });
  await fleet.say('second', 'hello', { slots_total: 2, pools: ['b'] });
  await fleet.say('third', 'hello', { slots_total: 1, pools: ['b'] });
  const asked = ['a', 'a', 'a', 'b'].map((pool, i) => ({ jobId: jobId(i), attempt: 1, pool }));
  t.same(nodesOf(await fleet.leases.reserveBatch(asked)), ['shared', 'shared', 'shared', 'second']);
});

await t.test('a pool without a worker says none, one without a free slot full', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1');
  t.same(nodesOf(await fleet.reserve(1, 2)), ['n-1', 'full']);
  t.same(nodesOf(await fleet.reserve(3, 1, 'nobody')), ['none']);
});

await t.test('the same attempt has its lease already; asking again takes nothing', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1', 'hello', { slots_total: 2 });
  const [first] = await fleet.reserve(1, 1);
  const [again] = await fleet.reserve(1, 1);
  t.equal(first?.kind, 'got');
  t.match(again, { kind: 'had', node: 'n-1', session: 1, slotsFree: 2 });
  t.equal((await fleet.occupancyOf('n-1'))?.slotsInUse, 1);
});

await t.test('the next attempt replaces the lease of the last one and frees its slot', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1');
  await fleet.reserve(1, 1);
  const [second] = await fleet.leases.reserveBatch([{ jobId: jobId(1), attempt: 2, pool: 'm' }]);
  t.match(second, { kind: 'got', node: 'n-1' });
  t.match(await fleet.allLeases(), [{ jobId: jobId(1), attempt: 2 }]);
  const [first] = await fleet.reserve(1, 1);
  t.equal(first?.kind, 'had', 'an attempt that is over takes nothing: PostgreSQL will say what became of it');
});

await t.test('a lease on a worker that takes no new jobs is given elsewhere', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1');
  await fleet.reserve(1, 1);
  await fleet.say('n-1', 'drain');
  await fleet.say('n-2');
  t.same(nodesOf(await fleet.reserve(1, 1)), ['n-2']);
  t.equal((await fleet.allLeases()).length, 1);
});

await t.test('release compares attempt, node and session, and repeats harmlessly', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1');
  const asked = requests(1, 1);
  await fleet.leases.reserveBatch(asked);
  const lease = { jobId: jobId(1), attempt: 1, node: 'n-1', session: 1 };
  const wrong = [
    { ...lease, attempt: 2 },
    { ...lease, node: 'n-2' },
    { ...lease, session: 2 },
    { ...lease, jobId: jobId(2) },
  ];
  t.equal(await fleet.leases.releaseBatch(wrong), 0);
  t.equal((await fleet.occupancyOf('n-1'))?.slotsInUse, 1);
  t.equal(await fleet.leases.releaseBatch([lease]), 1);
  t.equal(await fleet.leases.releaseBatch([lease]), 0);
  t.equal((await fleet.occupancyOf('n-1'))?.slotsInUse, 0);
  t.same(nodesOf(await fleet.reserve(3, 1)), ['n-1']);
});

await t.test('a full pool is woken once by the releases that follow', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1', 'hello', { slots_total: 3 });
  const asked = requests(1, 4);
  const answers = await fleet.leases.reserveBatch(asked);
  t.equal(answers[3]?.kind, 'full');
  for (const lease of leasesOf(asked, answers)) await fleet.leases.releaseBatch([lease]);
  // The sentinel comes after whatever was published before it.
  await fleet.reserve(9, 1, 'sentinel');
  await fleet.say('n-2', 'hello', { pools: ['sentinel'] });
  await until(() => fleet.woken.includes('sentinel'), 'the sentinel');
  t.same(fleet.woken, ['m', 'sentinel']);
});

await t.test('a slot that nobody waits for wakes nobody, a worker that comes wakes its pools', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1');
  const asked = requests(1, 1);
  await fleet.leases.releaseBatch(leasesOf(asked, await fleet.leases.reserveBatch(asked)));
  await fleet.reserve(2, 1, 'x');
  await fleet.reserve(3, 1, 'y');
  await fleet.say('n-2', 'hello', { pools: ['x', 'y'] });
  await until(() => fleet.woken.length >= 2, 'two wake-ups');
  t.same(fleet.woken.toSorted(), ['x', 'y']);
});

await t.test('a slot freed on a draining worker wakes nobody', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1');
  const asked = requests(1, 2);
  const answers = await fleet.leases.reserveBatch(asked);
  await fleet.say('n-1', 'drain');
  t.equal(await fleet.leases.releaseBatch(leasesOf(asked, answers)), 1);
  await fleet.reserve(9, 1, 'sentinel');
  await fleet.say('n-2', 'hello', { pools: ['sentinel'] });
  await until(() => fleet.woken.includes('sentinel'), 'the sentinel');
  t.same(fleet.woken, ['sentinel']);
});

await t.test('two coordinators never give one slot twice', async (t) => {
  const fleet = await testFleet(t);
  for (let i = 0; i < 4; i++) await fleet.say(`n-${i}`, 'hello', { slots_total: 25 });
  const batches = Array.from({ length: 10 }, (_, i) => fleet.reserve(i * 20, 20));
  const kinds = (await Promise.all(batches)).flat().map((answer) => answer.kind);
  t.equal(kinds.filter((kind) => kind === 'got').length, 100);
  t.equal(kinds.filter((kind) => kind === 'full').length, 100);
  t.same(
    (await fleet.registry.list()).map((worker) => worker.slotsInUse),
    [25, 25, 25, 25],
  );
});

await t.test('without Redis every call is a StoreError', async (t) => {
  const fleet = await testFleet(t);
  await fleet.redis.stop();
  await t.rejects(fleet.reserve(1, 1), StoreError);
  await t.rejects(
    fleet.leases.releaseBatch([{ jobId: jobId(1), attempt: 1, node: 'n', session: 1 }]),
    StoreError,
  );
  await t.rejects(fleet.leases.poolSlots(), StoreError);
  await t.rejects(fleet.registry.takeLost(), StoreError);
  await t.rejects(fleet.say('n-1'), StoreError);
  t.same(await fleet.leases.reserveBatch([]), [], 'an empty batch asks nobody');
});
