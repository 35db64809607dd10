import t from 'tap';
import { startRedisCluster } from '../../src/stack/redis-cluster.ts';
import { cellBase, cellOf } from '../../src/workers/keys.ts';
import type { HandWorker } from '../support/hand-worker.ts';
import { isolatedServers, type Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

// A loaded machine is slow; the runner's own limit is for a test that hangs.
t.setTimeout(120_000);

/** The whole line on a Redis Cluster of three masters. */
const CELLS = 8;
const LOST_AFTER_MS = 2_000;
const NODES = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'];

const cluster = await startRedisCluster();
t.after(() => cluster.stop());
let lines = 0;

interface ClusterLine {
  readonly tollgate: World;
  readonly workers: readonly HandWorker[];
}

/** A line of its own on the cluster, each node with one slot. */
async function clusterLine(end: Teardown, nodes: readonly string[]): Promise<ClusterLine> {
  const elsewhere = await isolatedServers(end, { postgres: true, amqp: true, mongo: true });
  const tollgate = await world(end, {
    servers: { ...elsewhere, redisUrl: cluster.url, keyPrefix: `line-${++lines}` },
    settings: { 'fleet.cells': CELLS, 'fleet.lostAfterMs': LOST_AFTER_MS, 'retries.delayMsMin': 2_000 },
    workers: 0,
  });
  const workers: HandWorker[] = [];
  for (const node of nodes) {
    await tollgate.addNode(node);
    workers.push(await tollgate.startHandWorker(node, 1));
  }
  return { tollgate, workers };
}

/** Waits until a worker has this attempt of a job. */
function begun({ workers }: ClusterLine, job: string, attempt = 1) {
  return until(() => {
    for (const worker of workers) {
      const held = worker.held.find(({ message }) => message.job === job && message.attempt === attempt);
      if (held !== undefined) return { worker, held, node: held.message.node };
    }
    return undefined;
  }, `attempt ${attempt} of ${job}`);
}

async function sent({ tollgate }: ClusterLine, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    const job = tollgate.job();
    await tollgate.send({ ...job, limits: { ...job.limits, attempts_max: 3 } });
    ids.push(job.id);
  }
  return ids;
}

async function finished(line: ClusterLine, job: string, attempt = 1): Promise<void> {
  const { worker, held } = await begun(line, job, attempt);
  await worker.finish(held);
}

await t.test('jobs run on the workers of every cell', async (t) => {
  const line = await clusterLine(t, NODES);
  const jobs = await sent(line, NODES.length);
  const nodes = new Set<string>();
  for (const job of jobs) nodes.add((await begun(line, job)).node);
  t.same(nodes, new Set(NODES), 'each slot of the fleet is had');
  const next = await sent(line, NODES.length);
  for (const job of [...jobs, ...next]) await finished(line, job);
  for (const job of [...jobs, ...next])
    t.match(await line.tollgate.reply(job), { state: 'succeeded', charged_micro: 11 });
  await line.tollgate.slotsAreFree();
});

await t.test('a delayed retry rings', async (t) => {
  const line = await clusterLine(t, ['n1', 'n2']);
  const [job = ''] = await sent(line, 1);
  for (const attempt of [1, 2]) {
    const { worker, held } = await begun(line, job, attempt);
    await worker.finish(held, {
      status: 'failed',
      output: null,
      usage: { input_tokens: 0, output_tokens: 0 },
      error: { code: 'model_error', message: 'as the test says' },
    });
  }
  const alarms = `{${line.tollgate.servers.keyPrefix}:alarms}:retries:delayed`;
  const master = await cluster.masterOf(alarms);
  await until(() => cluster.on(master, async (redis) => (await redis.zcard(alarms)) === 1), 'its alarm');
  await finished(line, job, 3);
  t.equal((await line.tollgate.reply(job)).state, 'succeeded');
  await line.tollgate.slotsAreFree();
});

await t.test('a master that is killed and started again costs no job an attempt', async (t) => {
  const line = await clusterLine(t, NODES);
  const { tollgate } = line;
  const masterOf = (node: string) =>
    cluster.masterOf(cellBase(tollgate.servers.keyPrefix, cellOf(node, CELLS)));
  const killed = await masterOf('n1');
  const away = new Set<string>();
  for (const node of NODES) if ((await masterOf(node)) === killed) away.add(node);
  t.ok(away.size < NODES.length);
  await until(async () => (await tollgate.fleet.state()) === 'ready', 'all cells to be ready');
  const running = await sent(line, NODES.length);
  const nodeOf = new Map<string, string>();
  for (const job of running) nodeOf.set(job, (await begun(line, job)).node);
  const there = running.filter((job) => away.has(nodeOf.get(job) ?? ''));
  const here = running.filter((job) => !there.includes(job));

  await cluster.server(killed).stop('kill');
  await until(async () => (await tollgate.fleet.state()) === 'partial', 'the loss to be noticed');
  const [settled = '', ...held] = there;
  await finished(line, settled);
  t.equal((await tollgate.reply(settled)).state, 'succeeded', 'a result settles without the cell');
  const next = await sent(line, here.length);
  for (const job of here) await finished(line, job);
  for (const job of next) t.notOk(away.has((await begun(line, job)).node), 'the others take new jobs');
  const killedMs = performance.now();
  await until(() => performance.now() - killedMs > 2 * LOST_AFTER_MS, 'twice the limit of silence');

  await cluster.server(killed).start();
  const [late = ''] = await sent(line, 1);
  t.equal((await begun(line, late)).node, nodeOf.get(settled), 'the one slot that is free');
  for (const job of [...held, ...next, late]) await finished(line, job);
  for (const job of [...running, ...next, late])
    t.match(await tollgate.reply(job), { state: 'succeeded', charged_micro: 11 });
  await tollgate.slotsAreFree();
  t.same(
    await tollgate.books.sql('select max(attempt)::integer as attempts from jobs.jobs'),
    [{ attempts: 1 }],
    'nobody was given up',
  );
});
