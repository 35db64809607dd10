import type { Database } from '../postgres/database.ts';

/** Publishers that are cut off for flooding, with the dispatcher's role. Throws StoreError when PostgreSQL is away. */
export class PublisherBansPg {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Cuts a publisher off for `holdOffMs` from now; false where it was cut off already. Never makes a cut-off shorter. */
  async ban(publisherId: number, holdOffMs: number): Promise<boolean> {
    const [row] = await this.#db.query<{ is_new: boolean }>('ban_publisher', [publisherId, holdOffMs]);
    return row?.is_new ?? false;
  }

  /** Forgets a cut-off that is over, on PostgreSQL's clock; false where there is none. Idempotent. */
  async lift(publisherId: number): Promise<boolean> {
    const [row] = await this.#db.query<{ is_lifted: boolean }>('lift_ban', [publisherId]);
    return row?.is_lifted ?? false;
  }
}
