import { setTimeout as sleep } from 'node:timers/promises';
import {
  BSON,
  type Collection,
  type Db,
  type Document,
  MongoClient,
  type MongoClientOptions,
  MongoServerError,
} from 'mongodb';
import type { Config } from '../config-schema.ts';
import { StoreError, TollgateError } from '../errors.ts';
import type { Dependency, Log, Service } from '../ops/types.ts';
import type { Section, SectionBson } from './documents.ts';
import { commandsOf, type InsertCommand, isTooLarge } from './insert-commands.ts';

/** What this room needs of `Config['servers']`. */
export type MongoServers = Pick<Config['servers'], 'mongoUrl' | 'connectTimeoutMs'>;

/** The driver accepts no shorter interval. */
const HEARTBEAT_MS_MIN = 500;

const DUPLICATE_KEY = 11_000;
/** BSONObjectTooLarge. */
const TOO_LARGE = 10_334;

/**
 * Faults of single documents that speak of the server's state and not of the document: time limits, write conflict, stepping
 * down, shutting down, no disk space. Every other one is the document's own and would come again.
 * Source: MongoDB's error_codes.yml; the retryable codes of the driver specification.
 */
const PASSING_FAULTS: ReadonlySet<number | string | undefined> = new Set([
  6, 7, 24, 50, 89, 91, 112, 134, 189, 262, 365, 9_001, 10_107, 11_600, 11_601, 11_602, 13_435, 13_436,
  14_031,
]);

/** Server types that take writes; a one-member replica set is `RSPrimary`, a bare mongod `Standalone`. */
const WRITABLE: ReadonlySet<string> = new Set(['RSPrimary', 'Standalone', 'Mongos', 'LoadBalancer']);

/** Documents MongoDB will never take as they are (too large, against a validator): sending them again does not help. */
export class RejectedDocumentsError extends TollgateError {
  /** Their places in the list that was given; the others are written. */
  readonly indexes: readonly number[];
  constructor(section: Section, indexes: readonly number[], reason: string) {
    super('TG_STORE_REJECTED', `mongodb: ${indexes.length} documents of ${section} refused: ${reason}`);
    this.indexes = indexes;
  }
}

/**
 * Owns the connection to MongoDB and knows whether it is worth asking.
 *
 *   away ── a writable server is seen and no write has failed lately ──▶ up
 *   up ── no writable server any more, or `awayAfterFailures` writes failed in a row ──▶ away
 *   away by failed writes ── the server's heartbeat is heard and a small probe write succeeds ──▶ up
 *
 * The probe stands for the batches behind it: nobody on the hot path waits for a server that hears but does not write.
 * The driver's collections are for this room only.
 */
export class MongoConnection implements Service {
  readonly #client: MongoClient;
  /** Made once: the driver works out a database's options anew for each that it is asked for. */
  readonly #db: Db;
  readonly #writeMsMax: number;
  readonly #awayAfterFailures: number;
  readonly #reconnectDelayMs: number;
  readonly #log: Log;
  readonly #listeners = new Set<(isUp: boolean) => void>();
  readonly #stopping = new AbortController();
  #connecting: Promise<void> | null = null;
  #firstAttempt: Promise<void> | null = null;
  #isReachable = false;
  #isProbing = false;
  #failuresInRow = 0;
  #lastFault = 'not connected yet';
  #wasUp = false;

