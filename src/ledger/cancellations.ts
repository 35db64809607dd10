import { invariant } from '../errors.ts';
import type { Database } from '../postgres/database.ts';
import { byId } from './batch.ts';
import { type DescriptionRow, endedOf } from './rows.ts';
import type { CancelAnswer, Cancellations, CancelRequest } from './types.ts';

/** One answer of `cancel_batch`; all of the job is null where the answer is `window`. */
interface CancelRow extends DescriptionRow {
  readonly id: string;
  readonly answer: CancelAnswer['kind'];
}

function cancelAnswerOf(row: CancelRow): CancelAnswer {
  if (row.answer === 'cancelled') return { kind: 'cancelled', job: endedOf(row) };
  if (row.answer === 'ended') return { kind: 'ended', state: row.state };
  return { kind: row.answer };
}

/** Cancellation of jobs for their account, with the dispatcher's role. Idempotent by id. Throws as `AttemptsPg`. */
export class CancellationsPg implements Cancellations {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Ends locked jobs without a charge, reply owed; remembers ids that no job has come for yet. */
  async cancelBatch(requests: readonly CancelRequest[]): Promise<CancelAnswer[]> {
    if (requests.length === 0) return [];
    const rows = await this.#db.query<CancelRow>('cancel_batch', [
      requests.map(({ jobId }) => jobId),
      requests.map(({ accountId }) => accountId),
      requests.map(({ namespaceId }) => namespaceId),
      requests.map(({ publisherId }) => publisherId),
    ]);
    const answers = byId(rows, (row) => row.id, requests);
    return requests.map(({ jobId }) => {
      const row = answers.get(jobId);
      invariant(row !== undefined, `cancel_batch gave no answer for ${jobId}`);
      return cancelAnswerOf(row);
    });
  }
}
