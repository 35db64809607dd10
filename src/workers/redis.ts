import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chunksOf } from '../chunks.ts';
import type { Config } from '../config-schema.ts';
import { invariant, StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';
import { cellBase, wakeChannel } from './keys.ts';
import { type RedisLink, redisLink } from './redis-link.ts';

/** The scripts beside this file, `lua/<name>.lua`; their headers say what they take and answer. */
export const SCRIPTS = [
  'reserve',
  'release',
  'apply',
  'expire',
  'take-lost',
  'forget',
  'rebuild',
  'open',
  'suspect',
  'read-state',
  'read-workers',
  'read-nodes',
  'read-sessions',
  'read-leases',
  'read-progress',
] as const;
export type ScriptName = (typeof SCRIPTS)[number];

interface Script {
  readonly lua: string;
  readonly sha: string;
}

function readLua(name: string): string {
  return readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');
}

function loadScript(name: ScriptName): Script {
  const lua = readLua('shared') + readLua(name);
  return { lua, sha: createHash('sha1').update(lua).digest('hex') };
}

/** Rows asked for per page of a walk: small, because Redis serves nobody else meanwhile. */
const PAGE_ROWS = 200;

/**
 * The scripts of the fleet, run on Redis, and the wake-ups it tells. Nothing is queued while away and nothing is sent twice: a
 * call fails at once with StoreError, and whoever made it decides. On a Redis Cluster the cells lie on several nodes; while one is
 * away, calls for its cells fail and the others go on. No ioredis type leaves this room.
 *
 * States: down → (connected and ready) up → (closed) down; `stop` ends it for good.
 */
export class FleetRedis implements Service {
  /** How many groups of keys there are; a script runs on one of them, 0 … cells − 1. */
  readonly cells: number;
  readonly #fleet: Config['fleet'];
  readonly #log: Log;
  readonly #link: RedisLink;
  readonly #scripts = new Map<ScriptName, Script>();
  readonly #changeListeners = new Set<(isUp: boolean) => void>();
  readonly #wakeListeners = new Set<(pool: string) => void>();
  #isUp = false;
  #isStarted = false;

  constructor(
    servers: Pick<Config['servers'], 'redisUrl' | 'connectTimeoutMs' | 'reconnectDelayMsMax'>,
    fleet: Config['fleet'],
    log: Log,
  ) {
    this.#fleet = fleet;
    this.#log = log.child({ server: 'redis' });
    this.cells = fleet.cells;
    for (const name of SCRIPTS) this.#scripts.set(name, loadScript(name));
    this.#link = redisLink(
      {
        servers,
        commandMsMax: fleet.commandMsMax,
        channel: wakeChannel(fleet.keyPrefix),
        log: this.#log,
      },
      {
        onChange: (isUp) => this.#change(isUp),
        onMessage: (pool) => {
          for (const listener of this.#wakeListeners) listener(pool);
        },
      },
    );
  }

  /** Connects. Throws StoreError when Redis does not answer in time; it is tried again all the same until `stop`. */
  async start(): Promise<void> {
    if (this.#isStarted) return;
    this.#isStarted = true;
    try {
      await this.#link.connect();
    } catch (cause) {
      throw new StoreError('redis', 'cannot connect', { cause });
    }
  }

  /** Closes all connections; calls under way fail with StoreError. */
  stop(): Promise<void> {
    this.#link.disconnect();
    return Promise.resolve();
  }

  /** True while scripts can be run, on some cells at least. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /** Called on each change of `isUp`. Returns a function that ends the subscription. */
  onChange(listener: (isUp: boolean) => void): () => void {
    this.#changeListeners.add(listener);
    return () => this.#changeListeners.delete(listener);
  }

  /** Called with the pool's name for each wake-up. Returns a function that ends the subscription. */
  onWake(listener: (pool: string) => void): () => void {
    this.#wakeListeners.add(listener);
    return () => this.#wakeListeners.delete(listener);
  }

  /**
   * Runs a script that answers with a list on one cell; `args` follow the settings that every script takes (`lua/shared.lua`).
   * Throws StoreError when Redis is away, slow or refuses: the script may then have run or not, and each may be run again.
   */
  async list(name: ScriptName, cell: number, args: readonly (string | number)[] = []): Promise<string[]> {
    const reply = await this.#run(name, cell, args);
    invariant(Array.isArray(reply), `script ${name} answered no list`);
    return reply.map(String);
  }

  /** As `list`, for a script that answers with a number. */
  async count(name: ScriptName, cell: number, args: readonly (string | number)[] = []): Promise<number> {
    return Number(await this.#run(name, cell, args));
  }

  /** All rows, `width` values each, of a script that answers in pages, over all cells. A row may come twice. */
  async *rows(
    name: ScriptName,
    width: number,
    args: readonly number[] = [],
  ): AsyncGenerator<readonly string[]> {
    for (let cell = 0; cell < this.cells; cell++) yield* this.rowsOf(cell, name, width, args);
  }

  /** As `rows`, over one cell. */
  async *rowsOf(
    cell: number,
    name: ScriptName,
    width: number,
    args: readonly number[],
  ): AsyncGenerator<readonly string[]> {
    let cursor = '0';
    do {
      const [next, ...values] = await this.list(name, cell, [cursor, PAGE_ROWS, ...args]);
      yield* chunksOf(values, width);
      cursor = next ?? '0';
    } while (cursor !== '0');
  }

  async #run(name: ScriptName, cell: number, args: readonly (string | number)[]): Promise<unknown> {
    const script = this.#scripts.get(name);
    invariant(script, `no script ${name}`);
    const { keyPrefix, leaseTtlMs, lostAfterMs, heartbeatMs } = this.#fleet;
    const settings = [wakeChannel(keyPrefix), leaseTtlMs, lostAfterMs, heartbeatMs];
    try {
      return await this.#evaluate(script, [cellBase(keyPrefix, cell), ...settings, ...args]);
    } catch (cause) {
      throw new StoreError('redis', `script ${name} failed`, { cause });
    }
  }

  /** By its hash, or whole when Redis does not know it: first use, restart, `SCRIPT FLUSH`. */
  async #evaluate(script: Script, keyAndArgs: (string | number)[]): Promise<unknown> {
    try {
      return await this.#link.evalsha(script.sha, keyAndArgs);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
      return await this.#link.eval(script.lua, keyAndArgs);
    }
  }

  #change(isUp: boolean): void {
    if (this.#isUp === isUp) return;
    this.#isUp = isUp;
    this.#log.info({ isUp }, isUp ? 'redis is up' : 'redis is away');
    for (const listener of this.#changeListeners) listener(isUp);
  }
}
