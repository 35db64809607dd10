import { connect, createServer, type Socket } from 'node:net';
import { breakOff } from '../../chaos/tcp-proxy.ts';
import type { Teardown } from '../support/servers.ts';

/**
 * What the link does. `open`: passes everything. `cut`: refuses and resets. `frozen`: keeps its connections and passes
 * nothing. `writes-lost`: passes all but inserts and updates, as a server that hears and cannot write.
 */
export type LinkMode = 'open' | 'cut' | 'frozen' | 'writes-lost';

/** A TCP link to a real MongoDB that can fail on demand, because the shared server must not be stopped. */
export interface FlakyLink {
  /** The given URL by way of this link. */
  readonly url: string;
  set(mode: LinkMode): void;
}

/** BSON's way to write the command names `insert` and `update`. */
const WRITES = [Buffer.from('\x02insert\0', 'latin1'), Buffer.from('\x02update\0', 'latin1')];

export async function flakyLink(t: Teardown, mongoUrl: string, first: LinkMode = 'open'): Promise<FlakyLink> {
  const url = new URL(mongoUrl);
  const { hostname, port } = url;
  let mode: LinkMode = first;
  const pairs = new Set<readonly [Socket, Socket]>();
  const passes = (bytes: Buffer) =>
    mode === 'open' || (mode === 'writes-lost' && !WRITES.some((write) => bytes.includes(write)));
  const server = createServer((near) => {
    if (mode === 'cut') {
      breakOff(near);
      return;
    }
    const far = connect(Number(port), hostname);
    const pair = [near, far] as const;
    pairs.add(pair);
    const end = () => {
      near.destroy();
      far.destroy();
      pairs.delete(pair);
    };
    near.on('data', (bytes: Buffer) => passes(bytes) && far.write(bytes));
    far.on('data', (bytes: Buffer) => passes(bytes) && near.write(bytes));
    for (const socket of pair) socket.on('error', end).on('close', end);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const set = (next: LinkMode) => {
    mode = next;
    if (next === 'cut') for (const [near] of pairs) breakOff(near);
  };
  t.after(() => {
    set('cut');
    server.close();
  });
  url.host = `127.0.0.1:${address.port}`;
  url.searchParams.set('directConnection', 'true');
  return { url: url.href, set };
}
