import { TollgateError } from '../errors.ts';
import type { Database } from './database.ts';
import { SqlRejection } from './failures.ts';

/** What every write of maintenance carries: a lease, and the term in which its owner held it when the work began. */
export interface Fence {
  readonly lease: string;
  readonly term: bigint;
}

/** What `maintenance.hold_lease` raises. */
const TERM_OVER = 'TG001';

/**
 * Runs a statement whose function checks the fence in its own transaction; `params` follow lease and term. Throws TollgateError
 * TG_LEASE_LOST when another owner has taken over: then nothing was changed. Otherwise throws as `Database.query`.
 */
export async function writeFenced<Row extends object>(
  db: Database,
  name: string,
  fence: Fence,
  params: readonly unknown[] = [],
): Promise<Row[]> {
  try {
    return await db.query<Row>(name, [fence.lease, fence.term, ...params]);
  } catch (error) {
    if (error instanceof SqlRejection && error.sqlState === TERM_OVER)
      throw new TollgateError('TG_LEASE_LOST', error.message, { cause: error });
    throw error;
  }
}
