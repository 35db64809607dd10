import { StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';
import type { Database } from './database.ts';
import { verifySchema } from './migrate.ts';

/** Partitions stand three months ahead; looking four times a day leaves weeks to notice a failure. In milliseconds. */
const LOOK_EVERY_MS = 6 * 60 * 60 * 1_000;

/** Keeps a coordinator off a schema that is not its own, and the monthly partitions ahead of the calendar. */
export class SchemaKeeper implements Service {
  readonly #db: Database;
  readonly #log: Log;
  #timer: NodeJS.Timeout | null = null;

  constructor(db: Database, log: Log) {
    this.#db = db;
    this.#log = log;
  }

  /** Throws TG_SCHEMA_MISMATCH if the schema is older or newer than this version, StoreError when PostgreSQL is away. */
  async start(): Promise<void> {
    await verifySchema(this.#db);
    await this.#makePartitions();
    this.#timer ??= setInterval(() => void this.#makePartitions(), LOOK_EVERY_MS);
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  async #makePartitions(): Promise<void> {
    try {
      const [row] = await this.#db.query<{ made: number }>('ensure_partitions');
      if (row && row.made > 0) this.#log.info({ made: row.made }, 'monthly partitions made');
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.error({ reason: error.message }, 'monthly partitions not made; tried again later');
    }
  }
}
