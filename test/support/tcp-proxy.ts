import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Teardown } from './servers.ts';

/** A TCP connection that can be damaged: put it in front of a real server. */
export interface TcpProxy {
  readonly port: number;
  /** Breaks every connection and refuses new ones until `heal`. */
  cut(): void;
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

/** Starts a proxy on a free loopback port in front of `host:port`; it is closed when `t` ends. */
export async function tcpProxy(t: Teardown, host: string, port: number): Promise<TcpProxy> {
  const pairs = new Set<{ client: Socket; server: Socket }>();
  let isCut = false;
  const listener = createServer((client) => {
    if (isCut) {
      client.destroy();
      return;
    }
    const server = connect(port, host);
    const pair = { client, server };
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    client.on('data', (bytes) => server.write(bytes));
    server.on('data', (bytes) => client.write(bytes));
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  const breakAll = () => {
    for (const { client, server } of pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
  };
  t.after(() => {
    breakAll();
    listener.close();
  });
  return {
    port: address.port,
    cut: () => {
      isCut = true;
      breakAll();
    },
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
