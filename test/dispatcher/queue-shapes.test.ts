import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'amqplib';
import t from 'tap';
import { jobQueue, nodeQueue } from '../../src/contracts/names.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** Queues that are not as a coordinator would make them stand in nobody's way, nor do pools beyond its bound. */

/** How many pools the daemon has declared. */
async function poolsOf({ daemon }: World): Promise<number> {
  const text = await (await fetch(`${daemon?.httpUrl}/metrics`)).text();
  const counts = text.matchAll(/^tollgate_pools\{.*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

await t.test('a pool whose queue exists in another shape is opened as soon as that is gone', async (t) => {
  const tollgate = await world(t);
  const stranger = await connect(tollgate.servers.amqpUrl);
  tollgate.onClose(() => stranger.close());
  const channel = await stranger.createChannel();
  const queue = jobQueue('other', 'interactive');
  await channel.assertQueue(queue, { durable: true });
  await tollgate.addModel('other');
  await tollgate.addNode('n2', ['other']);
  const worker = await tollgate.startHandWorker('n2', 2, ['other']);
  await tollgate.addModel('third');
  await until(async () => (await poolsOf(tollgate)) === 2, 'the pool behind the one that cannot be declared');
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
  await channel.deleteQueue(queue);
  await until(async () => (await poolsOf(tollgate)) === 3, 'all pools');
  const job = tollgate.job({ model: 'other' });
  await tollgate.send(job);
  await worker.finish(await worker.dispatched(job.id));
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
});

await t.test('a node whose queue has other bounds than it would have today is served', async (t) => {
  const tollgate = await world(t);
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
  await tollgate.stopDaemon();
  await tollgate.startDaemon({ 'broker.nodeQueueLengthMax': '16' });
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'by a coordinator with another bound');
  const stranger = await connect(tollgate.servers.amqpUrl);
  tollgate.onClose(() => stranger.close());
  await (await stranger.createChannel()).deleteQueue(nodeQueue('n1'));
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'after it was deleted, in a new queue');
});

await t.test('jobs of pools beyond the bound wait until it is raised', async (t) => {
  const tollgate = await world(t, { settings: { 'line.intakesMax': 1 } });
  await tollgate.addModel('other');
  await tollgate.addNode('n2', ['other']);
  const worker = await tollgate.startHandWorker('n2', 2, ['other']);
  await tollgate.stopDaemon();
  await tollgate.startDaemon({ 'line.intakesMax': '2' });
  await until(async () => (await poolsOf(tollgate)) === 2, 'both pools');
  await tollgate.stopDaemon();
  await tollgate.startDaemon();
  const job = tollgate.job({ model: 'other' });
  await tollgate.send(job);
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
  await sleep(1_000);
  t.equal(await poolsOf(tollgate), 1);
  t.same(await tollgate.books.transfersOf(job.id), []);
  await tollgate.stopDaemon();
  await tollgate.startDaemon({ 'line.intakesMax': '2' });
  await worker.finish(await worker.dispatched(job.id));
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
});
