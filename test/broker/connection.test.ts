import t from 'tap';
import { connectBroker } from '../../src/broker/connection.ts';
import { systemClock } from '../../src/clock.ts';
import { StoreError } from '../../src/errors.ts';
import { until } from '../support/until.ts';
import { bounds, brokerRoom, MemoryLog, message } from './room.ts';

const room = await brokerRoom(t);
await room.admin.assertQueue('here');

await t.test('a broker that cannot be reached is given up after the first tries', async (t) => {
  const proxy = await room.proxy();
  proxy.cut();
  const log = new MemoryLog();
  const options = {
    url: room.urlOf(room.user, proxy.port),
    name: 'test',
    heartbeatS: 10,
    connectTimeoutMs: 1_000,
    reconnectDelayMsMax: 50,
    initialTriesMax: 3,
    unconfirmedMax: 10,
    confirmMsMax: 1_000,
    bounds,
    log,
    clock: systemClock,
  };
  await t.rejects(connectBroker(options), StoreError);
  t.equal(log.lines.filter(({ level }) => level === 'warn').length, 3);
});

await t.test('a wrong password is given up too, and is not in the error', async (t) => {
  const url = new URL(room.urlOf(room.user));
  url.password = 'not-the-password';
  const attempt = room.open({ url: url.href, initialTriesMax: 1 });
  const error = await attempt.then(
    () => t.fail('it must not connect'),
    (reason: Error) => reason,
  );
  t.match(error, { message: /ACCESS_REFUSED/ });
  t.notMatch(JSON.stringify(error) + String(error), /not-the-password/);
});

await t.test('a topology that the broker refuses is told at the start', async (t) => {
  await room.admin.assertExchange('jobs', 'topic');
  t.teardown(() => room.admin.deleteExchange('jobs'));
  const refused = room.open({ setup: (topology) => topology.declareCore(), initialTriesMax: 1 });
  await t.rejects(refused, { code: 'TG_STORE_REJECTED', message: /PRECONDITION_FAILED.*exchange 'jobs'/ });
});

await t.test('connections closed by force are made again, with the topology', async (t) => {
  let setUps = 0;
  const broker = await room.open({
    setup: async (topology) => {
      setUps += 1;
      await topology.declareCore();
    },
  });
  await broker.topology.declareNode('n1');
  const changes: boolean[] = [];
  const unsubscribe = broker.onChange((isUp) => changes.push(isUp));
  for (let round = 1; round <= 3; round++) {
    await room.admin.deleteQueue('node.n1');
    // The management API knows a new connection only after a moment.
    await until(
      async () => {
        await room.management.closeConnections(room.user);
        return setUps > round;
      },
      'the connections to be closed and made again',
      { everyMs: 200 },
    );
    await until(() => broker.isUp, 'the broker to be back');
    const outcome = await broker.publisher.publish(message('n1', { exchange: 'dispatch' }));
    t.equal(outcome, 'confirmed', 'to the queue of the node, which was deleted meanwhile');
  }
  t.equal(changes[0], false);
  t.equal(changes.at(-1), true);
  t.ok(
    changes.every((isUp, i) => isUp === (i % 2 === 1)),
    'each change is told once',
  );
  unsubscribe();
  await broker.stop();
  t.equal(changes.at(-1), true, 'nobody is told after the end of the subscription');
});

await t.test(
  'a queue that was made in another shape meanwhile keeps no connection from coming back',
  async (t) => {
    const log = new MemoryLog();
    const broker = await room.open({ setup: (topology) => topology.declareCore(), log });
    await broker.topology.declareNode('changed');
    await broker.topology.declareNode('kept');
    const changes: boolean[] = [];
    broker.onChange((isUp) => changes.push(isUp));
    await Promise.all([room.admin.deleteQueue('node.kept'), room.admin.deleteQueue('node.changed')]);
    await room.admin.assertQueue('node.changed', { arguments: { 'x-max-priority': 5 } });
    await until(
      async () => {
        await room.management.closeConnections(room.user);
        return changes.includes(false);
      },
      'the connections to be closed',
      { everyMs: 200 },
    );
    await until(() => broker.isUp, 'the broker to be back');
    const told = log.lines.filter(({ level }) => level === 'error');
    t.same([...new Set(told.map(({ text }) => text))], ['a queue cannot be declared again']);
    t.equal(await broker.publisher.publish(message('kept', { exchange: 'dispatch' })), 'confirmed');
    const refused = { code: 'TG_STORE_REJECTED', message: /declaring node changed/ };
    await t.rejects(broker.topology.declareNode('changed'), refused);
    await room.admin.deleteQueue('node.changed');
    await broker.topology.declareNode('changed');
  },
);

await t.test('a connection without a channel left says so once, and serves those that it has', async (t) => {
  const log = new MemoryLog();
  const url = new URL(room.urlOf(room.user));
  url.searchParams.set('channelMax', '3');
  const broker = await room.open({ url: url.href, log });
  const open = () => broker.openChannel(() => {});
  const [first] = await Promise.all([open(), open(), open()]);
  for (let i = 0; i < 2; i++)
    await t.rejects(open(), { code: 'TG_STORE_UNAVAILABLE', message: /No channels left/ });
  const told = log.lines.filter(({ level }) => level === 'error');
  t.equal(told.length, 1);
  t.match(told[0]?.text, /raise channel_max/);
  await first.close();
  const next = await open();
  const got: string[] = [];
  await next.consume('here', 1, (delivery) => {
    got.push(delivery.body.toString());
    delivery.acknowledge();
  });
  await broker.publisher.publish(message('here'));
  await until(() => got.length === 1, 'a delivery on the channel that came free');
});

await t.test('a connection that went silent is noticed by its heartbeat', async (t) => {
  const proxy = await room.proxy();
  const broker = await room.open({ url: room.urlOf(room.user, proxy.port), heartbeatS: 1 });
  proxy.freeze();
  await until(() => !broker.isUp, 'the missing heartbeats to be noticed');
  proxy.cut();
  proxy.heal();
  await until(() => broker.isUp, 'the broker to be back');
  t.equal(await broker.publisher.publish(message('here')), 'confirmed');
});

await t.test('the two connections come back apart from each other', async (t) => {
  const proxy = await room.proxy();
  const broker = await room.open({ url: room.urlOf(room.user, proxy.port) });
  t.equal(proxy.connections, 2);
  proxy.cut();
  await until(() => proxy.connections === 0 && !broker.isUp, 'the cut');
  proxy.heal();
  await until(() => broker.isUp && proxy.connections === 2, 'both to be back');
  await broker.stop();
  await until(() => proxy.connections === 0, 'both to be closed');
});

await t.test('stopping waits for a silent broker no longer than for a connection', async (t) => {
  const proxy = await room.proxy();
  const broker = await room.open({ url: room.urlOf(room.user, proxy.port), connectTimeoutMs: 300 });
  const channel = await broker.openChannel(() => {});
  await channel.consume('here', 1, () => {});
  proxy.freeze();
  const startMs = performance.now();
  await broker.stop();
  t.ok(performance.now() - startMs < 5_000, 'far less than two heartbeats');
});

await t.test('stopping during an outage ends the tries', async (t) => {
  const proxy = await room.proxy();
  const broker = await room.open({ url: room.urlOf(room.user, proxy.port), reconnectDelayMsMax: 60_000 });
  proxy.cut();
  await until(() => !broker.isUp, 'the cut');
  await broker.stop();
  proxy.heal();
  t.notOk(broker.isUp);
  await broker.start();
  t.ok(broker.isUp, 'and it may be started again');
});

t.end();
