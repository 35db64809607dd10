import { type CustomTypesConfig, Pool, type PoolClient, types as driverTypes } from 'pg';
import { StoreError } from '../errors.ts';
import type { Dependency, Log } from '../ops/types.ts';
import { failureOf, isRepeatable, keepsConnection } from './failures.ts';
import { Listener } from './listener.ts';
import { toParameter } from './parameters.ts';
import { statement } from './statements.ts';

/** Where and how to connect. Times in milliseconds; the bounds are those of `Config.servers` and `Config.ledger`. */
export interface DatabaseOptions {
  /** Login URL of one role. Never logged. */
  readonly url: string;
  readonly connectionsMax: number;
  readonly connectTimeoutMs: number;
  readonly reconnectDelayMsMax: number;
  /** `statement_timeout` of every connection. */
  readonly statementMsMax: number;
  /** `lock_timeout` of every connection. */
  readonly lockWaitMsMax: number;
  /** Repeats of a statement after 40P01 or 40001, each after a short random pause. */
  readonly batchRetriesMax: number;
}

/** The client gives up this long after the server should have, in milliseconds: then the server is gone or unreachable. */
const ANSWER_GRACE_MS = 1_000;
const RETRY_PAUSE_MS_MAX = 20;
const PROBE_PAUSE_MS_MIN = 50;

const { INT8 } = driverTypes.builtins;

/** int8 comes as text, so that no digit is lost: here, and nowhere else, it becomes a bigint. */
const types: CustomTypesConfig = {
  getTypeParser: (oid, format = 'text') =>
    oid === INT8 && format === 'text' ? BigInt : driverTypes.getTypeParser(oid, format),
};

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * PostgreSQL, for one login role: statements by name, each prepared once per connection and each its own transaction.
 *
 * States: `up` and `down`. A lost or refused connection makes it down; while down it probes by itself, with growing pauses,
 * and the first answer makes it up again. Queries are tried in either state. No type of the driver leaves this class.
 */
export class Database {
  readonly #pool: Pool;
  readonly #options: DatabaseOptions;
  readonly #log: Log;
  readonly #listeners = new Set<(dependency: Dependency) => void>();
  readonly #subscriptions = new Set<Listener>();
  #dependency: Dependency = { name: 'postgres', isUp: false, detail: 'not asked yet' };
  #probe: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(options: DatabaseOptions, log: Log) {
    this.#options = options;
    this.#log = log;
    this.#pool = new Pool({
      connectionString: options.url,
      max: options.connectionsMax,
      connectionTimeoutMillis: options.connectTimeoutMs,
      statement_timeout: options.statementMsMax,
      lock_timeout: options.lockWaitMsMax,
      query_timeout: options.statementMsMax + ANSWER_GRACE_MS,
      idleTimeoutMillis: 0,
      keepAlive: true,
      application_name: 'tollgate',
      types,
    });
    // Without these two a restart of the server would end the process: idle clients report to the pool, the others to
    // themselves.
    this.#pool.on('error', (error) => this.#fell(error));
    this.#pool.on('connect', (client) => client.on('error', (error) => this.#fell(error)));
  }

  /** How PostgreSQL stands, as far as the last answer tells. */
  get dependency(): Dependency {
    return this.#dependency;
  }

  get isUp(): boolean {
    return this.#dependency.isUp;
  }

  /** Calls `listener` on every move between up and down. Returns a function that ends it. */
  onChange(listener: (dependency: Dependency) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Runs `sql/queries/<name>.sql`; when the promise resolves its transaction has committed. int8 comes as bigint, uuid and
   * numeric as text, bytea as Buffer, timestamptz as Date. Throws StoreError when PostgreSQL is away, slow or stays
   * deadlocked (the outcome is unknown: make the same call again), SqlRejection when it refuses the statement.
   */
  async query<Row extends object>(name: string, params: readonly unknown[] = []): Promise<Row[]> {
    for (let repeats = 0; ; repeats++) {
      try {
        return await this.#queryOnce<Row>(name, params);
      } catch (error) {
        if (!isRepeatable(error) || repeats >= this.#options.batchRetriesMax) throw failureOf(error);
        await pause(Math.random() * RETRY_PAUSE_MS_MAX);
      }
    }
  }

  async #queryOnce<Row extends object>(name: string, params: readonly unknown[]): Promise<Row[]> {
    const text = statement(name);
    let client: PoolClient;
    try {
      client = await this.#pool.connect();
    } catch (error) {
      if (failureOf(error) instanceof StoreError) this.#fell(error);
      throw error;
    }
    try {
      const { rows } = await client.query<Row>({ name, text, values: params.map(toParameter) });
      client.release();
      this.#rose();
      return rows;
    } catch (error) {
      client.release(!keepsConnection(error));
      if (!keepsConnection(error)) this.#fell(error);
      throw error;
    }
  }

  /**
   * Runs the LISTEN of `sql/queries/<name>.sql` on a connection of its own, made again whenever it is lost. `heard` is called
   * on every notification and after every LISTEN, since anything may have been missed before it. Returns a function that
   * ends it.
   */
  listen(name: string, heard: () => void): () => Promise<void> {
    const listener = new Listener(this.#options, statement(name), heard, this.#log);
    this.#subscriptions.add(listener);
    listener.start();
    return async () => {
      this.#subscriptions.delete(listener);
      await listener.stop();
    };
  }

  /** Ends all connections once their statements are done. May be called twice. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#probe !== null) clearTimeout(this.#probe);
    await Promise.all([...this.#subscriptions].map((listener) => listener.stop()));
    await this.#pool.end();
  }

  #rose(): void {
    if (this.#dependency.isUp) return;
    this.#dependency = { name: 'postgres', isUp: true, detail: 'answers' };
    this.#announce();
  }

  #fell(error: unknown): void {
    if (this.#isClosed) return;
    const wasUp = this.#dependency.isUp;
    this.#dependency = { name: 'postgres', isUp: false, detail: failureOf(error).message };
    if (wasUp) this.#announce();
    this.#probeAfter(PROBE_PAUSE_MS_MIN);
  }

  #announce(): void {
    const { isUp, detail } = this.#dependency;
    this.#log[isUp ? 'info' : 'warn']({ detail }, 'PostgreSQL changed state');
    for (const listener of this.#listeners) listener(this.#dependency);
  }

  /** One probe at a time; each failure doubles the pause up to the bound, with jitter. */
  #probeAfter(pauseMs: number): void {
    if (this.#probe !== null || this.#isClosed) return;
    this.#probe = setTimeout(() => void this.#askOnce(pauseMs), pauseMs * (0.5 + Math.random() / 2));
    this.#probe.unref();
  }

  async #askOnce(pauseMs: number): Promise<void> {
    const isUp = await this.query('ping').then(
      () => true,
      () => false,
    );
    this.#probe = null;
    if (!isUp) this.#probeAfter(Math.min(pauseMs * 2, this.#options.reconnectDelayMsMax));
  }
}
