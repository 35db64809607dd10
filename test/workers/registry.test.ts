import t from 'tap';
import { until } from '../support/until.ts';
import { jobId, leasesOf, nodesOf, requests, SHORT, testFleet } from './fleet-fixture.ts';

await t.test('a worker is what it said last', async (t) => {
  const fleet = await testFleet(t);
  t.same(await fleet.say('n-1', 'hello', { slots_total: 4, pools: ['a', 'b'] }), { kind: 'applied' });
  await fleet.say('n-1', 'heartbeat', { slots_total: 5, pools: ['b', 'c'], warm_models: ['c', 'foreign'] });
  const [worker] = await fleet.registry.list();
  t.match(worker, {
    node: 'n-1',
    session: 1,
    slotsTotal: 5,
    slotsInUse: 0,
    pools: ['b', 'c'],
    warmModels: ['c'],
    isDraining: false,
  });
  t.ok((worker?.heartbeatAgeMs ?? -1) >= 0);
  t.same([...(await fleet.leases.poolSlots()).keys()].toSorted(), ['b', 'c']);
  t.same(nodesOf(await fleet.reserve(1, 1, 'a')), ['none']);
});

await t.test('of a session only what grows in seq counts', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1', 'hello', { seq: 5, slots_total: 3 });
  t.same(await fleet.say('n-1', 'heartbeat', { seq: 5, slots_total: 1 }), { kind: 'ignored' });
  t.same(await fleet.say('n-1', 'bye', { seq: 4 }), { kind: 'ignored' });
  t.equal((await fleet.registry.list())[0]?.slotsTotal, 3);
});

await t.test('a higher session takes over and frees the slots of the older one', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1', 'hello', { session: 7, seq: 90 });
  await fleet.reserve(1, 1);
  t.same(await fleet.say('n-1', 'hello', { session: 8, seq: 1 }), { kind: 'superseded', oldSession: 7 });
  t.same(await fleet.allLeases(), []);
  const [answer] = await fleet.reserve(2, 1);
  t.match(answer, { kind: 'got', node: 'n-1', session: 8 });
  t.same(await fleet.say('n-1', 'heartbeat', { session: 7, seq: 91 }), {
    kind: 'refused',
    code: 'TG_FLEET_STALE_SESSION',
  });
});

await t.test(
  'the older session is reported as lost until it is forgotten, the newer one works on',
  async (t) => {
    const fleet = await testFleet(t, SHORT);
    await fleet.say('n-1', 'hello', { session: 7, slots_total: 2 });
    await fleet.say('n-1', 'hello', { session: 8, slots_total: 2 });
    await fleet.reserve(1, 1);
    const lost = await until(async () => {
      await fleet.say('n-1', 'heartbeat', { session: 8, slots_total: 2 });
      const found = await fleet.registry.takeLost();
      return found.length > 0 && found;
    }, 'the old session');
    t.same(lost, [{ node: 'n-1', session: 7 }]);
    await fleet.registry.forget('n-1', 7);
    t.equal((await fleet.registry.list())[0]?.session, 8);
    t.equal((await fleet.allLeases()).length, 1);
  },
);

await t.test('a draining worker gets no new jobs, and stays so until its session ends', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1', 'hello', { slots_total: 2 });
  await fleet.reserve(1, 1);
  await fleet.say('n-1', 'drain', { slots_total: 2 });
  await fleet.say('n-1', 'heartbeat', { slots_total: 2 });
  t.same(nodesOf(await fleet.reserve(2, 1)), ['none']);
  t.match(await fleet.registry.list(), [{ isDraining: true, slotsInUse: 1 }]);
  t.equal((await fleet.leases.poolSlots()).size, 0);
  await fleet.say('n-1', 'hello', { session: 2, slots_total: 2 });
  t.same(nodesOf(await fleet.reserve(2, 1)), ['n-1']);
});

await t.test('a worker that says bye is gone at once, and nothing late brings it back', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1', 'hello', { seq: 1 });
  await fleet.say('n-1', 'bye', { seq: 3 });
  t.same(await fleet.registry.list(), []);
  t.same(nodesOf(await fleet.reserve(1, 1)), ['none']);
  t.same(await fleet.say('n-1', 'heartbeat', { seq: 2 }), { kind: 'ignored' });
  t.same(await fleet.registry.list(), []);
});

await t.test('a worker that leaves with leases is reported unless they are released in time', async (t) => {
  const fleet = await testFleet(t, SHORT);
  for (const node of ['settled', 'stranded']) {
    await fleet.say(node, 'hello', { pools: [node] });
    const asked = requests(node === 'settled' ? 1 : 2, 1, node);
    const leases = leasesOf(asked, await fleet.leases.reserveBatch(asked));
    await fleet.say(node, 'bye', { pools: [node] });
    if (node === 'settled') await fleet.leases.releaseBatch(leases);
  }
  t.same(await fleet.registry.list(), []);
  const lost = await until(async () => {
    const found = await fleet.registry.takeLost();
    return found.length > 0 && found;
  }, 'a lost session');
  t.same(lost, [{ node: 'stranded', session: 1 }]);
});

await t.test(
  'what a worker holds without a lease fills its slots, once a release cannot be newer',
  async (t) => {
    const fleet = await testFleet(t, { ...SHORT, leaseTtlMs: 60_000 });
    await fleet.say('n-1', 'hello', { slots_total: 2 });
    const asked = requests(1, 1);
    await fleet.leases.releaseBatch(leasesOf(asked, await fleet.leases.reserveBatch(asked)));
    const held = { slots_total: 2, leases: [{ job: jobId(1), attempt: 1 }] };
    await until(async () => {
      await fleet.say('n-1', 'heartbeat', held);
      return (await fleet.occupancyOf('n-1'))?.unleased === 1;
    }, 'the job that runs on to be counted');
    t.match(await fleet.occupancyOf('n-1'), { leases: 0, slotsInUse: 1, slotsFree: 1 });
    await fleet.say('n-1', 'heartbeat', { slots_total: 2 });
    t.match(await fleet.occupancyOf('n-1'), { unleased: 0, slotsFree: 2 });
  },
);

