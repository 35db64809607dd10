import t from 'tap';
import type { Consumption, Delivery } from '../../src/broker/types.ts';
import { jobQueue } from '../../src/contracts/names.ts';
import { until } from '../support/until.ts';
import { brokerRoom, message, numbered, numbersOf } from './room.ts';

const room = await brokerRoom(t);
const depth = async (queue: string) => (await room.admin.checkQueue(queue)).messageCount;
const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

await t.test('a delivery tells who sent what, and what was left out is null', async (t) => {
  const broker = await room.open();
  const named = await room.open({ userId: room.user });
  await room.admin.assertQueue('facts');
  await broker.publisher.publish(message('facts', { messageId: 'm-1' }));
  const full = {
    messageId: 'm-2',
    correlationId: 'c-2',
    replyTo: 'reply.x',
    expirationMs: 60_000,
    headers: { traceparent: '00-1-2-01' },
  };
  await named.publisher.publish(message('facts', full));
  const channel = await broker.openChannel(() => t.fail('the channel stays'));
  const seen: Delivery[] = [];
  await channel.consume('facts', 10, (delivery) => seen.push(delivery));
  await until(() => seen.length === 2, 'both messages');
  const common = { queue: 'facts', exchange: '', routingKey: 'facts', redelivered: false, isLive: true };
  const dead = { deathReason: null, deathRoutingKey: null };
  const bare = {
    userId: null,
    correlationId: null,
    replyTo: null,
    expiration: null,
    traceparent: null,
  };
  t.match(seen[0], { ...common, ...dead, ...bare, messageId: 'm-1' });
  t.match(seen[1], {
    ...common,
    ...dead,
    userId: room.user,
    messageId: 'm-2',
    correlationId: 'c-2',
    replyTo: 'reply.x',
    expiration: '60000',
    traceparent: '00-1-2-01',
  });
  await channel.close();
});

await t.test('headers of any type a client may send do no harm', async (t) => {
  const broker = await room.open();
  await room.admin.assertQueue('odd');
  const headers = { traceparent: 7, 'x-death': ['no table'], 'x-first-death-reason': { a: 1 } };
  room.admin.sendToQueue('odd', Buffer.alloc(0), { headers });
  const channel = await broker.openChannel(() => {});
  const seen: Delivery[] = [];
  await channel.consume('odd', 10, (delivery) => seen.push(delivery));
  await until(() => seen.length === 1, 'the message');
  t.match(seen[0], { traceparent: null, deathReason: null, deathRoutingKey: null, messageId: null });
  t.equal(seen[0]?.body.length, 0);
});

await t.test('prefetch bounds what is unanswered, per consumer of one channel', async (t) => {
  const broker = await room.open();
  await Promise.all(['few', 'many'].map((queue) => room.admin.assertQueue(queue)));
  await broker.publisher.publishBatch([...numbered('few', 20), ...numbered('many', 20)]);
  const channel = await broker.openChannel(() => {});
  const seen: Record<string, Delivery[]> = { few: [], many: [] };
  const keep = (delivery: Delivery) => seen[delivery.queue]?.push(delivery);
  await Promise.all([channel.consume('few', 3, keep), channel.consume('many', 15, keep)]);
  await until(() => seen['few']?.length === 3 && seen['many']?.length === 15, 'both prefetches');
  seen['few']?.[0]?.acknowledge();
  await until(() => seen['few']?.length === 4, 'one more for one acknowledged');
  t.equal(seen['many']?.length, 15);
});

await t.test('what is finished behind a held delivery is acknowledged all the same', async (t) => {
  const broker = await room.open();
  await room.admin.assertQueue('held', { arguments: { 'x-queue-type': 'quorum' } });
  await broker.publisher.publishBatch(numbered('held', 10));
  const channel = await broker.openChannel(() => t.fail('no answer may close the channel'));
  const seen: Delivery[] = [];
  await channel.consume('held', 10, (delivery) => seen.push(delivery));
  await until(() => seen.length === 10, 'the deliveries');
  for (const delivery of seen.slice(1, 9)) delivery.acknowledge();
  for (const delivery of seen) if (delivery !== seen[0]) delivery.acknowledge();
  await channel.close();
  const again = await broker.openChannel(() => {});
  const left: Delivery[] = [];
  await again.consume('held', 10, (delivery) => left.push(delivery));
  await until(() => left.length > 0, 'the held one to come again');
  t.strictSame(numbersOf(left), [0]);
  t.equal(left[0]?.redelivered, true);
  left[0]?.acknowledge();
  await again.close();
  t.equal(await depth('held'), 0);
});

