import { spawnSync } from 'node:child_process';
import type { Channel, ConfirmChannel } from 'amqplib';
import t from 'tap';
import {
  nodePermissions,
  permissionLines,
  publisherPermissions,
  vhostOf,
} from '../../src/broker/permissions.ts';
import type { Delivery } from '../../src/broker/types.ts';
import { controlQueue, nodeQueue, nodeUser, publisherUser } from '../../src/contracts/names.ts';
import { until } from '../support/until.ts';
import { brokerRoom, message } from './room.ts';

const room = await brokerRoom(t);
// Users are shared by the whole broker, so this file's have names of their own.
const suffix = room.servers.vhost.replaceAll('_', '-').slice(-20);
const one = `one-${suffix}`;
const two = `two-${suffix}`;
const alice = publisherUser(`alice-${suffix}`);
const bob = publisherUser(`bob-${suffix}`);
await room.createUser(nodeUser(one), nodePermissions(one));
await room.createUser(alice, publisherPermissions(alice));

const coordinator = await room.open({ setup: (topology) => topology.declareCore() });
await coordinator.topology.declarePool('m');
await coordinator.topology.declareFleet('c1');
for (const node of [one, two]) await coordinator.topology.declareNode(node);
for (const queue of [`reply.${bob}`, `reply.${alice}x`])
  await coordinator.topology.declareReplyQueue(queue, 600_000);

type Try = (channel: ConfirmChannel) => Promise<unknown>;

/** The broker's answer to `attempt` by `user`: the AMQP code of the refusal, or null. */
async function codeOf(user: string, attempt: Try): Promise<unknown> {
  const channel = await (await room.connectAs(user)).createConfirmChannel();
  const refused = new Promise<unknown>((resolve) => {
    channel.on('error', (error: Error & { code?: unknown }) => resolve(error.code));
  });
  return Promise.race([
    attempt(channel).then(
      () => null,
      () => refused,
    ),
    refused,
  ]);
}

const consume = (queue: string) => (channel: Channel) => channel.consume(queue, () => {});
const get = (queue: string) => (channel: Channel) => channel.get(queue);
const declare = (queue: string) => (channel: Channel) => channel.assertQueue(queue);
const remove = (queue: string) => (channel: Channel) => channel.deleteQueue(queue);
const bind = (queue: string, exchange: string, key: string) => (channel: Channel) =>
  channel.bindQueue(queue, exchange, key);
const publish = (exchange: string, key: string, userId?: string) => (channel: ConfirmChannel) => {
  const properties = userId === undefined ? {} : { userId };
  channel.publish(exchange, key, Buffer.from('x'), properties);
  return channel.waitForConfirms();
};

const shared = [
  'jobs.m.interactive',
  'jobs.unroutable',
  'jobs.expired',
  'results',
  'fleet.c1',
  'traces.spool',
  'dead',
];
const exchanges = ['jobs.unroutable', 'jobs.expired', 'dispatch', 'control', ''];

const forbiddenToNode: Record<string, Try> = {
  ...Object.fromEntries(shared.map((queue) => [`consume ${queue}`, consume(queue)])),
  'consume the queue of another node': consume(nodeQueue(two)),
  'consume the control queue of another node': consume(controlQueue(two)),
  'get from the queue of another node': get(nodeQueue(two)),
  'purge the queue of another node': (channel) => channel.purgeQueue(nodeQueue(two)),
  'consume a reply queue': consume(`reply.${bob}`),
  ...Object.fromEntries(exchanges.map((exchange) => [`publish to "${exchange}"`, publish(exchange, two)])),
  'publish to jobs': publish('jobs', 'm.interactive'),
  'declare a queue': declare('anything'),
  'declare a queue with a name of the broker': declare(''),
  'declare its own queue': declare(nodeQueue(one)),
  'delete its own queue': remove(nodeQueue(one)),
  'delete a shared queue': remove('results'),
  'declare an exchange': (channel) => channel.assertExchange('anything', 'direct'),
  'delete an exchange': (channel) => channel.deleteExchange('results'),
  "bind its queue to another's dispatches": bind(nodeQueue(one), 'dispatch', two),
  'bind the results queue to a key of its own': bind('results', 'results', 'mine'),
  'bind the fleet queue to dispatches': bind('fleet.c1', 'dispatch', two),
};

const forbiddenToPublisher: Record<string, Try> = {
  ...Object.fromEntries(shared.map((queue) => [`consume ${queue}`, consume(queue)])),
  'consume the queue of a node': consume(nodeQueue(one)),
  "consume another's replies": consume(`reply.${bob}`),
  'consume replies of a user whose name is longer': consume(`reply.${alice}x`),
  "get another's reply": get(`reply.${bob}`),
  ...Object.fromEntries(exchanges.map((exchange) => [`publish to "${exchange}"`, publish(exchange, one)])),
  'publish to results': publish('results', 'result'),
  'publish to fleet': publish('fleet', 'hello'),
  'publish a reply into its own queue': publish('', `reply.${alice}`),
  'declare a queue': declare('anything'),
  'declare a queue with a name of the broker': declare(''),
  "declare another's reply queue": declare(`reply.${bob}`),
  'declare a reply queue that only begins like its own': declare(`reply.${alice}x`),
  'declare a reply queue with an empty last part': declare(`reply.${alice}.`),
  "delete another's reply queue": remove(`reply.${bob}`),
  'declare an exchange': (channel) => channel.assertExchange('anything', 'direct'),
  'delete the exchange jobs': (channel) => channel.deleteExchange('jobs'),
  'bind its queue to jobs': bind(`reply.${alice}`, 'jobs', 'm.interactive'),
  'bind its queue to results': bind(`reply.${alice}`, 'results', 'result'),
  'bind its queue to dispatches': bind(`reply.${alice}`, 'dispatch', one),
};