await t.test('a heartbeat that a release overtook takes no slot', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1');
  const asked = requests(1, 1);
  await fleet.leases.releaseBatch(leasesOf(asked, await fleet.leases.reserveBatch(asked)));
  await fleet.say('n-1', 'heartbeat', { leases: [{ job: jobId(1), attempt: 1 }] });
  t.match(await fleet.occupancyOf('n-1'), { unleased: 0, slotsFree: 1 });
});

await t.test('slots that a worker says are in use for something else are not given away', async (t) => {
  const fleet = await testFleet(t);
  await fleet.say('n-1', 'hello', { slots_total: 3, slots_in_use: 2 });
  t.same(nodesOf(await fleet.reserve(1, 2)), ['n-1', 'full']);
});

await t.test('a lease that no heartbeat names ends, frees its slot and wakes', async (t) => {
  const fleet = await testFleet(t, SHORT);
  const named = { slots_total: 2, leases: [{ job: jobId(1), attempt: 1 }] };
  await fleet.say('n-1', 'hello', { slots_total: 2 });
  t.same(nodesOf(await fleet.reserve(1, 3)), ['n-1', 'n-1', 'full']);
  await fleet.sweepUntil(async () => {
    await fleet.say('n-1', 'heartbeat', named);
    return (await fleet.allLeases()).length < 2;
  }, 'the lease to end');
  t.match(await fleet.allLeases(), [{ jobId: jobId(1) }], 'the one that is named lives on');
  t.match(await fleet.occupancyOf('n-1'), { slotsInUse: 1, slotsFree: 1 });
  await until(() => fleet.woken.length > 0, 'the wake-up');
  t.same(fleet.woken, ['m']);
});

await t.test(
  'a silent worker is out of its pools, reported until forgotten, and may come back then',
  async (t) => {
    const fleet = await testFleet(t, { ...SHORT, leaseTtlMs: 60_000 });
    await fleet.say('silent', 'hello', { slots_total: 2 });
    await fleet.reserve(1, 1);
    const lost = await until(async () => {
      await fleet.say('alive', 'heartbeat', { pools: ['other'] });
      const found = await fleet.registry.takeLost();
      return found.length > 0 && found;
    }, 'the silent worker');
    t.same(lost, [{ node: 'silent', session: 1 }]);
    t.same(await fleet.registry.takeLost(), lost, 'again, until it is forgotten');
    t.same(nodesOf(await fleet.reserve(2, 1)), ['none']);
    t.same(await fleet.say('silent', 'heartbeat', { slots_total: 2 }), { kind: 'ignored' });
    await fleet.registry.forget('silent', 1);
    t.same(await fleet.registry.takeLost(), []);
    t.same(await fleet.allLeases(), []);
    t.same(await fleet.say('silent', 'heartbeat', { slots_total: 2 }), { kind: 'applied' });
    t.same(nodesOf(await fleet.reserve(2, 1)), ['silent']);
    await fleet.registry.forget('silent', 1);
    t.match(await fleet.registry.list(), [{}, {}], 'to forget one that is not lost does nothing');
  },
);

await t.test('a session is live, missing, or unknown', async (t) => {
  const fleet = await testFleet(t, SHORT);
  const all = ['serving', 'draining', 'left', 'never'];
  const unknown = all.map(() => 'unknown');
  const standings = async (nodes: readonly string[]) => {
    const lookUp = await fleet.registry.sessions(nodes);
    return all.map((node) => lookUp(node, 1));
  };
  await fleet.say('left', 'hello');
  await fleet.say('left', 'bye');
  t.same(await standings(all), unknown, 'Redis is warming');
  await fleet.sweepUntil(async () => {
    await fleet.say('serving', 'heartbeat');
    await fleet.say('draining', 'drain');
    return (await fleet.registry.state()) === 'ready';
  }, 'Redis to be ready');
  t.same(await standings(all), ['live', 'live', 'missing', 'missing']);
  t.same(
    await standings(['draining', 'left']),
    ['unknown', 'live', 'missing', 'unknown'],
    'only those asked for',
  );
  t.equal((await fleet.registry.sessions(['serving']))('serving', 2), 'missing', 'another session');
  const many = Array.from({ length: 1_500 }, (_, i) => `absent-${i}`);
  t.equal((await fleet.registry.sessions([...many, 'serving', 'serving']))('serving', 1), 'live');
  await fleet.raw.flushdb();
  t.same(await standings(all), unknown, 'emptied: silence means nothing');
});

await t.test('silence counts only while somebody listens', async (t) => {
  const fleet = await testFleet(t, SHORT);
  await fleet.say('other', 'bye', { slots_total: 1 });
  await fleet.sweepUntil(async () => (await fleet.registry.state()) === 'ready', 'a long watch');
  await fleet.say('n-1');
  fleet.isListening = false;
  const reported = new Set<string>();
  const look = async () => {
    for (const { node } of await fleet.registry.takeLost()) reported.add(node);
  };
  await until(async () => {
    await look();
    return ((await fleet.registry.list())[0]?.heartbeatAgeMs ?? 0) > 2 * SHORT.lostAfterMs;
  }, 'a long silence');
  fleet.isListening = true;
  await look();
  t.same([...reported], [], 'the first look after a break judges nobody');
  await fleet.say('n-1', 'heartbeat');
  t.match(await fleet.registry.list(), [{ node: 'n-1' }]);
});
