import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { busyWorld } from '../support/busy-world.ts';
import type { ChildDaemon } from '../support/child-daemon.ts';
import { until } from '../support/until.ts';
import type { World } from '../support/world.ts';
import { proveWhole } from './final-verdict.ts';

// A loaded machine starts servers slowly; the runner's own limit is for one that hangs.
t.setTimeout(240_000);

const KILLS = 8;
const JOBS_PER_SECOND = 40;

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
  const { tollgate, load, workerLogs } = await busyWorld(t, JOBS_PER_SECOND);
  let daemon = tollgate.childDaemon;
  for (let kill = 1; kill <= KILLS; kill++) {
    await killAtRandom(t, tollgate, daemon);
    daemon = await tollgate.startChildDaemon(t);
  }
  await proveWhole(t, { tollgate, load, workerLogs, states: ['succeeded'] });
  t.equal(await daemon.stop(), 0, 'the last one drains and ends well');
});

await t.test('of two daemons one may be killed at any moment, and the other goes on', async (t) => {
  const { tollgate, load, workerLogs } = await busyWorld(t, JOBS_PER_SECOND);
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
