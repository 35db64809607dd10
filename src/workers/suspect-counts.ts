import type { FleetRedis } from './redis.ts';

/** A count nobody touches for a day is forgotten, in milliseconds. */
const TTL_MS = 86_400_000;
/** The counts are few and not tied to a worker: they live in the first cell. */
const CELL = 0;

/** How often messages were tried that may have killed a coordinator. Throws StoreError when Redis is away. */
export class RedisSuspectCounts {
  readonly #redis: FleetRedis;

  constructor(redis: FleetRedis) {
    this.#redis = redis;
  }

  /** Counts one more try, before it is made; returns how many there are now. `digest` names the body. */
  count(queue: string, digest: string): Promise<number> {
    return this.#redis.count('suspect', CELL, [queue, digest, 'count', TTL_MS]);
  }

  /** The try did no harm. Idempotent. */
  async clear(queue: string, digest: string): Promise<void> {
    await this.#redis.count('suspect', CELL, [queue, digest, 'clear', TTL_MS]);
  }
}
