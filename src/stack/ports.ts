import { readFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';

const BLOCK = 16;
const FIRST = 10_240;
const TRIES = 200;

/** Ports of this machine that nobody else takes while the process lives. */
export interface PortBlock {
  /** The next free port of the block. Throws when none is left. */
  take(): Promise<number>;
  /** Gives the block back. */
  close(): void;
}

/**
 * Reserves a block of ports on 127.0.0.1. Its first port is held open as the sign of possession, so that two stacks starting
 * at once never choose the same. All lie below the range from which the kernel takes the ports of outgoing connections: a
 * client that calls a stopped server again and again would otherwise one day be given the server's own port.
 */
export async function reservePorts(): Promise<PortBlock> {
  const blocks = Math.floor((firstEphemeralPort() - FIRST) / BLOCK);
  for (let i = 0; i < TRIES; i++) {
    const base = FIRST + BLOCK * Math.floor(Math.random() * blocks);
    const guard = await listen(base);
    if (guard === undefined) continue;
    guard.unref();
    let next = base + 1;
    return {
      take: async () => {
        while (next < base + BLOCK) {
          const port = next++;
          const probe = await listen(port);
          if (probe === undefined) continue;
          await new Promise((resolve) => probe.close(resolve));
          return port;
        }
        throw new Error(`no free port left from ${base} to ${base + BLOCK - 1}`);
      },
      close: () => guard.close(),
    };
  }
  throw new Error('no block of free ports on 127.0.0.1');
}

/** True when something accepts connections there within `timeoutMs`. */
export async function accepts(port: number, host = '127.0.0.1', timeoutMs = 1_000): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect({ host, port });
    const answer = (isOpen: boolean) => {
      socket.destroy();
      resolve(isOpen);
    };
    socket.setTimeout(timeoutMs, () => answer(false));
    socket.once('connect', () => answer(true)).once('error', () => answer(false));
  });
}

function firstEphemeralPort(): number {
  try {
    const first = Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/)[0]);
    return first >= FIRST + 64 * BLOCK ? first : 32_768;
  } catch {
    return 32_768;
  }
}

async function listen(port: number): Promise<Server | undefined> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(undefined));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(server));
  });
}
