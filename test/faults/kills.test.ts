import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { SteadyLoad } from '../support/steady-load.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';
import { proveWhole } from './final-verdict.ts';

// A loaded machine starts servers slowly; the runner's own limit is for one that hangs.
t.setTimeout(240_000);

const KILLS = 8;
const JOBS_PER_SECOND = 40;

/**
 * The daemon is killed again and again, each time at a moment that nobody chose, while jobs come and go. Nothing is told to wait
 * for it: the next process finds by their ids what the last one left.
 */
await t.test('the daemon may be killed at any moment under load', async (t) => {
  const tollgate = await world(t, {
    workers: 0,
    isDaemonStarted: false,
    model: { tokensPerSecond: 100 },
    settings: { 'fleet.heartbeatMs': 1_000, 'fleet.lostAfterMs': 5_000 },
  });
  let daemon = await tollgate.startChildDaemon(t);
  const folder = t.testdir();
  const workerLogs = ['n1', 'n2'].map((node) => join(folder, `${node}.jsonl`));
  for (const [i, logFile] of workerLogs.entries()) {
    await tollgate.addNode(`n${i + 1}`);
    await tollgate.startWorker(`n${i + 1}`, 8, { logFile });
  }
  const { client } = tollgate;
  const limits = { ...tollgate.job().limits, wait_ms: 120_000, timeout_ms: 60_000 };
  const load = new SteadyLoad(client, JOBS_PER_SECOND, () => tollgate.job({ limits }));
  for (let kill = 1; kill <= KILLS; kill++) {
    const answered = client.replies.length;
    await until(() => client.replies.length > answered, `jobs to flow before kill ${kill}`, {
      timeoutMs: 30_000,
    });
    const afterMs = randomInt(600);
    await sleep(afterMs);
    await daemon.kill();
    t.pass(`kill ${kill} came ${afterMs} ms after an answer`);
    daemon = await tollgate.startChildDaemon(t);
  }
  await proveWhole(t, { tollgate, load, workerLogs, states: ['succeeded'] });
  t.equal(await daemon.stop(), 0, 'the last one drains and ends well');
});
