import { TcpProxy } from '../../chaos/tcp-proxy.ts';
import type { Teardown } from './servers.ts';

export type { TcpProxy } from '../../chaos/tcp-proxy.ts';

/** Starts a proxy on a free loopback port in front of `host:port`; it is closed when `t` ends. */
export async function tcpProxy(t: Teardown, host: string, port: number): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(host, port);
  t.after(() => proxy.close());
  return proxy;
}
