import { Redis } from 'ioredis';
import type { Config } from '../../src/config-schema.ts';
import type { FleetMessage } from '../../src/contracts/fleet.ts';
import type { Log } from '../../src/ops/types.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisFleetRegistry } from '../../src/workers/registry.ts';
import { RedisSlotLeases } from '../../src/workers/slot-leases.ts';
import type {
  LeaseName,
  LiveLease,
  ReserveAnswer,
  ReserveRequest,
  WorkerOccupancy,
} from '../../src/workers/types.ts';
import { isolatedServers, type Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** Writes nothing. */
export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
};

/** Bounds short enough to wait for. */
export const SHORT: Omit<Config['fleet'], 'keyPrefix'> = {
  heartbeatMs: 100,
  lostAfterMs: 300,
  leaseTtlMs: 600,
  cells: 1,
  commandMsMax: 2_000,
};

/** Bounds that no test lives to see. */
export const LONG: Omit<Config['fleet'], 'keyPrefix'> = {
  heartbeatMs: 60_000,
  lostAfterMs: 180_000,
  leaseTtlMs: 600_000,
  cells: 1,
  commandMsMax: 2_000,
};

type Said = Partial<Omit<FleetMessage, 'v' | 'node' | 'kind'>>;

/** The fleet in a Redis database of its own, with everything needed to speak to it as workers and coordinators do. */
export class TestFleet {
  readonly redis: FleetRedis;
  readonly leases: RedisSlotLeases;
  readonly registry: RedisFleetRegistry;
  /** A plain connection to the same database. */
  readonly raw: Redis;
  /** Pools of all wake-ups so far. */
  readonly woken: string[] = [];
  isListening = true;
  #seq = 0;

  constructor(url: string, fleet: Config['fleet']) {
    const servers = { redisUrl: url, connectTimeoutMs: 2_000, reconnectDelayMsMax: 100 };
    this.redis = new FleetRedis(servers, fleet, silentLog);
    this.leases = new RedisSlotLeases(this.redis);
    this.registry = new RedisFleetRegistry(this.redis, fleet, () => this.isListening);
    // Of a cluster it reaches the first node.
    this.raw = new Redis(url.split(',')[0] ?? '', { lazyConnect: true });
    this.raw.on('error', () => {});
    this.leases.onWake((pool) => this.woken.push(pool));
  }

  /** A message of a worker: hello of session 1 with one slot in pool `m` unless `said` says otherwise. */
  message(node: string, kind: FleetMessage['kind'] = 'hello', said: Said = {}): FleetMessage {
    return {
      v: 1,
      kind,
      node,
      session: 1,
      seq: ++this.#seq,
      slots_total: 1,
      slots_in_use: said.leases?.length ?? 0,
      pools: ['m'],
      warm_models: [],
      config_version: 0,
      gpu: null,
      leases: [],
      signature: null,
      ...said,
    };
  }

  /** Applies such a message. */
  async say(node: string, kind: FleetMessage['kind'] = 'hello', said: Said = {}) {
    const message = this.message(node, kind, said);
    return this.registry.apply(message, message.pools);
  }

  /** Opens all cells that answer for new jobs, as the sweep does once it gave back what PostgreSQL has open. */
  async open(): Promise<void> {
    for (const [cell, standing] of (await this.registry.cells()).entries())
      if (standing.state !== 'away') await this.leases.open(cell, standing.epochMs);
  }

  /** Reserves for jobs `from`, `from` + 1, … of one pool. */
  async reserve(from: number, count: number, pool = 'm'): Promise<ReserveAnswer[]> {
    return this.leases.reserveBatch(requests(from, count, pool));
  }

  /** Sweeps until the condition holds. */
  async sweepUntil(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
    await until(async () => {
      await this.registry.takeLost();
      await this.leases.expireLeases(100);
      return condition();
    }, what);
  }

  async occupancyOf(node: string): Promise<WorkerOccupancy | undefined> {
    return (await this.allWorkers()).find((worker) => worker.node === node);
  }

  async allWorkers(): Promise<WorkerOccupancy[]> {
    const workers: WorkerOccupancy[] = [];
    for await (const worker of this.registry.occupancy()) workers.push(worker);
    return workers;
  }

  /** Pools that are marked as waited for. */
  async waiting(): Promise<string[]> {
    const keys = await this.raw.keys('*:waiting');
    return (await Promise.all(keys.map((key) => this.raw.smembers(key)))).flat();
  }

  async allLeases(): Promise<LiveLease[]> {
    const leases: LiveLease[] = [];
    for await (const lease of this.leases.leases()) leases.push(lease);
    return leases;
  }
}

/** The id of job `n`. */
export function jobId(n: number): string {
  return `0198c0de-0000-7000-8000-${String(n).padStart(12, '0')}`;
}

/** First attempts of jobs `from`, `from` + 1, … of one pool. */
export function requests(from: number, count: number, pool = 'm'): ReserveRequest[] {
  return Array.from({ length: count }, (_, i) => ({ jobId: jobId(from + i), attempt: 1, pool }));
}

/** The leases behind those answers that have one, in order. */
export function leasesOf(asked: readonly ReserveRequest[], answers: readonly ReserveAnswer[]): LeaseName[] {
  return asked.flatMap(({ jobId: id, attempt }, i) => {
    const answer = answers[i];
    if (answer?.kind !== 'got' && answer?.kind !== 'had') return [];
    return [{ jobId: id, attempt, node: answer.node, session: answer.session }];
  });
}

/** The node of each answer, or its kind where there is none. */
export function nodesOf(answers: readonly ReserveAnswer[]): string[] {
  return answers.map((answer) => ('node' in answer ? answer.node : answer.kind));
}

/** Starts a fleet that ends with `t`. */
export async function testFleet(
  t: Teardown,
  bounds: Partial<Omit<Config['fleet'], 'keyPrefix'>> = LONG,
): Promise<TestFleet> {
  const { redisUrl, keyPrefix } = await isolatedServers(t, { redis: true });
  const fleet = new TestFleet(redisUrl, { ...LONG, ...bounds, keyPrefix });
  t.after(async () => {
    await fleet.redis.stop();
    fleet.raw.disconnect();
  });
  await fleet.redis.start();
  await fleet.open();
  return fleet;
}
