import t from 'tap';
import { StoreError } from '../../src/errors.ts';
import { type RedisCluster, startRedisCluster } from '../../src/stack/redis-cluster.ts';
import { cellBase, cellOf } from '../../src/workers/keys.ts';
import { SCRIPTS } from '../../src/workers/redis.ts';
import type { Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { jobId, leasesOf, LONG, nodesOf, requests, SHORT, TestFleet } from './fleet-fixture.ts';

/** Enough that each master keeps some. */
const CELLS = 8;
const NODES = Array.from({ length: 24 }, (_, i) => `n-${i}`);
const MASTERS = [0, 1, 2];

const cluster = await startRedisCluster();
t.after(() => cluster.stop());
let fleets = 0;

/** A fleet with keys of its own in the cluster. */
async function clusterFleet(end: Teardown, bounds: Partial<typeof LONG> = {}): Promise<TestFleet> {
  const keyPrefix = `fleet-${++fleets}`;
  const fleet = new TestFleet(cluster.url, { ...LONG, ...bounds, cells: CELLS, keyPrefix });
  end.after(async () => {
    await fleet.redis.stop();
    fleet.raw.disconnect();
  });
  await fleet.redis.start();
  await fleet.open();
  return fleet;
}

/** The master that keeps each cell of the newest fleet. */
async function mastersOfCells(of: RedisCluster): Promise<number[]> {
  const cells = Array.from({ length: CELLS }, (_, cell) => cell);
  return Promise.all(cells.map((cell) => of.masterOf(cellBase(`fleet-${fleets}`, cell))));
}

await t.test('all keys of a cell are in one hash slot, and the cells lie on all masters', async (t) => {
  const fleet = await clusterFleet(t);
  for (const node of NODES) await fleet.say(node, 'hello', { slots_total: 2 });
  const asked = requests(1, 30);
  const leases = leasesOf(asked, await fleet.leases.reserveBatch(asked));
  await fleet.leases.releaseBatch(leases.slice(0, 5));
  await fleet.redis.count('suspect', 0, ['queue', 'digest', 'count', 60_000]);
  t.same(new Set(await mastersOfCells(cluster)), new Set(MASTERS));
  const slots = new Map<string, Set<number>>();
  for (const master of MASTERS) {
    await cluster.on(master, async (redis) => {
      for (const key of await redis.keys('*')) {
        const base = key.slice(0, key.indexOf('}') + 1);
        slots.set(base, (slots.get(base) ?? new Set()).add(await redis.cluster('KEYSLOT', key)));
      }
    });
  }
  t.same(
    new Set(slots.keys()),
    new Set(Array.from({ length: CELLS }, (_, cell) => cellBase(`fleet-${fleets}`, cell))),
  );
  for (const [base, found] of slots) t.equal(found.size, 1, base);
});

await t.test('every script runs on a node that has never seen it', async (t) => {
  const fleet = await clusterFleet(t, SHORT);
  for (const master of MASTERS) await cluster.on(master, (redis) => redis.script('FLUSH'));
  const ran = new Set<string>();
  const run = async (name: (typeof SCRIPTS)[number], args: (string | number)[]): Promise<void> => {
    for (let cell = 0; cell < CELLS; cell++) {
      // Each answers with a list or with a number.
      await fleet.redis.list(name, cell, args).catch(() => fleet.redis.count(name, cell, args));
    }
    ran.add(name);
  };
  await run('apply', ['hello', 'n-1', 1, 1, 1, 0, 'm', '']);
  await run('reserve', [1, jobId(1), 1, 'm', '']);
  await run('release', [jobId(1), 1, 'n-1', 1]);
  await run('rebuild', [jobId(1), 1, 'n-1', 1, 'm']);
  await run('open', [1]);
  await run('expire', [10]);
  await run('take-lost', [10]);
  await run('forget', ['n-1', 1]);
  await run('suspect', ['queue', 'digest', 'count', 60_000]);
  await run('read-state', []);
  await run('read-workers', ['0', 10, 1]);
  await run('read-nodes', ['m', 'n-1']);
  await run('read-sessions', ['n-1']);
  await run('read-leases', ['0', 10]);
  await run('read-progress', [jobId(1), 1]);
  t.same(ran, new Set(SCRIPTS));
});

await t.test('every slot can be had, once, and every release frees one', async (t) => {
  const fleet = await clusterFleet(t);
  for (const node of NODES) await fleet.say(node, 'hello', { slots_total: 2 });
  const asked = requests(1, 50);
  const [one, other] = await Promise.all([
    fleet.leases.reserveBatch(asked.slice(0, 25)),
    fleet.leases.reserveBatch(asked.slice(25)),
  ]);
  const answers = [...one, ...other];
  const leases = leasesOf(asked, answers);
  t.equal(leases.length, 48);
  t.equal(answers.filter(({ kind }) => kind === 'full').length, 2);
  t.same(await fleet.leases.poolSlots(), new Map([['m', { total: 48, free: 0, workers: 24 }]]));
  for (const worker of await fleet.allWorkers()) t.match(worker, { leases: 2, leasesFound: 2, slotsFree: 0 });
  const again = await fleet.leases.reserveBatch(asked);
  t.same(
    again.map(({ kind }) => kind),
    answers.map(({ kind }) => (kind === 'got' ? 'had' : kind)),
  );
  t.equal(await fleet.leases.releaseBatch(leases), 48);
  t.same(await fleet.leases.poolSlots(), new Map([['m', { total: 48, free: 48, workers: 24 }]]));
});

await t.test('a wake-up is heard whichever node published it', async (t) => {
  const fleet = await clusterFleet(t);
  const masters = await mastersOfCells(cluster);
  for (const master of MASTERS) {
    const node = NODES.find((name) => masters[cellOf(name, CELLS)] === master) ?? '';
    const pool = `pool-${master}`;
    await fleet.reserve(master + 1, 1, pool);
    await fleet.say(node, 'hello', { pools: [pool] });
    await until(() => fleet.woken.includes(pool), `the wake-up that master ${master} published`);
  }
});

await t.test('silent workers of every cell are found', async (t) => {
  const fleet = await clusterFleet(t, SHORT);
  for (const node of NODES) await fleet.say(node);
  const lost = new Set<string>();
  await fleet.sweepUntil(async () => {
    for (const { node, session } of await fleet.registry.takeLost()) {
      lost.add(node);
      await fleet.registry.forget(node, session);
    }
    return lost.size === NODES.length;
  }, 'all workers to be lost');
  t.same(await fleet.registry.list(), []);
});

await t.test('while one master is away the cells of the others go on', async (t) => {
  const fleet = await clusterFleet(t, { ...SHORT, leaseTtlMs: 60_000 });
  const masters = await mastersOfCells(cluster);
  const masterOf = (node: string) => masters[cellOf(node, CELLS)] ?? -1;
  const [killed = 0] = masters;
  const away = NODES.filter((node) => masterOf(node) === killed);
  const here = NODES.filter((node) => masterOf(node) !== killed);
  t.ok(away.length > 0 && here.length > 0);
  let leases: readonly { jobId: string; attempt: number; node: string; session: number }[] = [];
  const beat = async (nodes: readonly string[]): Promise<void> => {
    for (const node of nodes) {
      const held = leases.filter((lease) => lease.node === node);
      const named = held.map(({ jobId: job, attempt }) => ({ job, attempt }));
      await fleet.say(node, 'heartbeat', { slots_total: 2, leases: named }).catch((error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
      });
    }
  };
  await beat(NODES);
  const asked = requests(1, 24);
  leases = leasesOf(asked, await fleet.leases.reserveBatch(asked));
  t.same(new Set(leases.map(({ node }) => masterOf(node))), new Set(MASTERS));
  const reported = new Set<string>();
  const sweep = async (nodes: readonly string[]): Promise<void> => {
    await beat(nodes);
    for (const { node } of await fleet.registry.takeLost()) reported.add(node);
    await fleet.leases.expireLeases(100);
  };
  await until(async () => {
    await sweep(NODES);
    return (await fleet.registry.state()) === 'ready';
  }, 'all cells to be ready');

  await cluster.server(killed).stop('kill');
  await until(async () => (await fleet.registry.state()) === 'partial', 'the loss to be noticed');
  t.ok(fleet.redis.isUp);
  await t.rejects(fleet.say(away[0] ?? ''), StoreError);
  const free = (await fleet.leases.poolSlots()).get('m');
  t.match(free, { workers: here.length, total: 2 * here.length });
  const others = requests(101, 60);
  const answers = await fleet.leases.reserveBatch(others);
  const placed = leasesOf(others, answers);
  t.equal(placed.length, free?.free);
  t.ok(placed.every(({ node }) => here.includes(node)));
  t.same(new Set(answers.map(({ kind }) => kind)), new Set(['got', 'full']));
  t.same(
    new Set(nodesOf(await fleet.reserve(201, 2, 'nobody'))),
    new Set(['full']),
    'a cell that is away may have one',
  );
  t.equal(await fleet.leases.releaseBatch(placed), placed.length);
  t.same(new Set((await fleet.registry.list()).map(({ node }) => node)), new Set(here));
  const endMs = performance.now() + 2 * SHORT.lostAfterMs;
  await until(async () => {
    await sweep(here);
    return performance.now() > endMs;
  }, 'twice the time after which a silent worker is lost');
  t.same([...reported], []);
  const lookUp = await fleet.registry.sessions([...here, ...away]);
  t.equal(lookUp(away[0] ?? '', 1), 'unknown');
  t.equal(lookUp(here[0] ?? '', 1), 'live');
  t.equal(lookUp(here[0] ?? '', 2), 'missing');

  await cluster.server(killed).start();
  await cluster.whole();
  await until(async () => (await fleet.registry.state()) === 'warming', 'the empty cells to be seen');
  t.ok(
    (await fleet.registry.cells()).every(({ state }, cell) => state === 'ready' || masters[cell] === killed),
  );
  await beat(NODES);
  const early = leasesOf(requests(301, 60), await fleet.leases.reserveBatch(requests(301, 60)));
  t.ok(
    early.every(({ node }) => here.includes(node)),
    'the empty cells are not open yet',
  );
  await fleet.leases.rebuild(leases.map((lease) => ({ ...lease, pool: 'm' })));
  await fleet.open();
  await fleet.leases.releaseBatch(early);
  t.same(
    new Set((await fleet.allLeases()).map((lease) => lease.jobId)),
    new Set(leases.map((lease) => lease.jobId)),
  );
  for (const { leases: held, leasesFound, unleased, slotsFree } of await fleet.allWorkers())
    t.same([leasesFound, unleased, slotsFree], [held, 0, 2 - held]);
  await until(async () => {
    await sweep(NODES);
    return (await fleet.registry.state()) === 'ready';
  }, 'all cells to be ready again');
  t.same([...reported], []);
  t.equal(await fleet.leases.releaseBatch(leases), leases.length);
  t.same(await fleet.leases.poolSlots(), new Map([['m', { total: 48, free: 48, workers: 24 }]]));
});

await t.test('wake-ups are heard again when the node that was listened to is killed', async (t) => {
  const fleet = await clusterFleet(t);
  let n = 1_000;
  for (const master of MASTERS) {
    await cluster.server(master).stop('kill');
    await cluster.server(master).start();
    await cluster.whole();
    const heard = fleet.woken.length;
    await until(async () => {
      await fleet.open();
      const pool = `again-${++n}`;
      await fleet.reserve(n, 1, pool);
      for (const node of NODES.slice(0, 4)) await fleet.say(node, 'heartbeat', { pools: [pool] });
      return fleet.woken.length > heard;
    }, `a wake-up after master ${master} was killed`);
  }
});

await t.test('all masters away: every call is a StoreError, and it comes back by itself', async (t) => {
  const fleet = await clusterFleet(t);
  const changes: boolean[] = [];
  fleet.redis.onChange((isUp) => changes.push(isUp));
  await Promise.all(MASTERS.map((master) => cluster.server(master).stop('kill')));
  await until(() => !fleet.redis.isUp, 'the loss to be noticed');
  await t.rejects(fleet.reserve(1, 1), StoreError);
  await t.rejects(fleet.registry.list(), StoreError);
  await t.rejects(fleet.registry.state(), StoreError);
  await Promise.all(MASTERS.map((master) => cluster.server(master).start()));
  await cluster.whole();
  await until(() => fleet.redis.isUp, 'the connection to come back');
  await until(
    async () => (await fleet.registry.cells()).every(({ state }) => state === 'warming'),
    'all cells',
  );
  await fleet.open();
  t.same(await fleet.reserve(1, 1), [{ kind: 'none' }]);
  t.same(changes, [false, true]);
});

await t.test('a master that does not answer costs a call its time limit and no more', async (t) => {
  const fleet = await clusterFleet(t, { commandMsMax: 200 });
  const [frozen = 0] = await mastersOfCells(cluster);
  cluster.server(frozen).pause();
  t.after(() => cluster.server(frozen).resume());
  const startMs = performance.now();
  t.equal((await fleet.reserve(1, 1)).length, 1);
  t.ok(performance.now() - startMs < 2_000);
  t.equal(await fleet.registry.state(), 'partial');
  cluster.server(frozen).resume();
  await until(async () => (await fleet.registry.state()) !== 'partial', 'it to answer again');
});
