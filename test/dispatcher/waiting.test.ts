import t from 'tap';
import type { JobMessage } from '../../src/contracts/job.ts';
import { jobQueue, QUEUE } from '../../src/contracts/names.ts';
import type { HandWorker } from '../support/hand-worker.ts';
import { proxiedWorld } from '../support/proxied-world.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** Jobs for which there is no slot: they wait, in order, where they are durable, and run as soon as there is one. */

const SMALL = jobQueue('small', 'interactive');
const IDLE = jobQueue('idle', 'interactive');

/** A full pool gives its jobs back after this. */
const HASTY = { 'line.pauseAfterMs': 200, 'line.retryPausedMs': 200 };

/** Sends jobs one after the other, so that their order is known. */
async function sendInOrder(
  tollgate: World,
  count: number,
  change: Partial<JobMessage> = {},
): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    const job = tollgate.job(change);
    await tollgate.send(job);
    ids.push(job.id);
  }
  return ids;
}

/** Answers what is dispatched, in the order in which it comes, until `ids` have all ended; returns that order. */
async function runAll(tollgate: World, worker: HandWorker, ids: readonly string[]): Promise<string[]> {
  const order: string[] = [];
  await until(
    async () => {
      for (const held of worker.held.splice(0)) {
        order.push(held.message.job);
        await worker.finish(held);
      }
      return ids.every((id) => tollgate.client.repliesTo(id).length > 0);
    },
    'all jobs to end',
    { timeoutMs: 30_000 },
  );
  return order;
}

async function pausedPools(tollgate: World): Promise<number> {
  return tollgate.metric('tollgate_pools', { state: 'paused' });
}

await t.test('a full pool hands its jobs back, and they all run', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: HASTY });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 2);
  const ids = await sendInOrder(tollgate, 12);
  await until(() => worker.held.length === 2, 'both slots to be taken');
  await until(
    async () => (await tollgate.queue(SMALL)).messages === 10,
    'the others to be back in their queue',
  );
  t.equal(await pausedPools(tollgate), 1);
  t.equal((await tollgate.queue(SMALL)).consumers, 0, 'nobody consumes it');
  t.equal(await tollgate.metric('tollgate_held_bytes'), 0);
  t.equal((await tollgate.books.states())['locked'], 2, 'nothing is locked that has no slot');
  t.same((await runAll(tollgate, worker, ids)).toSorted(), ids.toSorted());
  await tollgate.slotsAreFree();
});

await t.test(
  'a short wait is spent in our hands: a held job goes at once when a slot comes free',
  async (t) => {
    const tollgate = await world(t, { workers: 0, settings: { 'line.pauseAfterMs': 30_000 } });
    await tollgate.addNode('n1');
    const worker = await tollgate.startHandWorker('n1', 1);
    const ids = await sendInOrder(tollgate, 6);
    await until(
      async () => (await tollgate.metric('tollgate_pools', { state: 'full' })) === 1,
      'the pool to be full',
    );
    t.equal((await tollgate.queue(SMALL)).messages, 0, 'all are held, none waits in the queue');
    t.same(await runAll(tollgate, worker, ids), ids);
  },
);

await t.test('a worker that comes wakes a paused pool', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: HASTY });
  await tollgate.addNode('n1');
  await tollgate.addNode('n2');
  const first = await tollgate.startHandWorker('n1', 1);
  const ids = await sendInOrder(tollgate, 4);
  await until(async () => (await tollgate.queue(SMALL)).messages === 3, 'three jobs to wait in their queue');
  const second = await tollgate.startHandWorker('n2', 3);
  await until(() => second.held.length === 3, 'the second worker to have them');
  t.same(
    second.held.map(({ message }) => message.job),
    ids.slice(1),
  );
  for (const worker of [first, second]) for (const held of worker.held.splice(0)) await worker.finish(held);
  for (const id of ids) t.equal((await tollgate.reply(id)).state, 'succeeded');
});

await t.test('wait_ms is kept while a job is held and while it waits in its queue', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: { 'line.pauseAfterMs': 1_500 } });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 1);
  const [blocker = ''] = await sendInOrder(tollgate, 1);
  await worker.dispatched(blocker);
  const limits = (wait_ms: number) => ({ ...tollgate.job().limits, wait_ms });
  const startMs = performance.now();
  const waits = [600, 3_000];
  const jobs = waits.map((wait) => tollgate.job({ limits: limits(wait) }));
  for (const job of jobs) await tollgate.send(job);
  for (const [i, job] of jobs.entries()) {
    const wait = waits[i] ?? 0;
    const reply = await tollgate.reply(job.id);
    const tookMs = performance.now() - startMs;
    t.match(reply, { state: 'expired', error: { code: 'TG_JOB_EXPIRED', retryable: true } });
    t.ok(tookMs >= wait && tookMs < wait + 8_000, `${wait} ms of wait ended after ${Math.round(tookMs)}`);
    t.match(await tollgate.books.job(job.id), { state: 'expired', code: 'TG_JOB_EXPIRED' });
    t.same(await tollgate.books.transfersOf(job.id), []);
  }
  await runAll(tollgate, worker, [blocker]);
});

