import { Duplex } from 'node:stream';
import { type ChannelModel, connect } from 'amqplib';
import t from 'tap';
import { cutSocket, gatherWrites } from '../../src/broker/amqplib-internals.ts';
import { until } from '../support/until.ts';
import { brokerRoom } from './room.ts';

const room = await brokerRoom(t);

/** The socket of a connection, with a count of the writes that reach the system. */
function counted(model: ChannelModel): { writes: number } {
  const connection: object = model.connection;
  if (!('stream' in connection) || !(connection.stream instanceof Duplex)) throw new Error('no socket');
  const socket = connection.stream;
  const count = { writes: 0 };
  for (const method of ['_write', '_writev'] as const) {
    const original: unknown = Reflect.get(socket, method);
    if (typeof original !== 'function') throw new Error(`no ${method}`);
    Reflect.set(socket, method, (...parameters: unknown[]) => {
      count.writes += 1;
      Reflect.apply(original, socket, parameters);
    });
  }
  return count;
}

await t.test('the installed amqplib can be made to send a batch in one write', async (t) => {
  const model = await connect(room.urlOf(room.user), { noDelay: true });
  t.teardown(() => model.close());
  t.ok(gatherWrites(model));
  const channel = await model.createConfirmChannel();
  const count = counted(model);
  for (let i = 0; i < 200; i++) channel.publish('', 'nowhere', Buffer.alloc(50));
  await channel.waitForConfirms();
  t.equal(count.writes, 1);
});

await t.test('another shape of amqplib is left as it is', (t) => {
  const shapes = [
    {},
    { stream: 1, muxer: null },
    { stream: new Duplex(), muxer: {} },
    { muxer: { _readIncoming: 1 } },
  ];
  for (const connection of shapes) {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a shape that amqplib does not have today.
    const model = { connection } as unknown as ChannelModel;
    t.notOk(gatherWrites(model));
  }
  t.end();
});

await t.test('a socket that is cut is a lost connection to amqplib', async (t) => {
  const model = await connect(room.urlOf(room.user), { noDelay: true });
  let isClosed = false;
  model.on('error', () => {});
  model.on('close', () => (isClosed = true));
  cutSocket(model);
  await until(() => isClosed, 'amqplib to notice');
  cutSocket(model);
  t.ok(isClosed);
});

t.end();