await t.test('a publisher does its work: its reply queues, jobs, replies from the coordinator', async (t) => {
  const publisher = await room.open({ url: room.urlOf(alice), userId: alice });
  await publisher.topology.declareReplyQueue(`reply.${alice}`, 600_000);
  await publisher.topology.declareReplyQueue(`reply.${alice}.tab-2`, 600_000);
  const channel = await publisher.openChannel(() => t.fail('the channel stays'));
  const replies: Delivery[] = [];
  await channel.consume(`reply.${alice}`, 10, (delivery) => replies.push(delivery));
  t.equal(await publisher.publisher.publish(message('m.interactive', { exchange: 'jobs' })), 'confirmed');
  t.equal(await coordinator.publisher.publish(message(`reply.${alice}`)), 'confirmed');
  await until(() => replies.length === 1, 'the reply');
  t.equal(replies[0]?.userId, null);
});

await t.test('a node does its work: its two queues, results and fleet', async (t) => {
  const user = nodeUser(one);
  const node = await room.open({ url: room.urlOf(user), userId: user });
  const channel = await node.openChannel(() => t.fail('the channel stays'));
  const seen: Delivery[] = [];
  await channel.consume(nodeQueue(one), 10, (delivery) => seen.push(delivery));
  await channel.consume(controlQueue(one), 10, (delivery) => seen.push(delivery));
  await coordinator.publisher.publishBatch([
    message(one, { exchange: 'dispatch' }),
    message(one, { exchange: 'control' }),
  ]);
  await until(() => seen.length === 2, 'a dispatch and a control message');
  const sent = [
    message('result', { exchange: 'results' }),
    message('heartbeat', { exchange: 'fleet', transient: true }),
  ];
  t.strictSame(await node.publisher.publishBatch(sent), ['confirmed', 'confirmed']);
});

for (const [what, attempt] of Object.entries(forbiddenToNode)) {
  await t.test(`a node may not ${what}`, async (t) => {
    t.equal(await codeOf(nodeUser(one), attempt), 403);
  });
}

for (const [what, attempt] of Object.entries(forbiddenToPublisher)) {
  await t.test(`a publisher may not ${what}`, async (t) => {
    t.equal(await codeOf(alice, attempt), 403);
  });
}

await t.test('nobody may send under the name of another', async (t) => {
  t.equal(await codeOf(nodeUser(one), publish('results', 'result', nodeUser(two))), 406);
  t.equal(await codeOf(alice, publish('jobs', 'm.interactive', bob)), 406);
  t.equal(await codeOf(alice, publish('jobs', 'm.interactive', alice)), null);
});

await t.test('nothing was touched by all that was refused', async (t) => {
  const counts: Record<string, number> = {};
  for await (const { name } of room.management.queues()) {
    counts[name] = (await room.admin.checkQueue(name)).messageCount;
  }
  // Two jobs: the publisher's own and the one under its true name.
  t.match(counts, { 'jobs.m.interactive': 2, results: 1, dead: 0, 'jobs.unroutable': 0, 'traces.spool': 0 });
  t.equal(counts[nodeQueue(two)], 0);
});

await t.test('names are matched as they are, not as patterns', (t) => {
  t.strictSame(nodePermissions('a.b'), {
    configure: '^$',
    write: '^(results|fleet|tokens)$',
    read: String.raw`^node\.a\.b(\.control)?$`,
  });
  const own = String.raw`^reply\.p-x(\..+)?$`;
  t.strictSame(publisherPermissions('p-x'), { configure: own, write: '^jobs$', read: own });
  t.end();
});

await t.test('the printed lines give a shell exactly those words', (t) => {
  const lines = permissionLines(alice, String.raw`it's $HOME \n "secret"`, publisherPermissions(alice), '/');
  const script = `rabbitmqctl() { printf '<%s>' "$@"; case $1 in add_user) printf '<%s>' "$(cat)";; esac; echo; }\n`;
  const { stdout } = spawnSync('sh', ['-c', script + lines.join('\n')], { encoding: 'utf8' });
  const { configure, write, read } = publisherPermissions(alice);
  t.strictSame(stdout.trim().split('\n'), [
    `<add_user><${alice}>` + String.raw`<it's $HOME \n "secret">`,
    `<set_permissions><-p></><${alice}><${configure}><${write}><${read}>`,
  ]);
  t.end();
});

await t.test('a vhost is read from the URL as the broker reads it', (t) => {
  t.equal(vhostOf('amqp://h'), '/');
  t.equal(vhostOf('amqp://h/'), '/');
  t.equal(vhostOf('amqp://h/%2F'), '/');
  t.equal(vhostOf('amqp://u:p@h:5672/a%2Fb?heartbeat=5'), 'a/b');
  t.end();
});

t.end();
