import { invariant } from '../errors.ts';
import { SqlRejection } from '../postgres/failures.ts';

/**
 * Runs a batch; where one row's values make PostgreSQL refuse all of it (class 22 or 23: a NUL in a text, a broken check),
 * halves it until that row stands alone and gives it the answer of `poisoned`. The others are served. Repeating the good half
 * is harmless: every batch here is idempotent by its ids.
 */
export async function servedWithoutPoison<Request, Answer>(
  requests: readonly Request[],
  run: (requests: readonly Request[]) => Promise<Answer[]>,
  poisoned: (request: Request, rejection: SqlRejection) => Answer,
): Promise<Answer[]> {
  const [only] = requests;
  if (only === undefined) return [];
  try {
    return await run(requests);
  } catch (error) {
    if (!(error instanceof SqlRejection) || !error.isAboutValues) throw error;
    if (requests.length === 1) return [poisoned(only, error)];
    const half = Math.ceil(requests.length / 2);
    return [
      ...(await servedWithoutPoison(requests.slice(0, half), run, poisoned)),
      ...(await servedWithoutPoison(requests.slice(half), run, poisoned)),
    ];
  }
}

/** Rows that came back in no order, by the id of their job; the ids of one batch must be distinct. */
export function byId<Row>(
  rows: readonly Row[],
  idOf: (row: Row) => string,
  requests: readonly { readonly jobId: string }[],
): ReadonlyMap<string, Row> {
  invariant(
    new Set(requests.map((request) => request.jobId)).size === requests.length,
    'the jobs of one batch are distinct',
  );
  return new Map(rows.map((row) => [idOf(row), row]));
}
