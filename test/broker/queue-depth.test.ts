import t from 'tap';
import { queueDepth } from '../../src/broker/queue-depth.ts';
import { StoreError } from '../../src/errors.ts';
import { until } from '../support/until.ts';
import { brokerRoom } from './room.ts';

const CONNECT_TIMEOUT_MS = 5_000;

await t.test('the messages that wait in a queue are counted, and nothing is left open', async (t) => {
  const room = await brokerRoom(t);
  const broker = { url: room.servers.amqpUrl, connectTimeoutMs: CONNECT_TIMEOUT_MS };
  await room.admin.assertQueue('waiting', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  t.equal(await queueDepth(broker, 'waiting'), 0);
  for (const text of ['a', 'b', 'c'])
    room.admin.sendToQueue('waiting', Buffer.from(text), { persistent: true });
  await until(async () => (await queueDepth(broker, 'waiting')) === 3, 'three messages to wait');
  await t.rejects(queueDepth(broker, 'no such queue'), {
    code: 'TG_STORE_REJECTED',
    message: /no such queue/,
  });
});

await t.test('a broker that is away is a store that is unavailable', async (t) => {
  const away = { url: 'amqp://guest:guest@127.0.0.1:1/', connectTimeoutMs: CONNECT_TIMEOUT_MS };
  await t.rejects(queueDepth(away, 'waiting'), StoreError);
});

await t.test('many queues are counted at once, without those that do not exist', async (t) => {
  const room = await brokerRoom(t);
  const broker = await room.open();
  await broker.topology.declareCore();
  for (const text of ['a', 'b']) room.admin.sendToQueue('dead', Buffer.from(text), { persistent: true });
  const queues = ['results', 'no such queue', 'dead', 'nor this one'];
  const counted = await until(async () => {
    const depths = await broker.topology.depths(queues);
    return depths.get('dead') === 2 ? depths : null;
  }, 'two messages to wait');
  t.same(
    [...counted],
    [
      ['results', 0],
      ['dead', 2],
    ],
  );
  t.ok(broker.isUp, 'and a question about none of them harms nobody');
  await broker.stop();
  await t.rejects(broker.topology.depths(['dead']), StoreError);
});
