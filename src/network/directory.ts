import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import type { Refusal } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';
import type { Database } from '../postgres/database.ts';
import { misfitOf, poolOfWanted } from './fitting.ts';
import {
  type AccountRow,
  accountOf,
  type ModelVersionRow,
  modelVersionOf,
  type NodeRow,
  nodeOf,
  type PoolRow,
  poolOf,
  type PublisherRow,
  publisherOf,
} from './rows.ts';
import type { Account, Directory, ModelVersion, Node, Pool, Publisher, Wanted } from './types.ts';

/** Most answers of `misfit` that are remembered; a client may ask for any region. */
const MISFITS_MAX = 1_000;

/**
 * The directory in memory, following PostgreSQL: told by NOTIFY, and asking for the revision every `pollMs` besides. Reads
 * only what changed since the revision it has. While PostgreSQL is away the last copy stays.
 *
 * States: `stopped` → `start` reads everything, then follows → `stopped`.
 */
export class DirectoryPg implements Directory, Service {
  readonly #config: Config['directory'];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #db: Database;
  readonly #accounts = new Map<string, Account>();
  readonly #publishers = new Map<string, Publisher>();
  /** The active version of each model, by the model's name. */
  readonly #active = new Map<string, ModelVersion>();
  readonly #versions = new Map<number, ModelVersion>();
  readonly #nodes = new Map<string, Node>();
  readonly #pools = new Map<string, Pool>();
  readonly #poolsByModel = new Map<string, Pool[]>();
  /** Answers of `misfit` by pool name; forgotten with every change. */
  readonly #misfits = new Map<string, Refusal | null>();
  readonly #listeners = new Set<() => void>();
  #revision = 0n;
  /** The read under way, and the one that will begin after it: callers of `refresh` share the latter. */
  #running: Promise<void> = Promise.resolve();
  #queued: Promise<void> | null = null;
  #lastReadMs = Number.NEGATIVE_INFINITY;
  #poll: NodeJS.Timeout | null = null;
  #unlisten: (() => Promise<void>) | null = null;

  constructor(config: Config['directory'], clock: Clock, log: Log, db: Database) {
    this.#config = config;
    this.#clock = clock;
    this.#log = log;
    this.#db = db;
  }

  /** Reads everything and begins to follow. Throws StoreError when PostgreSQL is away. May be called twice. */
  async start(): Promise<void> {
    if (this.#poll !== null) return;
    await this.refresh();
    this.#poll = setInterval(() => this.#follow(), this.#config.pollMs);
    this.#unlisten = this.#db.listen('listen_directory', () => this.#follow());
  }

  /** Stops following; look-ups go on answering from the last copy. May be called twice. */
  async stop(): Promise<void> {
    if (this.#poll !== null) clearInterval(this.#poll);
    this.#poll = null;
    const unlisten = this.#unlisten;
    this.#unlisten = null;
    await unlisten?.();
    await Promise.allSettled([this.#running, this.#queued]);
  }

  account(name: string): Account | undefined {
    return this.#accounts.get(name);
  }

  publisher(name: string): Publisher | undefined {
    return this.#publishers.get(name);
  }

  publishers(): readonly Publisher[] {
    return [...this.#publishers.values()];
  }

  model(name: string): ModelVersion | undefined {
    return this.#active.get(name);
  }

  modelVersion(id: number): ModelVersion | undefined {
    return this.#versions.get(id);
  }

  node(id: string): Node | undefined {
    return this.#nodes.get(id);
  }

  nodes(): readonly Node[] {
    return [...this.#nodes.values()];
  }

  models(): readonly ModelVersion[] {
    return [...this.#active.values()];
  }

  pool(name: string): Pool | undefined {
    return this.#pools.get(name);
  }

  pools(model?: string): readonly Pool[] {
    return model === undefined ? [...this.#pools.values()] : (this.#poolsByModel.get(model) ?? []);
  }

  misfit(wanted: Wanted): Refusal | null {
    const name = poolOfWanted(wanted);
    const known = this.#misfits.get(name);
    if (known !== undefined) return known;
    if (this.#misfits.size >= MISFITS_MAX) this.#misfits.clear();
    const fault = misfitOf(this.nodes(), wanted);
    this.#misfits.set(name, fault);
    return fault;
  }

  /** The newest revision read. */
  get version(): number {
    return Number(this.#revision);
  }

  /** Calls `listener` after each read that changed the copy. Returns a function that ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Resolves when a read that began after this call is done. Calls that come while one waits share it, and reads begin at
   * least `refreshMsMin` apart, so misses cannot flood PostgreSQL. Throws StoreError when PostgreSQL is away.
   */
  refresh(): Promise<void> {
    this.#queued ??= this.#readNext();
    return this.#queued;
  }

  async #readNext(): Promise<void> {
    await this.#running.catch(() => undefined);
    const waitMs = this.#lastReadMs + this.#config.refreshMsMin - this.#clock.monotonicMs();
    if (waitMs > 0) await sleep(waitMs);
    this.#lastReadMs = this.#clock.monotonicMs();
    this.#queued = null;
    this.#running = this.#read();
    await this.#running;
  }

  /** A read that nobody waits for: when PostgreSQL is away, the next one will do. */
  #follow(): void {
    this.refresh().catch((error: unknown) => {
      this.#log.debug({ error: String(error) }, 'The directory could not be read');
    });
  }

  async #read(): Promise<void> {
    const [newest] = await this.#db.query<{ last: bigint }>('read_revision');
    if (newest === undefined || newest.last === this.#revision) return;
    // Each statement sees at least that revision. What it sees beyond is read once more next time, which changes nothing.
    const since = [this.#revision];
    const [accounts, publishers, versions, nodes, pools] = await Promise.all([
      this.#db.query<AccountRow>('read_changed_accounts', since),
      this.#db.query<PublisherRow>('read_changed_publishers', since),
      this.#db.query<ModelVersionRow>('read_changed_model_versions', since),
      this.#db.query<NodeRow>('read_changed_nodes', since),
      this.#db.query<PoolRow>('read_changed_pools', since),
    ]);
    const nowMs = this.#clock.monotonicMs();
    for (const row of accounts) this.#accounts.set(row.name, accountOf(row));
    for (const row of publishers) this.#publishers.set(row.name, publisherOf(row, nowMs));
    for (const row of versions) this.#putVersion(row);
    for (const row of nodes) this.#nodes.set(row.id, nodeOf(row, nowMs));
    for (const row of pools) this.#putPool(poolOf(row));
    this.#misfits.clear();
    this.#revision = newest.last;
    for (const listener of this.#listeners) listener();
  }

  #putPool(pool: Pool): void {
    if (this.#pools.has(pool.name)) return;
    this.#pools.set(pool.name, pool);
    this.#poolsByModel.set(pool.model, [...this.pools(pool.model), pool]);
  }

  #putVersion(row: ModelVersionRow): void {
    const version = modelVersionOf(row);
    this.#versions.set(row.id, version);
    if (!row.is_retired) this.#active.set(row.model, version);
    else if (this.#active.get(row.model)?.id === row.id) this.#active.delete(row.model);
  }
}
