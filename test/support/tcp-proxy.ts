import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Teardown } from './servers.ts';

/** A TCP connection that can be damaged: put it in front of a real server. */
export interface TcpProxy {
  readonly port: number;
  /** Breaks every connection and refuses new ones until `heal`. */
  cut(): void;
  /** Breaks only the connections whose client said `word` when it began, e.g. its name. */
  cutOnly(word: string): void;
  /** Nothing passes in either direction any more, and nobody is told, until `heal` or `cut`. */
  freeze(): void;
  /** What the server sends stays here until `heal`; what the client sends still arrives. */
  holdAnswers(): void;
  heal(): void;
  /** Sends `bytes` to every client as if the server had. */
  inject(bytes: Buffer): void;
  /** Connections that are open now. */
  readonly connections: number;
}

/** How much of what a client says first is remembered; an AMQP client's name stands in its second frame. */
const OPENING_BYTES = 2_048;

/** Starts a proxy on a free loopback port in front of `host:port`; it is closed when `t` ends. */
export async function tcpProxy(t: Teardown, host: string, port: number): Promise<TcpProxy> {
  const pairs = new Set<{ client: Socket; server: Socket; opening: Buffer }>();
  let isCut = false;
  const listener = createServer((client) => {
    if (isCut) {
      client.destroy();
      return;
    }
    const server = connect(port, host);
    const pair = { client, server, opening: Buffer.alloc(0) };
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    client.on('data', (bytes) => {
      if (pair.opening.length < OPENING_BYTES) pair.opening = Buffer.concat([pair.opening, bytes]);
      server.write(bytes);
    });
    server.on('data', (bytes) => client.write(bytes));
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  const breakThose = (word = '') => {
    for (const { client, server, opening } of pairs) {
      if (!opening.includes(word)) continue;
      client.resetAndDestroy();
      server.destroy();
    }
  };
  t.after(() => {
    breakThose();
    listener.close();
  });
  return {
    port: address.port,
    cut: () => {
      isCut = true;
      breakThose();
    },
    cutOnly: (word) => breakThose(word),
    freeze: () => {
      for (const { client, server } of pairs) {
        client.pause();
        server.pause();
      }
    },
    holdAnswers: () => {
      for (const { server } of pairs) server.pause();
    },
    heal: () => {
      isCut = false;
      for (const { client, server } of pairs) {
        client.resume();
        server.resume();
      }
    },
    inject: (bytes) => {
      for (const { client } of pairs) client.write(bytes);
    },
    get connections() {
      return pairs.size;
    },
  };
}
