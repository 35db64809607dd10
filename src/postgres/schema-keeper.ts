import { StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';
import type { Database } from './database.ts';
import { type Fence, writeFenced } from './fenced.ts';
import { verifySchema } from './migrate.ts';

/** Keeps a coordinator off a schema that is not its own, and off one without partitions for the jobs of these days. */
export class SchemaKeeper implements Service {
  readonly #db: Database;
  readonly #log: Log;

  constructor(db: Database, log: Log) {
    this.#db = db;
    this.#log = log;
  }

  /** Throws TG_SCHEMA_MISMATCH if the schema is older or newer than this version, StoreError when PostgreSQL is away. */
  async start(): Promise<void> {
    await verifySchema(this.#db);
    await this.#makePartitions();
  }

  async stop(): Promise<void> {}

  async #makePartitions(): Promise<void> {
    try {
      const [row] = await this.#db.query<{ made: number }>('ensure_partitions');
      if (row && row.made > 0) this.#log.info({ made: row.made }, 'monthly partitions made');
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.error({ reason: error.message }, 'monthly partitions not made; maintenance tries again');
    }
  }
}

/** Makes the monthly partitions that are missing, as the owner of maintenance. Idempotent. Throws as `writeFenced`. */
export async function makePartitions(db: Database, fence: Fence): Promise<{ made: number }> {
  const [row] = await writeFenced<{ made: number }>(db, 'ensure_partitions_fenced', fence);
  return { made: row?.made ?? 0 };
}
