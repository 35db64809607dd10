import type { Database } from '../postgres/database.ts';

/**
 * A right that one coordinator has at a time, kept in PostgreSQL and by its clock. It ends by itself when it is not prolonged.
 * The term is what protects: whoever held it before may still believe to, so every write names its term (`writeFenced`).
 */
export class Lease {
  readonly name: string;
  readonly #db: Database;
  readonly #owner: string;
  readonly #ttlMs: number;

  /** `db`: role tollgate_maintainer. `owner` names this coordinator, another one with every start. */
  constructor(name: string, db: Database, owner: string, ttlMs: number) {
    this.name = name;
    this.#db = db;
    this.#owner = owner;
    this.#ttlMs = ttlMs;
  }

  /** Takes or prolongs it: the term, or null while another has it. Idempotent. Throws StoreError, SqlRejection. */
  async take(): Promise<bigint | null> {
    const [row] = await this.#db.query<{ term: bigint | null }>('take_lease', [
      this.name,
      this.#owner,
      this.#ttlMs,
    ]);
    return row?.term ?? null;
  }

  /** Gives back what was taken in `term`, so that the next owner need not wait. Idempotent. Throws as `take`. */
  async release(term: bigint): Promise<void> {
    await this.#db.query('release_lease', [this.name, term]);
  }
}
