import type { Database } from '../postgres/database.ts';
import { changeRecord } from '../postgres/records.ts';
import { type ModelVersionRow, modelVersionOf } from './rows.ts';
import type { ModelVersion } from './types.ts';

/** Prices in micro-credits per 1,000,000 tokens, at most 10,000,000,000; null: no price, the model cannot be used. */
export interface Prices {
  readonly inputPriceMicro: bigint | null;
  readonly outputPriceMicro: bigint | null;
}

/** The largest job a model takes: tokens at most 10,000,000 each, milliseconds 1,000 to 3,600,000. */
export interface ModelLimits {
  readonly inputTokensMax: number;
  readonly outputTokensMax: number;
  readonly timeoutMsMax: number;
}

/**
 * Models and their versions, for operators: role tollgate_operator. A version never changes; a new price is a new version, and
 * what was locked under the old one is settled at the old price. Throws TG_NOT_FOUND and TG_ALREADY_EXISTS as TollgateError,
 * SqlRejection for a number out of bounds, StoreError when PostgreSQL is away.
 */
export class Models {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Adds a model; returns the id of its version 1. Its queues are made elsewhere. */
  async add(model: { readonly name: string } & Prices & ModelLimits): Promise<number> {
    const row = await changeRecord<{ id: number }>(this.#db, 'add_model', [
      model.name,
      model.inputPriceMicro,
      model.outputPriceMicro,
      model.inputTokensMax,
      model.outputTokensMax,
      model.timeoutMsMax,
    ]);
    return row.id;
  }

  /** Puts a version with these prices in place of the active one; returns its id. */
  async setPrice(name: string, prices: Prices): Promise<number> {
    const row = await changeRecord<{ id: number }>(this.#db, 'set_price', [
      name,
      prices.inputPriceMicro,
      prices.outputPriceMicro,
    ]);
    return row.id;
  }

  /** The active version of every model, in the order they were made. */
  async list(): Promise<ModelVersion[]> {
    const rows = await this.#db.query<ModelVersionRow>('read_changed_model_versions', [0]);
    return rows.filter((row) => !row.is_retired).map(modelVersionOf);
  }
}
