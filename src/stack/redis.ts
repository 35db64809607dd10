import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { accepts } from './ports.ts';
import type { Preparation, Workplace } from './types.ts';

/** Redis of our own, in memory only: what it holds is advisory, and a restart that empties it is a case we want to meet. */
export async function prepareRedis({ ports, binary, folder, secret }: Workplace): Promise<Preparation> {
  const port = await ports.take();
  const config = join(folder, 'redis.conf');
  // In a file, because anybody can read a command line.
  writeFileSync(config, settings(port, folder, secret), { mode: 0o600 });
  const url = `redis://:${secret}@127.0.0.1:${port}/0`;
  return {
    urls: { redis: url },
    plan: {
      name: 'redis',
      command: { file: binary.path, args: [config], env: { PATH: process.env['PATH'] ?? '' }, cwd: folder },
      logFile: join(folder, 'redis.log'),
      fastSignal: 'SIGTERM',
      isReady: async () => (await accepts(port)) && (await answersPing(url)),
    },
  };
}

/** The lines of a `redis.conf` for a server on loopback that keeps nothing on disk. */
export function settings(port: number, folder: string, secret: string): string {
  return `bind 127.0.0.1
port ${port}
requirepass ${secret}
dir "${folder}"
databases 256
save ""
appendonly no
maxmemory-policy noeviction
daemonize no
`;
}

/** True once a server takes commands there; rejects while nobody listens or the password is refused. */
export async function answersPing(url: string): Promise<boolean> {
  const redis = new Redis(url, { lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 });
  redis.on('error', () => {});
  try {
    await redis.connect();
    return (await redis.ping()) === 'PONG';
  } finally {
    redis.disconnect();
  }
}
