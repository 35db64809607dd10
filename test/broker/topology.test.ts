import t from 'tap';
import type { Delivery } from '../../src/broker/types.ts';
import { StoreError } from '../../src/errors.ts';
import { Topology } from '../../src/broker/topology.ts';
import { until } from '../support/until.ts';
import { bounds, brokerRoom, MemoryLog, message, numbered } from './room.ts';

const room = await brokerRoom(t);

interface Named {
  readonly name: string;
  readonly arguments: Record<string, unknown>;
}
interface Definitions {
  readonly exchanges: readonly (Named & { readonly type: string; readonly durable: boolean })[];
  readonly queues: readonly (Named & { readonly durable: boolean; readonly auto_delete: boolean })[];
  readonly bindings: readonly {
    readonly source: string;
    readonly destination: string;
    readonly routing_key: string;
  }[];
}

/** What is really there, as the broker exports it. */
async function definitions(): Promise<Definitions> {
  const { origin, username, password } = new URL(room.servers.amqpAdminUrl);
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const response = await fetch(`${origin}/api/definitions/${room.servers.vhost}`, {
    headers: { authorization },
  });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the broker's own documented form.
  return (await response.json()) as Definitions;
}

const byName = (list: readonly Named[]) =>
  Object.fromEntries(list.map((item) => [item.name, item.arguments]));

await t.test(
  'what is declared is exactly what the design asks for, and declaring again changes nothing',
  async (t) => {
    const broker = await room.open();
    for (let round = 0; round < 2; round++) {
      await broker.topology.declareCore();
      await Promise.all([broker.topology.declarePool('llama-3'), broker.topology.declarePool('llama-3')]);
      await broker.topology.declareNode('n-1');
      await broker.topology.declareFleet('c1');
      await broker.topology.declareReplyQueue('reply.p-a.1', 60_000);
      // Another coordinator knows nothing of the first.
      if (round === 0) await (await room.open()).topology.declarePool('llama-3');
    }
    const { exchanges, queues, bindings } = await definitions();
    t.strictSame(Object.fromEntries(exchanges.map(({ name, type }) => [name, type])), {
      jobs: 'direct',
      'jobs.unroutable': 'fanout',
      'jobs.expired': 'fanout',
      moved: 'direct',
      retry: 'direct',
      dispatch: 'direct',
      control: 'direct',
      results: 'direct',
      fleet: 'direct',
    });
    t.strictSame(byName(exchanges)['jobs'], { 'alternate-exchange': 'jobs.unroutable' });
    const bounded = {
      'x-queue-type': 'quorum',
      'x-overflow': 'reject-publish',
      'x-max-length-bytes': 10_000_000,
    };
    const waiting = {
      ...bounded,
      'x-delivery-limit': 1_000_000,
      'x-dead-letter-exchange': 'jobs.expired',
      'x-dead-letter-strategy': 'at-least-once',
    };
    const classic = { 'x-queue-type': 'classic', 'x-queue-version': 2 };
    t.strictSame(byName(queues), {
      'jobs.unroutable': waiting,
      'jobs.expired': bounded,
      'jobs.cancel': bounded,
      results: bounded,
      'fleet.c1': {
        ...classic,
        'x-message-ttl': 15_000,
        'x-max-length': 100_000,
        'x-overflow': 'drop-head',
        'x-expires': 60_000,
      },
      'traces.spool': { ...bounded, 'x-max-length-bytes': 1_000_000 },
      dead: { 'x-queue-type': 'quorum', 'x-overflow': 'drop-head', 'x-max-length-bytes': 100_000 },
      'jobs.llama-3.interactive': { ...waiting, 'x-message-ttl': 600_000 },
      'jobs.llama-3.batch': { ...waiting, 'x-message-ttl': 86_400_000 },
      'node.n-1': { ...classic, 'x-max-length': 1_000, 'x-overflow': 'reject-publish' },
      'node.n-1.control': {
        ...classic,
        'x-message-ttl': 60_000,
        'x-max-length': 100,
        'x-overflow': 'drop-head',
      },
      'reply.p-a.1': { ...classic, 'x-expires': 60_000 },
    });
    t.ok([...exchanges, ...queues].every(({ durable }) => durable));
    t.notOk(queues.some(({ auto_delete: isAutoDelete }) => isAutoDelete));
    t.strictSame(
      bindings
        .map(({ source, destination, routing_key: key }) => `${source} -${key}-> ${destination}`)
        .toSorted(),
      [
        'control -n-1-> node.n-1.control',
        'dispatch -n-1-> node.n-1',
        'fleet -bye-> fleet.c1',
        'fleet -drain-> fleet.c1',
        'fleet -heartbeat-> fleet.c1',
        'fleet -hello-> fleet.c1',
        'jobs -cancel-> jobs.cancel',
        'jobs -llama-3.batch-> jobs.llama-3.batch',
        'jobs -llama-3.interactive-> jobs.llama-3.interactive',
        'jobs.expired --> jobs.expired',
        'jobs.unroutable --> jobs.unroutable',
        'moved -llama-3.batch-> jobs.llama-3.batch',
        'moved -llama-3.interactive-> jobs.llama-3.interactive',
        'results -result-> results',
        'retry -llama-3.batch-> jobs.llama-3.batch',
        'retry -llama-3.interactive-> jobs.llama-3.interactive',
      ],
    );
  },
);

