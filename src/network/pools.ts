import type { Database } from '../postgres/database.ts';
import type { Wanted } from './types.ts';

/**
 * The record of pools with a constraint, with the dispatcher's role. Throws StoreError when PostgreSQL is away. What is opened
 * reaches the directory of each coordinator by itself.
 */
export class PoolRecords {
  readonly #db: Database;
  readonly #poolsMax: number;

  /** `poolsMax`: no more than this are open over all models. */
  constructor(db: Database, poolsMax: number) {
    this.#db = db;
    this.#poolsMax = poolsMax;
  }

  /** Opens pools, distinct ones, as far as there is room. Returns how many were opened by this call. Idempotent. */
  async open(wanted: readonly Wanted[]): Promise<number> {
    const [row] = await this.#db.query<{ opened: number }>('open_pools', [
      wanted.map(({ model }) => model),
      wanted.map(({ region }) => region),
      wanted.map(({ vramGb }) => vramGb),
      this.#poolsMax,
    ]);
    return row?.opened ?? 0;
  }
}
