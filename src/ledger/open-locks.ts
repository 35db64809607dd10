import type { Database } from '../postgres/database.ts';

interface OpenLocksRow {
  readonly account_id: number;
  readonly open: number;
}

/** How many credit locks each of these accounts has open now; O(open jobs). Throws StoreError when PostgreSQL is away. */
export async function countOpenLocks(
  db: Database,
  accountIds: readonly number[],
): Promise<ReadonlyMap<number, number>> {
  const rows = await db.query<OpenLocksRow>('count_open_locks', [accountIds]);
  return new Map(rows.map((row) => [row.account_id, row.open]));
}
