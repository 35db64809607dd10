import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { systemClock } from '../clock.ts';
import { invariant, StoreError } from '../errors.ts';
import { ensureBinaries } from './install.ts';
import { Keeper } from './keeper.ts';
import { type PortBlock, reservePorts } from './ports.ts';
import { answersPing, settings } from './redis.ts';
import { ServerProcess } from './server-process.ts';

const MASTERS = 3;
const HASH_SLOTS = 16_384;
/** After so long a silence the others call a node failed; short, because a test waits for it. */
const NODE_TIMEOUT_MS = 1_000;
const FORM_MS_MAX = 60_000;
const POLL_MS = 50;

/** One master: its server, and what it answers to. */
interface Master {
  readonly host: string;
  readonly port: number;
  readonly busPort: number;
  readonly url: string;
  readonly server: ServerProcess;
}

/**
 * Starts a Redis Cluster of three masters on loopback, each a process with its own ports and folder, and waits until all three
 * call it whole. It has no replicas, and serves the slots that are left when a master is away. However this process ends, what
 * was started ends with it. Throws TG_SETUP_MISSING without a redis-server, StoreError when the cluster does not form.
 */
export async function startRedisCluster(): Promise<RedisCluster> {
  const { binaries } = await ensureBinaries(['redis'], { onProgress: () => {}, signal: undefined });
  const file = binaries.find(({ name }) => name === 'redis')?.binary.path;
  invariant(file !== undefined, 'no redis-server was found');
  const ports = await reservePorts();
  const keeper = new Keeper();
  try {
    const secret = randomBytes(16).toString('hex');
    const masters: Master[] = [];
    for (let i = 0; i < MASTERS; i++)
      masters.push(await prepare(join(keeper.folder, `redis-${i}`), file, secret));
    await Promise.all(masters.map(({ server }) => server.start()));
    await form(masters);
    const cluster = new RedisCluster(masters, keeper, ports);
    await cluster.whole();
    return cluster;
  } catch (error) {
    await keeper.close();
    ports.close();
    throw error;
  }

  async function prepare(folder: string, program: string, secret: string): Promise<Master> {
    const port = await ports.take();
    const busPort = await ports.take();
    mkdirSync(folder, { mode: 0o700 });
    const config = join(folder, 'redis.conf');
    const lines = `${settings(port, folder, secret).replace(/^databases .*\n/m, '')}${clusterSettings(busPort)}`;
    writeFileSync(config, lines, { mode: 0o600 });
    const url = `redis://:${secret}@127.0.0.1:${port}`;
    const server = new ServerProcess(
      {
        name: 'redis',
        command: { file: program, args: [config], env: { PATH: process.env['PATH'] ?? '' }, cwd: folder },
        logFile: join(folder, 'redis.log'),
        fastSignal: 'SIGTERM',
        isReady: () => answersPing(url),
      },
      keeper,
    );
    return { host: '127.0.0.1', port, busPort, url, server };
  }
}

/** A cluster that was started here. Its masters are numbered 0, 1 and 2. */
export class RedisCluster {
  /** What `servers.redisUrl` takes: all masters. */
  readonly url: string;
  readonly #masters: readonly Master[];
  readonly #keeper: Keeper;
  readonly #ports: PortBlock;

  constructor(masters: readonly Master[], keeper: Keeper, ports: PortBlock) {
    this.#masters = masters;
    this.url = masters.map(({ url }) => url).join(',');
    this.#keeper = keeper;
    this.#ports = ports;
  }

  /** The number of the master that keeps this key. */
  async masterOf(key: string): Promise<number> {
    const [any] = this.#masters;
    const slot = await ask(any, (redis) => redis.cluster('KEYSLOT', key));
    return this.#masters.findIndex((_, i) => slot < slotsFrom(i + 1));
  }

  /** One master's process, to kill, pause and start again: it comes back empty, with the slots it had. */
  server(master: number): ServerProcess {
    return this.#at(master).server;
  }

  /** Asks one master on a connection of its own. */
  on<T>(master: number, work: (redis: Redis) => Promise<T>): Promise<T> {
    return ask(this.#at(master), work);
  }

  /** Waits until every master that runs sees all of them and all slots. Throws StoreError after a minute. */
  async whole(): Promise<void> {
    await patiently('the cluster to be whole', async () => {
      for (const master of this.#masters) {
        const info = await ask(master, (redis) => redis.cluster('INFO'));
        const isWhole =
          /cluster_state:ok/.test(info) &&
          info.includes(`cluster_slots_ok:${HASH_SLOTS}`) &&
          info.includes(`cluster_known_nodes:${MASTERS}`);
        if (!isWhole) return false;
      }
      return true;
    });
  }

  /** Forgets all keys of all masters. */
  async flush(): Promise<void> {
    for (const master of this.#masters) await ask(master, (redis) => redis.flushall());
  }

  /** Ends all processes and removes their folders. Idempotent. */
  async stop(): Promise<void> {
    await this.#keeper.close();
    this.#ports.close();
  }

  #at(master: number): Master {
    const found = this.#masters[master];
    invariant(found, `there is no master ${master}`);
    return found;
  }
}

/** Gives each master its third of the slots and makes them known to each other. */
async function form(masters: readonly Master[]): Promise<void> {
  const [first] = masters;
  invariant(first, 'no masters');
  for (const [i, master] of masters.entries()) {
    await ask(master, async (redis) => {
      await redis.call('CLUSTER', 'ADDSLOTSRANGE', slotsFrom(i), slotsFrom(i + 1) - 1);
      await redis.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
      if (i > 0) await redis.call('CLUSTER', 'MEET', first.host, first.port, first.busPort);
    });
  }
}

function slotsFrom(master: number): number {
  return Math.floor((HASH_SLOTS * master) / MASTERS);
}

function clusterSettings(busPort: number): string {
  return `cluster-enabled yes
cluster-port ${busPort}
cluster-config-file nodes.conf
cluster-node-timeout ${NODE_TIMEOUT_MS}
cluster-require-full-coverage no
`;
}

async function ask<T>(master: Master | undefined, work: (redis: Redis) => Promise<T>): Promise<T> {
  invariant(master, 'no such master');
  const redis = new Redis(master.url, {
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
  });
  redis.on('error', () => {});
  try {
    await redis.connect();
    return await work(redis);
  } finally {
    redis.disconnect();
  }
}

async function patiently(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const endMs = systemClock.monotonicMs() + FORM_MS_MAX;
  while (!(await isSo().catch(() => false))) {
    if (systemClock.monotonicMs() > endMs)
      throw new StoreError('redis', `waited ${FORM_MS_MAX} ms for ${what}`);
    await sleep(POLL_MS);
  }
}
