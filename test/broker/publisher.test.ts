import t from 'tap';
import { until } from '../support/until.ts';
import { brokerRoom, MemoryLog, message, numbered } from './room.ts';

const room = await brokerRoom(t);
await room.admin.assertQueue('here');
await room.admin.assertQueue('full', { arguments: { 'x-max-length': 0, 'x-overflow': 'reject-publish' } });
const depth = async (queue: string) => (await room.admin.checkQueue(queue)).messageCount;
const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);

await t.test('each message of a batch gets its own outcome, in order', async (t) => {
  const broker = await room.open();
  const outcomes = await broker.publisher.publishBatch([
    message('here'),
    message('nowhere'),
    message('full'),
    message('nowhere', { mandatory: false }),
    message('here', { messageId: 'same' }),
    message('nowhere', { messageId: 'same' }),
    message('here', { messageId: 'same' }),
  ]);
  t.strictSame(outcomes, [
    'confirmed',
    'returned',
    'nacked',
    'confirmed',
    'confirmed',
    'returned',
    'confirmed',
  ]);
  t.strictSame(await broker.publisher.publishBatch([]), []);
});

await t.test('a thousand messages with returns and nacks among them keep their outcomes apart', async (t) => {
  const broker = await room.open({ unconfirmedMax: 100 });
  const expected = { here: 'confirmed', nowhere: 'returned', full: 'nacked' } as const;
  const queues = Array.from({ length: 1_000 }, (_, i) => {
    if (i % 7 === 0) return 'nowhere';
    return i % 11 === 0 ? 'full' : 'here';
  });
  const outcomes = await broker.publisher.publishBatch(queues.map((queue) => message(queue)));
  t.strictSame(
    outcomes,
    queues.map((queue) => expected[queue]),
  );
  t.equal(broker.publisher.unconfirmed, 0);
});

await t.test('every property arrives as it was given', async (t) => {
  const broker = await room.open({ userId: room.user });
  await room.admin.assertQueue('properties');
  const body = Buffer.alloc(300_000, 'x');
  const sent = message('properties', {
    body,
    messageId: 'm-1',
    correlationId: 'c-1',
    replyTo: 'reply.somebody',
    expirationMs: 60_000,
    headers: { traceparent: '00-ab-cd-01', attempt: 2 },
  });
  t.equal(await broker.publisher.publish(sent), 'confirmed');
  t.equal(await broker.publisher.publish(message('properties', { transient: true })), 'confirmed');
  const first = await room.admin.get('properties', { noAck: true });
  const second = await room.admin.get('properties', { noAck: true });
  if (first === false || second === false) throw new Error('both are in the queue');
  t.ok(first.content.equals(body), 'a body of several frames is whole');
  t.match(first.properties, {
    messageId: 'm-1',
    correlationId: 'c-1',
    replyTo: 'reply.somebody',
    expiration: '60000',
    userId: room.user,
    deliveryMode: 2,
    headers: { traceparent: '00-ab-cd-01', attempt: 2 },
  });
  t.equal(second.properties.deliveryMode, 1);
});

await t.test('publishing waits while the window is full', async (t) => {
  const proxy = await room.proxy();
  const broker = await room.open({ url: room.urlOf(room.user, proxy.port), unconfirmedMax: 16 });
  await room.admin.assertQueue('window');
  proxy.holdAnswers();
  const batches = [0, 1, 2].map(() => broker.publisher.publishBatch(numbered('window', 10)));
  await until(async () => (await depth('window')) === 16, 'the window to be in the queue');
  t.equal(broker.publisher.unconfirmed, 16);
  proxy.heal();
  t.strictSame((await Promise.all(batches)).flat(), times(30, 'confirmed'));
  t.equal(await depth('window'), 30);
});

await t.test('what was not confirmed when the connection breaks is unknown, at once', async (t) => {
  const proxy = await room.proxy();
  const broker = await room.open({ url: room.urlOf(room.user, proxy.port), unconfirmedMax: 5 });
  await room.admin.assertQueue('cut');
  proxy.holdAnswers();
  const outcomes = broker.publisher.publishBatch(numbered('cut', 8));
  await until(async () => (await depth('cut')) === 5, 'the broker to have what fits the window');
  proxy.cut();
  t.strictSame(await outcomes, times(8, 'unknown'));
  t.notOk(broker.isUp);
  t.equal(await broker.publisher.publish(message('cut')), 'unknown', 'while the broker is away');
  t.equal(await depth('cut'), 5, 'those that had left are there all the same');
  proxy.heal();
  await until(() => broker.isUp, 'the broker to be back');
  t.equal(await broker.publisher.publish(message('cut')), 'confirmed');
});