await t.test(
  'a queue that exists with other arguments is refused by name, and closes no channel of others',
  async (t) => {
    const broker = await room.open();
    await room.admin.assertQueue('node.other', { arguments: { 'x-max-length': 5 } });
    const channel = await broker.openChannel(() => t.fail('the channel stays'));
    await channel.consume('dead', 1, () => {});
    const refused = { code: 'TG_STORE_REJECTED', message: /declaring node other.*inequivalent arg/ };
    await t.rejects(broker.topology.declareNode('other'), refused);
    await t.rejects(broker.topology.declareNode('other'), refused);
    await broker.topology.declareNode('fine');
    await room.admin.deleteQueue('node.other');
    await broker.topology.declareNode('other');
    t.ok(broker.isUp);
  },
);

await t.test('a queue that only has another length is used as it is, and that is told', async (t) => {
  const old = await room.open({ bounds: { ...bounds, nodeQueueLengthMax: 3, poolQueueBytesMax: 5_000 } });
  await Promise.all([old.topology.declareNode('long'), old.topology.declarePool('long')]);
  await room.admin.unbindQueue('node.long', 'dispatch', 'long');
  const log = new MemoryLog();
  const broker = await room.open({ log });
  await Promise.all([broker.topology.declareNode('long'), broker.topology.declarePool('long')]);
  const told = log.lines.filter(({ level }) => level === 'warn').map(({ text }) => text);
  t.same(
    told,
    ['a queue keeps the length it was made with, and others may'],
    'three do, and it is said once',
  );
  const outcomes = await broker.publisher.publishBatch(
    numbered('long', 6).map((dispatch) => ({ ...dispatch, exchange: 'dispatch' })),
  );
  t.strictSame(
    outcomes.slice(0, 3),
    ['confirmed', 'confirmed', 'confirmed'],
    'what is behind it is declared, too',
  );
  t.equal(outcomes.at(-1), 'nacked', 'by the old length');
});

await t.test('a queue of a stranger is given no messages, and what is declared with it stands', async (t) => {
  const broker = await room.open();
  await room.admin.assertQueue('jobs.mixed.interactive', { durable: true });
  const refused = { code: 'TG_STORE_REJECTED', message: /declaring pool mixed/ };
  await t.rejects(broker.topology.declarePool('mixed'), refused);
  const publish = (key: string) => broker.publisher.publish(message(key, { exchange: 'moved' }));
  t.equal(await publish('mixed.interactive'), 'returned');
  t.equal(await publish('mixed.batch'), 'confirmed');
});

await t.test('declaring without a connection is an outage and not a refusal', async (t) => {
  await t.rejects(new Topology(bounds).declareCore(), StoreError);
});

/** The next message of a dead-letter or alternate queue. */
async function next(queue: string): Promise<Delivery> {
  const broker = await room.open();
  const channel = await broker.openChannel(() => {});
  const seen: Delivery[] = [];
  await channel.consume(queue, 1, (delivery) => seen.push(delivery));
  const delivery = await until(() => seen[0], `a message in ${queue}`);
  delivery.acknowledge();
  await channel.close();
  return delivery;
}

await t.test(
  'a job whose wait ends in its queue comes by jobs.expired, with its reason and first key',
  async (t) => {
    const broker = await room.open({ userId: room.user });
    await broker.topology.declarePool('idle');
    const job = message('idle.interactive', { exchange: 'jobs', expirationMs: 50, replyTo: 'reply.p-a' });
    t.equal(await broker.publisher.publish(job), 'confirmed');
    t.match(await next('jobs.expired'), {
      messageId: job.messageId,
      userId: room.user,
      replyTo: 'reply.p-a',
      deathReason: 'expired',
      deathRoutingKey: 'idle.interactive',
      expiration: '50',
      body: job.body,
    });
  },
);

await t.test('what a client wrote into the headers of death itself does not count', async (t) => {
  const broker = await room.open();
  await broker.topology.declarePool('forged');
  room.admin.publish('jobs', 'forged.batch', Buffer.from('forged'), {
    expiration: 50,
    headers: {
      'x-first-death-reason': 'rejected',
      'x-death': [
        { reason: 'rejected', queue: 'jobs.forged.batch', 'routing-keys': ['elsewhere'], count: 1 },
      ],
    },
  });
  const { deathReason, deathRoutingKey } = await next('jobs.expired');
  t.strictSame({ deathReason, deathRoutingKey }, { deathReason: 'expired', deathRoutingKey: 'forged.batch' });
});

await t.test('a job for a pool that has no queue comes by jobs.unroutable and is no return', async (t) => {
  const broker = await room.open();
  const job = message('nobody.interactive', { exchange: 'jobs' });
  t.equal(await broker.publisher.publish(job), 'confirmed');
  t.match(await next('jobs.unroutable'), {
    messageId: job.messageId,
    routingKey: 'nobody.interactive',
    deathReason: null,
  });
});

await t.test('a full queue refuses the publisher and keeps what it has', async (t) => {
  const broker = await room.open({ bounds: { ...bounds, nodeQueueLengthMax: 3 } });
  await broker.topology.declareNode('small');
  const outcomes = await broker.publisher.publishBatch(
    numbered('small', 6).map((dispatch) => ({ ...dispatch, exchange: 'dispatch' })),
  );
  t.strictSame(outcomes.slice(0, 3), ['confirmed', 'confirmed', 'confirmed']);
  t.equal(outcomes.at(-1), 'nacked');
});

t.end();