await t.test('a cancelled consumer hands back what it holds, in the order of the queue', async (t) => {
  const broker = await room.open();
  await broker.topology.declareCore();
  await broker.topology.declarePool('order');
  const queue = jobQueue('order', 'interactive');
  await broker.publisher.publishBatch(numbered(queue, 30));
  const channel = await broker.openChannel(() => {});
  const seen: Delivery[] = [];
  const first = await channel.consume(queue, 12, (delivery) => seen.push(delivery));
  t.match(first, { queue, prefetch: 12 });
  await until(() => seen.length === 12, 'the prefetch');
  await first.cancel();
  await first.cancel();
  // A finished one in the middle splits what goes back; the last come before the first.
  seen[5]?.acknowledge();
  for (const delivery of seen.toReversed()) delivery.requeue();
  const again: Delivery[] = [];
  await channel.consume(queue, 50, (delivery) => again.push(delivery));
  await until(() => again.length === 29, 'all that are left');
  t.strictSame(numbersOf(again), [...range(0, 5), ...range(6, 24)]);
  t.strictSame(
    again.map(({ redelivered }) => redelivered),
    range(0, 29).map((i) => i < 11),
  );
  await channel.close();
});

await t.test('a deleted queue ends its consumer and nothing else', async (t) => {
  const broker = await room.open();
  await Promise.all(['doomed', 'stays'].map((queue) => room.admin.assertQueue(queue)));
  const channel = await broker.openChannel(() => t.fail('the channel stays'));
  const seen: Delivery[] = [];
  let cancelled = 0;
  const doomed: Consumption = await channel.consume(
    'doomed',
    1,
    () => {},
    () => (cancelled += 1),
  );
  await channel.consume('stays', 1, (delivery) => seen.push(delivery));
  await room.admin.deleteQueue('doomed');
  await until(() => cancelled === 1, 'the cancellation');
  await broker.publisher.publish(message('stays'));
  await until(() => seen.length === 1, 'a message for the other consumer');
  await doomed.cancel();
  t.equal(cancelled, 1);
});

await t.test('a queue that is not there is refused, and takes the channel with it', async (t) => {
  const broker = await room.open();
  let gone = 0;
  const channel = await broker.openChannel(() => (gone += 1));
  await t.rejects(
    channel.consume('missing', 1, () => {}),
    { code: 'TG_STORE_REJECTED' },
  );
  t.equal(gone, 1);
  await t.rejects(
    channel.consume('missing', 1, () => {}),
    { code: 'TG_STORE_UNAVAILABLE' },
  );
  t.ok(broker.isUp);
});

await t.test(
  'after a lost connection an old delivery is dead and the broker delivers it again',
  async (t) => {
    const proxy = await room.proxy();
    const broker = await room.open({ url: room.urlOf(room.user, proxy.port) });
    await room.admin.assertQueue('stale');
    await broker.publisher.publishBatch(numbered('stale', 2));
    let gone = 0;
    const channel = await broker.openChannel(() => (gone += 1));
    const old: Delivery[] = [];
    const consumption = await channel.consume('stale', 10, (delivery) => old.push(delivery));
    await until(() => old.length === 2, 'the deliveries');
    old[0]?.acknowledge();
    proxy.cut();
    await until(() => gone === 1, 'the loss to be noticed');
    t.strictSame(
      old.map(({ isLive }) => isLive),
      [false, false],
    );
    old[1]?.acknowledge();
    old[1]?.requeue();
    await consumption.cancel();
    await channel.close();
    t.equal(gone, 1);
    await t.rejects(
      broker.openChannel(() => {}),
      { code: 'TG_STORE_UNAVAILABLE' },
      'while the broker is away',
    );
    proxy.heal();
    await until(() => broker.isUp, 'the broker to be back');
    const fresh = await broker.openChannel(() => t.fail('a stale answer must not close the new channel'));
    const again: Delivery[] = [];
    await fresh.consume('stale', 10, (delivery) => again.push(delivery));
    await until(() => again.length > 0, 'the redelivery');
    old[1]?.acknowledge();
    t.ok(numbersOf(again).includes(1));
    t.ok(again.every(({ redelivered, isLive }) => redelivered && isLive));
    for (const delivery of again) delivery.acknowledge();
    await fresh.close();
    t.equal(await depth('stale'), 0);
  },
);

await t.test('stopping sends the answers that were given and returns the rest', async (t) => {
  const broker = await room.open();
  await room.admin.assertQueue('stop');
  await broker.publisher.publishBatch(numbered('stop', 5));
  const channel = await broker.openChannel(() => t.fail('stopping is no loss'));
  const seen: Delivery[] = [];
  await channel.consume('stop', 5, (delivery) => seen.push(delivery));
  await until(() => seen.length === 5, 'the deliveries');
  for (const delivery of seen.slice(0, 4)) delivery.acknowledge();
  await broker.stop();
  await until(async () => (await depth('stop')) === 1, 'the unanswered one to be back');
});

t.end();
