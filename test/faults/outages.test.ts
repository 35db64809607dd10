import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { ownServers } from '../support/own-servers.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';
import { proveWhole } from './final-verdict.ts';

// A loaded machine starts servers slowly; the runner's own limit is for one that hangs.
t.setTimeout(240_000);

/** How long each server is away. This is the fault itself, not a wait for something. */
const OUTAGE_MS = 5_000;
const JOBS_PER_SECOND = 25;
const SERVERS = ['postgres', 'redis', 'rabbitmq', 'mongodb'] as const;

/**
 * Each server is stopped for 5 s under load, one after the other. The same daemon process goes on, every job that was submitted
 * ends once, and when everything is quiet the stores agree.
 */
await t.test('each server may be stopped for 5 s under load', async (t) => {
  const { stack, servers } = await ownServers(t);
  const tollgate = await world(t, {
    servers,
    workers: 0,
    isDaemonStarted: false,
    model: { tokensPerSecond: 200 },
    settings: { 'fleet.heartbeatMs': 1_000, 'fleet.lostAfterMs': 5_000 },
  });
  const { client } = tollgate;
  const daemon = await tollgate.startChildDaemon(t);
  const folder = t.testdir();
  const workerLogs = ['n1', 'n2'].map((node) => join(folder, `${node}.jsonl`));
  for (const [i, logFile] of workerLogs.entries()) {
    await tollgate.addNode(`n${i + 1}`);
    await tollgate.startWorker(`n${i + 1}`, 8, { logFile });
  }
  const limits = { ...tollgate.job().limits, wait_ms: 120_000, timeout_ms: 60_000 };
  const load = new SteadyLoad(client, JOBS_PER_SECOND, () => tollgate.job({ limits }));
  await until(() => client.replies.length > 20, 'the load to flow');

  for (const name of SERVERS) {
    await t.test(`${name} away, and back on the same port`, async (t) => {
      await stack.server(name).stop('fast');
      await sleep(OUTAGE_MS);
      await stack.server(name).start();
      const fresh = tollgate.job({ limits });
      await until(async () => (await client.send(fresh)) === 'confirmed', 'the broker', {
        timeoutMs: 20_000,
      });
      t.equal((await client.reply(fresh.id, 30_000)).state, 'succeeded', 'a new job runs');
      t.ok(process.kill(daemon.pid, 0), 'the same process goes on');
    });
  }
  await proveWhole(t, { tollgate, load, workerLogs, states: ['succeeded'] });
});
