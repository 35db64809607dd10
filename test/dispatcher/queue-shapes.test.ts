import { type Channel, connect } from 'amqplib';
import t from 'tap';
import { jobQueue, nodeQueue } from '../../src/contracts/names.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** Queues that are not as a coordinator would make them stand in nobody's way, nor do pools beyond its bound. */

/** Intakes of the daemon. */
async function intakesOf({ daemon }: World): Promise<number> {
  const text = await (await fetch(`${daemon?.httpUrl}/metrics`)).text();
  const counts = text.matchAll(/^tollgate_pools\{.*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** What an operator who does as he likes does with queues, on a channel for each call: a missing queue closes it. */
async function stranger(tollgate: World) {
  const model = await connect(tollgate.servers.amqpUrl);
  tollgate.onClose(() => model.close());
  return async <T>(call: (channel: Channel) => Promise<T>): Promise<T> => {
    const channel = await model.createChannel();
    channel.on('error', () => {});
    const answer = await call(channel);
    await channel.close();
    return answer;
  };
}

/** The queue's consumers and ready messages; null while there is no such queue. */
function countsOf(operate: Awaited<ReturnType<typeof stranger>>, queue: string) {
  return operate((channel) => channel.checkQueue(queue)).catch(() => null);
}

/** Adds model `other`, and the one worker that serves it. */
async function addOther(tollgate: World) {
  await tollgate.addModel('other');
  await tollgate.addNode('n2', ['other']);
  return tollgate.startHandWorker('n2', 2, ['other']);
}

await t.test(
  'a pool whose queue exists in another shape stops no other, and opens when it is gone',
  async (t) => {
    const tollgate = await world(t);
    const operate = await stranger(tollgate);
    const queue = jobQueue('other', 'interactive');
    await operate((channel) => channel.assertQueue(queue, { durable: true }));
    const worker = await addOther(tollgate);
    await tollgate.addModel('third');
    await until(async () => (await intakesOf(tollgate)) === 2, 'the pool behind the one that is refused');
    t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
    await tollgate.stopDaemon();
    await tollgate.startDaemon();
    t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'after a restart, too');
    await operate((channel) => channel.deleteQueue(queue));
    await until(async () => (await intakesOf(tollgate)) === 3, 'all pools');
    const job = tollgate.job({ model: 'other' });
    await tollgate.send(job);
    await worker.finish(await worker.dispatched(job.id));
    t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  },
);

await t.test('a coordinator that could consume no pool does not start', async (t) => {
  const tollgate = await world(t, { isDaemonStarted: false, workers: 0 });
  const operate = await stranger(tollgate);
  await operate((channel) => channel.assertQueue(jobQueue('small', 'batch'), { durable: true }));
  await t.rejects(tollgate.startDaemon(), { code: 'TG_STORE_REJECTED', message: /declaring pool small/ });
});

await t.test('a queue of a pool that is deleted is made again', async (t) => {
  const tollgate = await world(t);
  const operate = await stranger(tollgate);
  const queue = jobQueue('small', 'interactive');
  for (let round = 0; round < 2; round++) {
    t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
    await operate((channel) => channel.deleteQueue(queue));
    const isConsumed = async () => (await countsOf(operate, queue))?.consumerCount === 1;
    await until(isConsumed, 'the queue to be consumed again');
  }
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
});

await t.test('queues that were made under other bounds are used as they are', async (t) => {
  const tollgate = await world(t);
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
  await tollgate.stopDaemon();
  await tollgate.startDaemon({ 'broker.nodeQueueLengthMax': '16', 'broker.poolQueueBytesMax': '1048576' });
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'by a coordinator with others');
  const operate = await stranger(tollgate);
  await operate((channel) => channel.deleteQueue(nodeQueue('n1')));
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'in a new queue');
});

await t.test('jobs of pools beyond the bound wait in their queue until it is raised', async (t) => {
  const tollgate = await world(t, { settings: { 'line.intakesMax': 1 } });
  const operate = await stranger(tollgate);
  const worker = await addOther(tollgate);
  const queue = jobQueue('other', 'interactive');
  // The last of its queues: then the first has its bindings.
  await until(() => countsOf(operate, jobQueue('other', 'batch')), 'the queues of the second pool');
  const job = tollgate.job({ model: 'other' });
  await tollgate.send(job);
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
  t.match(await countsOf(operate, queue), { messageCount: 1, consumerCount: 0 });
  t.equal(await intakesOf(tollgate), 1);
  await tollgate.stopDaemon();
  await tollgate.startDaemon({ 'line.intakesMax': '2' });
  await worker.finish(await worker.dispatched(job.id));
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
});
