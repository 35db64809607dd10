import t from 'tap';
import { until } from '../support/until.ts';
import { jobId, leasesOf, nodesOf, requests, SHORT, type TestFleet, testFleet } from './fleet-fixture.ts';

await t.test('Redis is warming until it has been known for as long as a worker may be silent', async (t) => {
  const fleet = await testFleet(t, SHORT);
  t.equal(await fleet.registry.state(), 'warming');
  await until(async () => (await fleet.registry.state()) === 'ready', 'Redis to be ready');
  await fleet.raw.flushdb();
  t.equal(await fleet.registry.state(), 'warming');
});

await t.test('an emptied Redis declares nobody lost', async (t) => {
  const fleet = await testFleet(t, SHORT);
  await fleet.say('n-1');
  await fleet.sweepUntil(async () => (await fleet.registry.state()) === 'ready', 'Redis to be ready');
  await fleet.say('n-1', 'heartbeat');
  await fleet.raw.flushdb();
  t.same(await fleet.registry.takeLost(), []);
  t.same(await fleet.registry.list(), []);
  t.same(nodesOf(await fleet.reserve(1, 1)), ['full'], 'nothing is placed before the rebuild');
  await fleet.open();
  t.same(nodesOf(await fleet.reserve(1, 1)), ['none'], 'nobody has spoken since');
  const reported: string[] = [];
  await until(async () => {
    await fleet.say('n-1', 'heartbeat');
    for (const { node } of await fleet.registry.takeLost()) reported.push(node);
    return (await fleet.registry.state()) === 'ready';
  }, 'Redis to be ready again');
  t.same(reported, []);
  t.match(await fleet.registry.list(), [{ node: 'n-1' }]);
});

await t.test('after a flush the heartbeats keep the slots, PostgreSQL brings the leases back', async (t) => {
  const fleet = await testFleet(t);
  const said = { slots_total: 3 };
  await fleet.say('n-1', 'hello', said);
  const asked = requests(1, 2);
  const leases = leasesOf(asked, await fleet.leases.reserveBatch(asked));
  await fleet.raw.flushdb();

  const held = { ...said, leases: asked.map((one) => ({ job: one.jobId, attempt: 1 })) };
  await fleet.say('n-1', 'heartbeat', held);
  t.match(await fleet.occupancyOf('n-1'), { leases: 0, unleased: 2, slotsInUse: 2, slotsFree: 1 });

  const open = leases.map((lease) => ({ ...lease, pool: 'm' }));
  await fleet.leases.rebuild(open);
  await fleet.leases.rebuild(open);
  t.match(await fleet.occupancyOf('n-1'), { leases: 2, unleased: 0, slotsInUse: 2, slotsFree: 1 });
  t.match((await fleet.reserve(1, 1))[0], { kind: 'had', node: 'n-1' });
  await fleet.say('n-1', 'heartbeat', held);
  t.match(await fleet.occupancyOf('n-1'), { leases: 2, unleased: 0 });
  t.equal(await fleet.leases.releaseBatch(leases), 2);
  t.match(await fleet.occupancyOf('n-1'), { slotsInUse: 0, slotsFree: 3 });
});

await t.test('leases rebuilt before the worker speaks count once it does', async (t) => {
  const fleet = await testFleet(t);
  const lease = { jobId: jobId(1), attempt: 2, node: 'n-1', session: 1, pool: 'm' };
  await fleet.leases.rebuild([lease, { ...lease, jobId: jobId(2) }]);
  await fleet.say('n-1', 'heartbeat', { slots_total: 2, leases: [{ job: jobId(1), attempt: 2 }] });
  t.match(await fleet.occupancyOf('n-1'), { leases: 2, unleased: 0, slotsFree: 0 });
});

await t.test('an attempt that is over, or of another session, is not rebuilt', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1', 'hello', { session: 5 });
  const lease = { jobId: jobId(1), attempt: 1, node: 'n-1', session: 5, pool: 'm' };
  await fleet.leases.releaseBatch([lease]);
  await fleet.leases.rebuild([lease, { ...lease, jobId: jobId(2), session: 4 }]);
  t.same(await fleet.allLeases(), []);
});

await t.test('a job that has a lease keeps it when slots are rebuilt', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1');
  await fleet.leases.reserveBatch([{ jobId: jobId(1), attempt: 2, pool: 'm' }]);
  await fleet.leases.rebuild([{ jobId: jobId(1), attempt: 1, node: 'n-1', session: 1, pool: 'm' }]);
  t.match(await fleet.allLeases(), [{ jobId: jobId(1), attempt: 2 }]);
});

await t.test('an emptied cell gives no slot until it is opened for the epoch that it has', async (t) => {
  const fleet = await testFleet(t);
  const before = await epochOf(fleet);
  const readMs = performance.now();
  await until(() => performance.now() - readMs > 5, 'another millisecond');
  await fleet.raw.flushdb();
  await fleet.say('n-1');
  t.same(nodesOf(await fleet.reserve(1, 1)), ['full'], 'the worker may be busy');
  const after = await epochOf(fleet);
  t.ok(after > before);
  t.notOk(await fleet.leases.open(0, before));
  t.same(nodesOf(await fleet.reserve(1, 1)), ['full'], 'what was read is older than the loss');
  t.ok(await fleet.leases.open(0, after));
  await until(() => fleet.woken.includes('m'), 'the pool to be woken');
  t.same(nodesOf(await fleet.reserve(1, 1)), ['n-1']);
  t.ok(await fleet.leases.open(0, after), 'once more changes nothing');
});

async function epochOf(fleet: TestFleet): Promise<number> {
  const [cell] = await fleet.registry.cells();
  return cell === undefined || cell.state === 'away' ? 0 : cell.epochMs;
}
