import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { ChildDaemon } from '../support/child-daemon.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';
import { proveWhole } from './final-verdict.ts';

// A loaded machine starts servers slowly; the runner's own limit is for one that hangs.
t.setTimeout(240_000);

const KILLS = 8;
const JOBS_PER_SECOND = 40;

/** Starts two workers that keep logs, and a load; answers run at a speed at which some are always under way. */
async function busyWorld(t: Test): Promise<{ tollgate: World; load: SteadyLoad; workerLogs: string[] }> {
  const tollgate = await world(t, {
    workers: 0,
    isDaemonStarted: false,
    model: { tokensPerSecond: 100 },
    settings: { 'fleet.heartbeatMs': 1_000, 'fleet.lostAfterMs': 5_000 },
  });
  await tollgate.startChildDaemon(t);
  const folder = t.testdir();
  const workerLogs = ['n1', 'n2'].map((node) => join(folder, `${node}.jsonl`));
  for (const [i, logFile] of workerLogs.entries()) {
    await tollgate.addNode(`n${i + 1}`);
    await tollgate.startWorker(`n${i + 1}`, 8, { logFile });
  }
  const limits = { ...tollgate.job().limits, wait_ms: 120_000, timeout_ms: 60_000 };
  const load = new SteadyLoad(tollgate.client, JOBS_PER_SECOND, () => tollgate.job({ limits }));
  return { tollgate, load, workerLogs };
}

/** Kills `daemon` at a moment that nobody chose, while jobs come and go. */
async function killAtRandom(t: Test, tollgate: World, daemon: ChildDaemon): Promise<void> {
  const answered = tollgate.client.replies.length;
  await until(() => tollgate.client.replies.length > answered, 'jobs to flow', { timeoutMs: 30_000 });
  const afterMs = randomInt(600);
  await sleep(afterMs);
  await daemon.kill();
  t.pass(`killed ${afterMs} ms after an answer`);
}

/** Nothing is told to wait for the daemon: the next process finds by their ids what the last one left. */
await t.test('the daemon may be killed at any moment under load', async (t) => {
  const { tollgate, load, workerLogs } = await busyWorld(t);
  let daemon = tollgate.childDaemon;
  for (let kill = 1; kill <= KILLS; kill++) {
    await killAtRandom(t, tollgate, daemon);
    daemon = await tollgate.startChildDaemon(t);
  }
  await proveWhole(t, { tollgate, load, workerLogs, states: ['succeeded'] });
  t.equal(await daemon.stop(), 0, 'the last one drains and ends well');
});

await t.test('of two daemons one may be killed at any moment, and the other goes on', async (t) => {
  const { tollgate, load, workerLogs } = await busyWorld(t);
  const daemons = [tollgate.childDaemon, await tollgate.startChildDaemon(t)];
  for (let kill = 1; kill <= KILLS; kill++) {
    const [oldest, other] = daemons.splice(0);
    if (oldest === undefined || other === undefined) throw new Error('there are not two');
    await killAtRandom(t, tollgate, oldest);
    const answered = tollgate.client.replies.length;
    await until(() => tollgate.client.replies.length > answered + 5, 'the other to answer alone');
    daemons.push(other, await tollgate.startChildDaemon(t));
  }
  await proveWhole(t, { tollgate, load, workerLogs, states: ['succeeded'] });
  for (const daemon of daemons) t.equal(await daemon.stop(), 0, 'it drains and ends well');
});