await t.test('a confirm that is late is unknown, and its place in the window stays taken', async (t) => {
  const proxy = await room.proxy();
  const url = room.urlOf(room.user, proxy.port);
  const broker = await room.open({ url, unconfirmedMax: 4, confirmMsMax: 500 });
  proxy.holdAnswers();
  const sent = broker.publisher.publishBatch(numbered('here', 4));
  const waiting = broker.publisher.publishBatch(numbered('here', 2));
  t.strictSame(await sent, times(4, 'unknown'));
  t.strictSame(await waiting, times(2, 'unknown'), 'also what found the window full');
  t.equal(broker.publisher.unconfirmed, 4);
  proxy.heal();
  await until(() => broker.publisher.unconfirmed === 0, 'the late confirms');
  t.equal(await broker.publisher.publish(message('here')), 'confirmed');
});

await t.test('nothing is sent while the broker has a resource alarm', async (t) => {
  // A real alarm is for the whole server; what it tells one connection is these two frames.
  const blocked = Buffer.from([1, 0, 0, 0, 0, 0, 8, 0, 10, 0, 60, 3, 0x6c, 0x6f, 0x77, 206]);
  const unblocked = Buffer.from([1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 61, 206]);
  const proxy = await room.proxy();
  const broker = await room.open({ url: room.urlOf(room.user, proxy.port) });
  await room.admin.assertQueue('alarm');
  const changes: boolean[] = [];
  broker.onChange((isUp) => changes.push(isUp));
  proxy.inject(blocked);
  await until(() => !broker.isUp, 'the alarm to arrive');
  t.equal(await broker.publisher.publish(message('alarm')), 'unknown');
  proxy.inject(unblocked);
  await until(() => broker.isUp, 'the end of the alarm');
  t.equal(await broker.publisher.publish(message('alarm')), 'confirmed');
  t.equal(await depth('alarm'), 1);
  t.strictSame(changes, [false, true]);
  proxy.inject(blocked);
  await until(() => !broker.isUp, 'the alarm to arrive');
  proxy.cut();
  await until(() => proxy.connections === 0, 'the connection to be lost');
  proxy.heal();
  await until(() => broker.isUp, 'a new connection, which no alarm holds');
});

await t.test(
  'a message that the broker refuses costs a channel, and the next one gets through',
  async (t) => {
    const log = new MemoryLog();
    const broker = await room.open({ log });
    t.equal(await broker.publisher.publish(message('any', { exchange: 'no-such-exchange' })), 'unknown');
    await until(() => broker.isUp, 'the next channel');
    t.equal(await broker.publisher.publish(message('here')), 'confirmed');
    t.ok(log.lines.some(({ text }) => text === 'the publishing channel was closed'));
  },
);

await t.test('a message that AMQP cannot carry is nacked and its neighbours go out', async (t) => {
  const broker = await room.open();
  const outcomes = await broker.publisher.publishBatch([
    message('here'),
    message('here', { correlationId: '\u{fffd}'.repeat(200) }),
    message('here'),
  ]);
  t.strictSame(outcomes, ['confirmed', 'nacked', 'confirmed']);
});

await t.test('a foreign user_id is refused by the broker', async (t) => {
  const stranger = await room.open({ userId: 'somebody-else' });
  await room.admin.assertQueue('foreign');
  t.equal(await stranger.publisher.publish(message('foreign')), 'unknown');
  t.equal(await depth('foreign'), 0);
});

await t.test('stopping answers what is still open', async (t) => {
  const proxy = await room.proxy();
  const broker = await room.open({ url: room.urlOf(room.user, proxy.port), connectTimeoutMs: 500 });
  proxy.holdAnswers();
  const outcomes = broker.publisher.publishBatch(numbered('here', 3));
  await broker.stop();
  t.strictSame(await outcomes, times(3, 'unknown'));
  t.notOk(broker.isUp);
  await broker.stop();
});

t.end();