await t.test('batch jobs keep a tenth beside interactive ones, and no more', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: { 'line.pauseAfterMs': 30_000 } });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 20);
  const blockers = await sendInOrder(tollgate, 20);
  await until(() => worker.held.length === 20, 'all slots to be taken');
  const batch = await sendInOrder(tollgate, 15, { priority: 'batch' });
  const interactive = await sendInOrder(tollgate, 15);
  await until(
    async () => (await tollgate.metric('tollgate_jobs_received_total')) >= 50,
    'all of them to be held',
  );
  await until(async () => (await tollgate.metric('tollgate_jobs_waiting')) === 0, 'the line to be empty');
  const order = (await runAll(tollgate, worker, [...blockers, ...batch, ...interactive])).slice(20);
  const isBatch = order.map((id) => batch.includes(id));
  const early = isBatch.slice(0, 15).filter(Boolean).length;
  t.ok(early >= 1, 'batch is not starved');
  t.ok(early <= 4, `interactive goes first: ${early} of the first 15 are batch`);
  t.same(
    order.filter((id) => interactive.includes(id)),
    interactive,
    'each keeps its order',
  );
});

await t.test('a model without a worker holds up no other', async (t) => {
  const tollgate = await world(t);
  await tollgate.addModel('idle');
  await until(async () => (await tollgate.queue(IDLE)).messages === 0, 'its queue to be declared');
  const waiting = await sendInOrder(tollgate, 40, { model: 'idle' });
  const ids = await sendInOrder(tollgate, 40);
  for (const id of ids) t.equal((await tollgate.reply(id)).state, 'succeeded');
  t.equal((await tollgate.queue(IDLE)).messages, 40, 'they wait in their queue');
  t.equal((await tollgate.queue(IDLE)).consumers, 0);
  t.same(
    waiting.flatMap((id) => tollgate.client.repliesTo(id)),
    [],
  );
});

await t.test('bodies beyond the bound on held bytes go back to the broker', async (t) => {
  const tollgate = await world(t, {
    workers: 0,
    settings: { 'line.heldBytesMax': 1_048_576, 'line.pauseAfterMs': 30_000 },
  });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 1);
  const content = 'x'.repeat(300_000);
  const ids = await sendInOrder(tollgate, 6, { input: { messages: [{ role: 'user', content }] } });
  await until(async () => (await pausedPools(tollgate)) === 1, 'the pool to pause');
  await until(async () => (await tollgate.metric('tollgate_held_bytes')) === 0, 'the bytes to be given back');
  t.same(await runAll(tollgate, worker, ids), ids);
  await until(
    async () => (await tollgate.metric('tollgate_held_bytes')) === 0,
    'no byte to be left in the count',
  );
});

await t.test('held jobs whose channel goes come again and run', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, {
    workers: 0,
    settings: { 'line.pauseAfterMs': 30_000 },
  });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 2);
  const ids = await sendInOrder(tollgate, 10);
  await until(() => worker.held.length === 2, 'both slots to be taken');
  for (let cut = 1; cut <= 3; cut++) {
    links.amqp.cutOnly('tollgate consume');
    // One more where the last dispatch was not acknowledged yet.
    await until(
      async () => (await tollgate.queue(SMALL)).messages >= 9 - cut,
      `the held ones to be back after cut ${cut}`,
    );
    worker.dropRepeats();
    const [held] = worker.held;
    if (held) await worker.finish(held);
    await until(
      async () => (await tollgate.queue(SMALL)).messages === 0,
      `them to be held again after cut ${cut}`,
    );
    await until(() => worker.held.length >= 2, 'both slots to be taken again');
  }
  await runAll(tollgate, worker, ids);
  for (const id of ids) t.same(await tollgate.books.transfersOf(id), ['lock', 'capture']);
  await tollgate.slotsAreFree();
  await until(
    async () => (await tollgate.metric('tollgate_held_bytes')) === 0,
    'no byte to be left in the count',
  );
});

await t.test(
  'a job that no queue takes is answered, also when its time runs out before anybody looks',
  async (t) => {
    const tollgate = await world(t);
    await tollgate.stopDaemon();
    const job = tollgate.job({ model: 'nothing', limits: { ...tollgate.job().limits, wait_ms: 300 } });
    await tollgate.send(job);
    await tollgate.queueIsEmpty(QUEUE.unroutable);
    await tollgate.startDaemon();
    t.match(await tollgate.reply(job.id), {
      state: 'refused',
      error: { code: 'TG_MODEL_UNKNOWN', field: 'model' },
    });
  },
);
