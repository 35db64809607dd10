import * as fc from 'fast-check';
import t from 'tap';
import { jobId, type TestFleet, testFleet } from './fleet-fixture.ts';

/**
 * Random operations, and after each one everything that is counted must agree: a worker's slots in use with its leases, what the
 * pools show with what is free, the sums with the workers.
 */
const NODES = ['n-1', 'n-2', 'n-3'] as const;
const POOLS = ['a', 'b'] as const;
const SLOTS: Readonly<Record<string, number>> = { 'n-1': 1, 'n-2': 2, 'n-3': 4 };

const node = fc.constantFrom(...NODES);
const job = fc.integer({ min: 1, max: 12 });
const operation = fc.oneof(
  fc.record({
    does: fc.constant('say' as const),
    kind: fc.constantFrom('hello' as const, 'heartbeat' as const, 'drain' as const, 'bye' as const),
    node,
    session: fc.integer({ min: 1, max: 3 }),
    pools: fc.uniqueArray(fc.constantFrom(...POOLS), { minLength: 1 }),
    warm: fc.subarray([...POOLS]),
    names: fc.uniqueArray(job, { maxLength: 3 }),
  }),
  fc.record({
    does: fc.constant('reserve' as const),
    jobs: fc.uniqueArray(job, { minLength: 1, maxLength: 6 }),
    attempt: fc.integer({ min: 1, max: 2 }),
    pool: fc.constantFrom(...POOLS),
  }),
  fc.record({ does: fc.constant('release' as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.record({ does: fc.constant('repeat release' as const) }),
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

async function run(fleet: TestFleet, step: Operation): Promise<void> {
  switch (step.does) {
    case 'say': {
      const leases = step.names.map((n) => ({ job: jobId(n), attempt: 1 }));
      const { kind, session, pools, warm: warm_models } = step;
      const slots_total = SLOTS[step.node] ?? 1;
      await fleet.say(step.node, kind, { session, pools, warm_models, slots_total, leases });
      return;
    }
    case 'reserve': {
      const { attempt, pool } = step;
      await fleet.leases.reserveBatch(step.jobs.map((n) => ({ jobId: jobId(n), attempt, pool })));
      return;
    }
    case 'release': {
      const leases = await fleet.allLeases();
      await fleet.leases.releaseBatch(leases.slice(0, Math.ceil(leases.length * step.share)));
      return;
    }
    case 'repeat release':
      await fleet.leases.releaseBatch([{ jobId: jobId(1), attempt: 1, node: 'n-1', session: 1 }]);
  }
}

function inWords(sum: { total: number; free: number; workers: number } | undefined): string {
  return sum ? `${sum.free} of ${sum.total} slots free on ${sum.workers} workers` : 'nothing';
}

/** What disagrees, in words; empty when all is well. */
async function disagreements(fleet: TestFleet): Promise<string[]> {
  const found: string[] = [];
  const leases = await fleet.allLeases();
  for (const lease of leases) if (!lease.isHeld) found.push(`${lease.jobId} is not counted`);
  const sums = new Map<string, { total: number; free: number; workers: number }>();
  const workers = await fleet.allWorkers();
  for (const worker of workers) {
    const { slotsTotal, unleased } = worker;
    const own = leases.filter((lease) => lease.node === worker.node && lease.session === worker.session);
    if (worker.leases !== own.length || worker.leasesFound !== own.length) {
      found.push(
        `${worker.node}: ${own.length} leases, ${worker.leases} counted, ${worker.leasesFound} found`,
      );
    }
    if (worker.leases > slotsTotal) found.push(`${worker.node} has more leases than slots`);
    const free = worker.state === 'live' ? Math.max(0, slotsTotal - worker.leases - unleased) : 0;
    if (worker.slotsFree !== free) found.push(`${worker.node} shows ${worker.slotsFree} free, not ${free}`);
    for (const pool of worker.state === 'live' ? worker.pools : []) {
      const sum = sums.get(pool) ?? { total: 0, free: 0, workers: 0 };
      sums.set(pool, { total: sum.total + slotsTotal, free: sum.free + free, workers: sum.workers + 1 });
    }
  }
  const known = new Set(workers.map((worker) => `${worker.node} ${worker.session}`));
  for (const lease of leases) {
    if (!known.has(`${lease.node} ${lease.session}`)) found.push(`${lease.jobId} is held by nobody`);
  }
  const shown = await fleet.leases.poolSlots();
  for (const pool of POOLS) {
    const [is, should] = [inWords(shown.get(pool)), inWords(sums.get(pool))];
    if (is !== should) found.push(`pool ${pool} shows ${is}, not ${should}`);
  }
  for (const pool of await fleet.waiting()) {
    if ((shown.get(pool)?.free ?? 0) > 0) found.push(`pool ${pool} has free slots and nobody was woken`);
  }
  return found;
}

await t.test('after any sequence of operations all counts agree and no worker is over-full', async (t) => {
  const fleet = await testFleet(t);
  const sequences = fc.array(operation, { maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(sequences, async (steps) => {
      await fleet.raw.flushdb();
      await fleet.open();
      for (const step of steps) {
        await run(fleet, step);
        const found = await disagreements(fleet);
        if (found.length > 0) throw new Error(`after ${JSON.stringify(step)}: ${found.join('; ')}`);
      }
    }),
    { numRuns: 200, includeErrorInReport: true },
  );
  t.pass('200 sequences');
});

const placement = fc.record({
  workers: fc.array(
    fc.record({
      slots: fc.integer({ min: 1, max: 5 }),
      inUse: fc.integer({ min: 0, max: 5 }),
      pools: fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { minLength: 1 }),
      warm: fc.subarray(['a', 'b', 'c']),
    }),
    { maxLength: 8 },
  ),
  pools: fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 24 }),
});

await t.test('in a mixed batch each job gets the best worker there is at its turn', async (t) => {
  const fleet = await testFleet(t);
  await fc.assert(
    fc.asyncProperty(placement, async ({ workers, pools }) => {
      await fleet.raw.flushdb();
      await fleet.open();
      const free = new Map<string, number>();
      for (const [i, { slots, inUse, pools: served, warm }] of workers.entries()) {
        free.set(`w-${i}`, Math.max(0, slots - inUse));
        const said = { slots_total: slots, slots_in_use: inUse, pools: served, warm_models: warm };
        await fleet.say(`w-${i}`, 'hello', said);
      }
      const asked = pools.map((pool, i) => ({ jobId: jobId(i), attempt: 1, pool }));
      const answers = await fleet.leases.reserveBatch(asked);
      for (const [i, pool] of pools.entries()) {
        const members = workers.flatMap((worker, w) =>
          worker.pools.includes(pool)
            ? [{ warmFirst: worker.warm.includes(pool) ? 1 : 0, free: free.get(`w-${w}`) ?? 0 }]
            : [],
        );
        const [best] = members
          .filter((member) => member.free > 0)
          .toSorted((x, y) => y.warmFirst - x.warmFirst || y.free - x.free);
        const answer = answers[i];
        const expected = best ? `got ${best.warmFirst} ${best.free}` : members.length > 0 ? 'full' : 'none';
        const given =
          answer?.kind === 'got' ? `got ${Number(answer.isWarm)} ${answer.slotsFree}` : `${answer?.kind}`;
        if (given !== expected) throw new Error(`job ${i} of pool ${pool}: ${given}, not ${expected}`);
        if (answer?.kind === 'got') {
          if (free.get(answer.node) !== answer.slotsFree)
            throw new Error(`${answer.node} had another number`);
          free.set(answer.node, answer.slotsFree - 1);
        }
      }
    }),
    { numRuns: 200, includeErrorInReport: true },
  );
  t.pass('200 batches');
});
