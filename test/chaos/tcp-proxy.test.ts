import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { breakOff, type TcpProxy } from '../../chaos/tcp-proxy.ts';
import { tcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

/** Lets a server listen until `t` ends; returns its port. */
async function listening(t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** A server that echoes, a proxy in front of it, and what the client has heard. */
async function echoed(
  t: Test,
): Promise<{ proxy: TcpProxy; open: () => Promise<{ client: Socket; heard: () => string }> }> {
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  const proxy = await tcpProxy(t, '127.0.0.1', await listening(t, server));
  const open = async () => {
    const client = connect(proxy.port, '127.0.0.1');
    let text = '';
    client.on('error', () => undefined).on('data', (bytes) => (text += String(bytes)));
    t.after(() => client.destroy());
    await once(client, 'connect');
    return { client, heard: () => text };
  };
  return { proxy, open };
}

await t.test('a connection is broken off also while it is being ended', async (t) => {
  const faults: unknown[] = [];
  const closed = Promise.withResolvers<void>();
  const server = createServer((socket) => {
    socket.on('error', (fault) => faults.push(fault)).on('close', () => closed.resolve());
    socket.end('x');
    breakOff(socket);
  });
  const client = connect(await listening(t, server), '127.0.0.1').on('error', () => undefined);
  t.after(() => client.destroy());
  await closed.promise;
  t.same(faults, []);
});

await t.test('a healthy link passes everything', async (t) => {
  const { open } = await echoed(t);
  const { client, heard } = await open();
  client.write('hello');
  await until(() => heard() === 'hello', 'the echo');
});

await t.test('a late link keeps the order, and is late both ways', async (t) => {
  const { proxy, open } = await echoed(t);
  const { client, heard } = await open();
  proxy.delay(40, 10);
  const startMs = performance.now();
  for (const letter of 'abcdef') client.write(letter);
  await until(() => heard().length === 6, 'the echo');
  t.equal(heard(), 'abcdef');
  t.ok(performance.now() - startMs >= 55);
});

await t.test('a slow link lets so many bytes through in a second', async (t) => {
  const { proxy, open } = await echoed(t);
  const { client, heard } = await open();
  proxy.slowTo(10_000);
  const startMs = performance.now();
  client.write('x'.repeat(1_000));
  await until(() => heard().length === 1_000, 'the echo');
  t.ok(performance.now() - startMs >= 180, 'a tenth of a second each way');
});

await t.test('when a link is healed, nothing overtakes what it held back', async (t) => {
  const { proxy, open } = await echoed(t);
  const { client, heard } = await open();
  proxy.slowTo(100);
  client.write('first,');
  await until(() => proxy.heldBack > 0, 'the piece to be held back');
  client.write('second');
  proxy.heal();
  await until(() => heard().length === 12, 'the echo');
  t.equal(heard(), 'first,second');
});

await t.test('a link that is cut after some bytes breaks, and new connections break there too', async (t) => {
  const { proxy, open } = await echoed(t);
  proxy.cutAfter(3);
  for (const attempt of [1, 2]) {
    const { client } = await open();
    const closed = new Promise((resolve) => client.once('close', resolve));
    client.write('12345');
    await closed;
    t.pass(`connection ${attempt} broke`);
  }
  proxy.heal();
  const { client, heard } = await open();
  client.write('12345');
  await until(() => heard() === '12345', 'the echo');
});

await t.test('a black hole accepts connections and answers nobody until it is healed', async (t) => {
  const { proxy, open } = await echoed(t);
  const before = await open();
  proxy.swallow();
  const during = await open();
  before.client.write('before');
  during.client.write('during');
  await until(() => proxy.connections === 2, 'both to be connected');
  t.equal(before.heard() + during.heard(), '');
  proxy.heal();
  await until(() => before.heard() === 'before' && during.heard() === 'during', 'what was held back');
});
