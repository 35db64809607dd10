import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type BusyWorld, busyWorld, runsOf } from '../support/busy-world.ts';
import { metric } from '../support/books.ts';
import type { ChildDaemon } from '../support/child-daemon.ts';
import { until } from '../support/until.ts';
import { proveWhole } from './final-verdict.ts';

// A loaded machine starts processes slowly; the runner's own limit is for one that hangs.
t.setTimeout(240_000);

const JOBS_PER_SECOND = 40;
/** Jobs sent at once before each fault: more than there are slots, so that some are held and some are on their way. */
const BURST_JOBS = 60;
/** How long a coordinator is stopped: the fault itself, and longer than `fleet.lostAfterMs` of these tests. */
const STANDSTILL_MS = 8_000;

/** What any coordinator has dispatched so far. */
function dispatchedBy(daemon: ChildDaemon): Promise<number> {
  return metric(daemon.httpUrl, 'tollgate_jobs_dispatched_total');
}

/** Whether a coordinator believes to be the owner of maintenance. */
async function isOwner(daemon: ChildDaemon): Promise<boolean> {
  return (await metric(daemon.httpUrl, 'tollgate_maintenance_owner')) === 1;
}

/** Milliseconds from the making of a job's id by its client to the commit of its lock: the longest of all. */
async function longestWaitMs({ tollgate }: BusyWorld): Promise<number> {
  const [row] = await tollgate.books.sql<{ ms: number }>(`
    select max(extract(epoch from created_at) * 1000
               - ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint)::integer as ms
      from jobs.jobs`);
  return row?.ms ?? 0;
}

/** Waits until `count` more jobs were answered. */
async function answered({ tollgate }: BusyWorld, count: number): Promise<void> {
  const { replies } = tollgate.client;
  const before = replies.length;
  await until(() => replies.length >= before + count, `${count} more answers`, { timeoutMs: 30_000 });
}

/** The end of every test: each job once, and the workers' own logs know of no attempt that ran twice. */
async function proveOnce(t: Test, busy: BusyWorld): Promise<void> {
  await proveWhole(t, { ...busy, states: ['succeeded'] });
  const runs = await runsOf(busy.workerLogs);
  t.equal(new Set(runs).size, runs.length, 'no attempt ran twice');
  t.equal(runs.length, busy.load.submitted.size, 'and no job was tried twice');
}

await t.test('three coordinators share the work, and no job runs twice', async (t) => {
  const busy = await busyWorld(t, JOBS_PER_SECOND);
  const { tollgate } = busy;
  const daemons = [
    tollgate.childDaemon,
    await tollgate.startChildDaemon(t),
    await tollgate.startChildDaemon(t),
  ];
  await answered(busy, 200);
  for (const daemon of daemons) {
    const count = await dispatchedBy(daemon);
    t.ok(count > 20, `each dispatches: ${count}`);
  }
  await proveOnce(t, busy);
  for (const daemon of daemons) t.equal(await daemon.stop(), 0, 'it drains and ends well');
});

await t.test('a rolling restart loses nothing and delays nothing', async (t) => {
  const busy = await busyWorld(t, JOBS_PER_SECOND);
  const { tollgate } = busy;
  let daemons = [tollgate.childDaemon, await tollgate.startChildDaemon(t)];
  await answered(busy, 40);
  for (const old of daemons) {
    daemons = [...daemons.filter((one) => one !== old), await tollgate.startChildDaemon(t)];
    busy.load.burst(BURST_JOBS);
    t.equal(await old.stop(), 0, 'a new one comes first: the old one drains and ends well');
    await answered(busy, 40);
  }
  for (const old of daemons) {
    busy.load.burst(BURST_JOBS);
    t.equal(await old.stop(), 0, 'the old one goes first: it drains and ends well');
    await answered(busy, 40);
    daemons = [...daemons.filter((one) => one !== old), await tollgate.startChildDaemon(t)];
  }
  await proveOnce(t, busy);
  const owners = async () => (await Promise.all(daemons.map(isOwner))).filter(Boolean).length;
  await until(async () => (await owners()) === 1, 'one of the two to do maintenance');
  const waitMs = await longestWaitMs(busy);
  t.ok(waitMs < 10_000, `no job waited longer than ${waitMs} ms for its lock`);
});

await t.test('of two coordinators with two cells one is killed, and the other goes on', async (t) => {
  const busy = await busyWorld(t, JOBS_PER_SECOND, { 'fleet.cells': 2 });
  const { tollgate } = busy;
  const first = tollgate.childDaemon;
  await tollgate.startChildDaemon(t);
  await answered(busy, 40);
  busy.load.burst(BURST_JOBS);
  await first.kill();
  await answered(busy, 100);
  const again = await tollgate.startChildDaemon(t);
  await until(async () => (await dispatchedBy(again)) > 20, 'the new one to take its share');
  await proveOnce(t, busy);
});

await t.test(
  'a coordinator that stands still for longer than the limit of silence costs no worker its jobs',
  async (t) => {
    const busy = await busyWorld(t, JOBS_PER_SECOND, { 'maintenance.leaseTtlMs': 2_000 });
    const { tollgate } = busy;
    const stopped = tollgate.childDaemon;
    const other = await tollgate.startChildDaemon(t);
    await answered(busy, 40);
    t.ok(await isOwner(stopped), 'it is the owner of maintenance');
    busy.load.burst(BURST_JOBS);
    process.kill(stopped.pid, 'SIGSTOP');
    await sleep(STANDSTILL_MS);
    t.ok(await isOwner(other), 'the other has taken maintenance over');
    process.kill(stopped.pid, 'SIGCONT');
    await answered(busy, 40);
    await until(async () => !(await isOwner(stopped)), 'the one that stood still to know');
    t.same(await tollgate.books.sql('select term from maintenance.leases'), [{ term: '2' }]);
    await proveOnce(t, busy);
  },
);
