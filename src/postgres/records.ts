import { TollgateError } from '../errors.ts';
import type { Database } from './database.ts';
import { SqlRejection } from './failures.ts';

const NOT_FOUND = 'P0002';
const DUPLICATE = '23505';

/**
 * Runs an operator's statement. Throws TollgateError TG_NOT_FOUND for a record that is not there, TG_ALREADY_EXISTS for one
 * that is there already, otherwise as `Database.query`.
 */
export async function changeRecords<Row extends object>(
  db: Database,
  name: string,
  params: readonly unknown[],
): Promise<Row[]> {
  try {
    return await db.query<Row>(name, params);
  } catch (error) {
    if (error instanceof SqlRejection && error.sqlState === NOT_FOUND)
      throw new TollgateError('TG_NOT_FOUND', error.message, { cause: error });
    if (error instanceof SqlRejection && error.sqlState === DUPLICATE)
      throw new TollgateError('TG_ALREADY_EXISTS', error.message, { cause: error });
    throw error;
  }
}

/** The only row of a statement that always answers one. */
export async function changeRecord<Row extends object>(
  db: Database,
  name: string,
  params: readonly unknown[],
): Promise<Row> {
  const [row] = await changeRecords<Row>(db, name, params);
  if (row === undefined) throw new TollgateError('TG_NOT_FOUND', `${name} answered nothing`);
  return row;
}