  /** Milliseconds and counts come from `config.traces`; the database is the one in the path of `servers.mongoUrl`. */
  constructor(config: { readonly servers: MongoServers; readonly traces: Config['traces'] }, log: Log) {
    const { writeMsMax, spoolDrainMs, connectionsMax, awayAfterFailures } = config.traces;
    this.#client = new MongoClient(config.servers.mongoUrl, {
      ...clientOptions(config.servers, writeMsMax),
      heartbeatFrequencyMS: Math.max(HEARTBEAT_MS_MIN, spoolDrainMs),
      maxPoolSize: connectionsMax,
    });
    // int64 as bigint: the only ones we store are amounts of money.
    this.#db = this.#client.db(undefined, { useBigInt64: true, promoteBuffers: false });
    this.#writeMsMax = writeMsMax;
    this.#awayAfterFailures = awayAfterFailures;
    this.#reconnectDelayMs = spoolDrainMs;
    this.#log = log;
    this.#client.on('topologyDescriptionChanged', ({ newDescription }) => {
      if (this.#stopping.signal.aborted) return;
      const servers = [...newDescription.servers.values()];
      this.#isReachable = servers.some((server) => WRITABLE.has(server.type));
      if (!this.#isReachable) {
        this.#lastFault = servers.find((server) => server.error)?.error?.message ?? 'no writable server';
      }
      this.#consider();
    });
    this.#client.on('serverHeartbeatSucceeded', () => this.#consider());
  }

  /** Resolves when the first attempt to connect has ended, well or not; it goes on in the background until `stop`. */
  start(): Promise<void> {
    this.#firstAttempt ??= new Promise((ended) => {
      this.#connecting = this.#connect(ended);
    });
    return this.#firstAttempt;
  }

  /** Closes every connection; operations under way fail with StoreError. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#isReachable = false;
    this.#lastFault = 'stopped';
    this.#listeners.clear();
    await this.#client.close();
    await this.#connecting;
  }

  /** True while a write is expected to succeed. */
  get isUp(): boolean {
    return this.#isReachable && this.#failuresInRow < this.#awayAfterFailures;
  }

  /** Called on each change of `isUp`. Returns a function that ends the subscription. */
  onChange(listener: (isUp: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** How MongoDB stands, for `/readyz` and the metrics. */
  get dependency(): Dependency {
    return { name: 'mongodb', isUp: this.isUp, detail: this.isUp ? 'up' : this.#lastFault };
  }

  /**
   * Inserts documents that have an `_id` of their own, unordered, durable on a majority when it resolves. A document whose `_id` is
   * there already is success. Throws RejectedDocumentsError, or StoreError when it was not all done within `writeMsMax`: some of it
   * may be.
   *
   * As plain commands, because the driver's bulk measures each document before it writes it: twice the time, a tenth of all that a
   * job costs us.
   */
  async insert(section: Section, documents: readonly Document[]): Promise<void> {
    let isOver = false;
    const writeAll = async (): Promise<WriteFault[]> => {
      const faults: WriteFault[] = [];
      for (const one of commandsOf(section, documents)) {
        // Whoever asked has gone to the spool with all of it.
        if (isOver) break;
        faults.push(...(await this.#write(one)));
      }
      return faults;
    };
    try {
      refuseFaulty(section, await this.#bounded(writeAll()));
    } catch (error) {
      const failure = failureOf(error);
      if (failure instanceof StoreError) this.#noteFailure(failure);
      throw failure;
    } finally {
      isOver = true;
    }
    this.#noteSuccess();
  }

  /** One command; returns the documents that were not written. Throws what the driver throws, or StoreError. */
  async #write(one: InsertCommand): Promise<WriteFault[]> {
    try {
      if (isTooLarge(one)) return [{ index: one.from, code: TOO_LARGE }];
      return faultsOf(await this.#db.command(one.command), one.from);
    } catch (error) {
      if (!(error instanceof BSON.BSONError || error instanceof RangeError)) throw error;
      // Refused before it was sent: a value that BSON cannot hold. Which one it was is not said.
      return one.documents.map((_, i) => ({ index: one.from + i, code: error.name }));
    }
  }

  /** Reads; throws StoreError when MongoDB is away or slow. `ask` is called only when a server can be expected to answer. */
  async read<T>(ask: (db: Db) => Promise<T>): Promise<T> {
    await this.start();
    if (!this.#isReachable) throw new StoreError('mongodb', this.#lastFault);
    try {
      return await this.#bounded(ask(this.#db));
    } catch (error) {
      throw error instanceof StoreError
        ? error
        : new StoreError('mongodb', describe(error), { cause: error });
    }
  }

  /** The collection of a section, for this room only. */
  collection<S extends Section>(section: S): Collection<SectionBson[S]> {
    return this.#db.collection<SectionBson[S]>(section);
  }

  /** The driver's monitors end with a failed connect, so until the first success the attempt is made again and again. */
  async #connect(firstAttemptEnded: () => void): Promise<void> {
    if (this.#stopping.signal.aborted) return firstAttemptEnded();
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#client.connect();
        return;
      } catch (error) {
        this.#lastFault = describe(error);
        this.#log.warn({ fault: this.#lastFault }, 'mongodb cannot be reached');
      } finally {
        firstAttemptEnded();
      }
      await sleep(this.#reconnectDelayMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
    }
  }

  /** Whichever ends first: the operation, or `writeMsMax`. What loses the race ends unheard. */
  async #bounded<T>(operation: Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new StoreError('mongodb', `no answer within ${this.#writeMsMax} ms`)),
      this.#writeMsMax,
    );
    try {
      return await Promise.race([operation, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  #noteFailure(failure: StoreError): void {
    this.#failuresInRow += 1;
    this.#lastFault = failure.message;
    this.#announce();
  }

  #noteSuccess(): void {
    this.#failuresInRow = 0;
    this.#announce();
  }

  /** On each sign of life: announces, and probes a server that is there while its writes failed. */
  #consider(): void {
    this.#announce();
    if (!this.#isReachable || this.isUp || this.#isProbing || this.#stopping.signal.aborted) return;
    this.#isProbing = true;
    const probe = this.#db
      .collection<{ _id: string }>('probes')
      .updateOne({ _id: 'tollgate' }, { $currentDate: { at: true } }, { upsert: true });
    this.#bounded(probe)
      .then(
        () => this.#noteSuccess(),
        (error: unknown) => {
          this.#lastFault = describe(error);
        },
      )
      .finally(() => {
        this.#isProbing = false;
      });
  }

  #announce(): void {
    const { isUp } = this;
    if (isUp === this.#wasUp || this.#stopping.signal.aborted) return;
    this.#wasUp = isUp;
    this.#log[isUp ? 'info' : 'warn'](
      isUp ? {} : { fault: this.#lastFault },
      `mongodb is ${isUp ? 'up' : 'away'}`,
    );
    for (const listener of this.#listeners) listener(isUp);
  }
}

/** Options of every client of this room. Durable on a majority, because what is acknowledged next may be lost with it. */
export function clientOptions(servers: MongoServers, operationMsMax: number): MongoClientOptions {
  return {
    appName: 'tollgate',
    writeConcern: { w: 'majority', journal: true },
    // Our writes may be repeated as they are; the driver's own retry would cost a transaction record for each of them.
    retryWrites: false,
    connectTimeoutMS: servers.connectTimeoutMs,
    serverSelectionTimeoutMS: Math.min(servers.connectTimeoutMs, operationMsMax),
    waitQueueTimeoutMS: operationMsMax,
    socketTimeoutMS: operationMsMax,
  };
}

/** One document that an insert did not write. */
interface WriteFault {
  /** Its place in the list that was given. */
  readonly index: number;
  /** MongoDB's number, or the name of the error with which the driver refused it. */
  readonly code: number | string;
}

/**
 * What an insert's answer says of its documents, the first of which is at `from`. Throws StoreError where they are written, but not
 * on a majority.
 */
function faultsOf(answer: Document, from: number): WriteFault[] {
  if (answer['writeConcernError'] !== undefined) throw new StoreError('mongodb', 'not written on a majority');
  const faults: unknown = answer['writeErrors'] ?? [];
  if (!Array.isArray(faults)) throw new StoreError('mongodb', 'an answer without meaning');
  return faults.map((fault: Document) => ({
    index: from + Number(fault['index']),
    code: Number(fault['code']),
  }));
}

/** Duplicates are success. Throws StoreError for what passes, otherwise RejectedDocumentsError for what does not. */
function refuseFaulty(section: Section, faults: readonly WriteFault[]): void {
  const real = faults.filter(({ code }) => code !== DUPLICATE_KEY);
  const passing = real.find(({ code }) => PASSING_FAULTS.has(code));
  if (passing !== undefined) throw new StoreError('mongodb', `write error ${passing.code}`);
  const [first] = real;
  if (first === undefined) return;
  const indexes = real.map(({ index }) => index);
  throw new RejectedDocumentsError(section, indexes, `code ${first.code}`);
}

/** What an insert that threw means. The driver's errors may carry documents, so none of them becomes a `cause` of a refusal. */
function failureOf(error: unknown): StoreError | RejectedDocumentsError {
  if (error instanceof StoreError || error instanceof RejectedDocumentsError) return error;
  return new StoreError('mongodb', describe(error), { cause: error });
}

/** Class, code and message of what the driver threw; none of its messages quotes a document. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown fault';
  const code = error instanceof MongoServerError && error.code !== undefined ? ` ${error.code}` : '';
  return `${error.name}${code}: ${error.message}`;
}
