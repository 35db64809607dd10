import { Redis } from 'ioredis';
import type { FleetMessage } from '../../src/contracts/fleet.ts';
import { cellBase, cellOf } from '../../src/workers/keys.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisFleetRegistry } from '../../src/workers/registry.ts';
import { quietLog } from '../../test/support/ledger.ts';
import type { Teardown } from '../../test/support/servers.ts';
import type { World } from './world.ts';

/** Messages under way at a time: each call to Redis must be answered within `fleet.commandMsMax`. */
const AT_ONCE = 500;
/** The beats of the crowd are set this far ahead, longer than any run. */
const AHEAD_MS = 3_600_000;
/** Members whose beats are set with one call. */
const BEATS_PER_CALL = 5_000;

/**
 * Many more workers in the pool of a world, by the product's own scripts, as if coordinators had heard them. Each has one free
 * slot, so all of them are candidates in every selection, and none is chosen while the real workers have more. They have no
 * process, no queue and no heartbeats: their last sign of life is set ahead, so that they are not found silent.
 */
export class Crowd {
  readonly #world: World;
  readonly #redis: FleetRedis;
  readonly #registry: RedisFleetRegistry;
  #session = 0;
  #size = 0;

  constructor(world: World, redis: FleetRedis) {
    this.#world = world;
    this.#redis = redis;
    this.#registry = new RedisFleetRegistry(redis, world.config.fleet, () => true);
  }

  /** Brings the crowd to `size` workers; those that are too many say goodbye. */
  async resize(size: number): Promise<void> {
    const before = this.#size;
    this.#size = size;
    if (size > before) {
      // One that said goodbye is taken for a newcomer again only in a later session.
      this.#session += 1;
      await this.#say('hello', before, size);
      await this.#setBeatsAhead(before, size);
    } else await this.#say('bye', size, before);
  }

  /** Workers of all kinds in the world's pool, as the coordinators see them. */
  async poolSize(): Promise<number> {
    return (await this.#registry.list()).length;
  }

  async #say(kind: 'hello' | 'bye', from: number, to: number): Promise<void> {
    for (let first = from; first < to; first += AT_ONCE) {
      const count = Math.min(AT_ONCE, to - first);
      await Promise.all(
        Array.from({ length: count }, (_, i) => {
          const message = this.#message(kind, first + i);
          return this.#registry.apply(message, message.pools);
        }),
      );
    }
  }

  #message(kind: 'hello' | 'bye', n: number): FleetMessage {
    return {
      v: 1,
      kind,
      node: nameOf(n),
      session: this.#session,
      seq: kind === 'hello' ? 1 : 2,
      slots_total: 1,
      slots_in_use: 0,
      pools: [...this.#world.plan.models],
      warm_models: [],
      config_version: 0,
      gpu: null,
      leases: [],
      signature: null,
    };
  }

  async #setBeatsAhead(from: number, to: number): Promise<void> {
    const { servers, config } = this.#world;
    const redis = new Redis(servers.redisUrl);
    try {
      const score = Date.now() + AHEAD_MS;
      for (let first = from; first < to; first += BEATS_PER_CALL) {
        const nodes = Array.from({ length: Math.min(BEATS_PER_CALL, to - first) }, (_, i) =>
          nameOf(first + i),
        );
        const byCell = Map.groupBy(nodes, (node) => cellOf(node, this.#redis.cells));
        for (const [cell, own] of byCell) {
          const key = `${cellBase(config.fleet.keyPrefix, cell)}:beats`;
          await redis.zadd(key, ...own.flatMap((node) => [score, node]));
        }
      }
    } finally {
      redis.disconnect();
    }
  }
}

function nameOf(n: number): string {
  return `crowd-${n}`;
}

/** A crowd of nobody yet; its connection closes when `t` ends. */
export async function makeCrowd(t: Teardown, world: World): Promise<Crowd> {
  const redis = new FleetRedis(world.config.servers, world.config.fleet, quietLog);
  await redis.start();
  t.after(() => redis.stop());
  return new Crowd(world, redis);
}
