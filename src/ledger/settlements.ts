import { InvariantError, invariant } from '../errors.ts';
import type { Log } from '../ops/types.ts';
import type { Database } from '../postgres/database.ts';
import { byId, servedWithoutPoison } from './batch.ts';
import { type DescriptionRow, endedOf } from './rows.ts';
import type { SettleAnswer, Settlements, SettleRequest } from './types.ts';

/** One answer of `settle_batch`; all of the job is null where the answer is `unknown`. */
interface SettleRow extends DescriptionRow {
  readonly id: string;
  readonly answer: SettleAnswer['kind'];
}

function settleAnswerOf(row: SettleRow): SettleAnswer {
  switch (row.answer) {
    case 'settled':
    case 'same':
      return { kind: row.answer, job: endedOf(row), isCapped: row.is_over_limits };
    case 'late':
      return { kind: 'late', namespace: row.namespace, state: row.state };
    case 'stale':
    case 'different':
      return { kind: row.answer, namespace: row.namespace };
    case 'unknown':
      return { kind: 'unknown' };
    default:
      throw new InvariantError(`unknown answer ${String(row.answer satisfies never)}`);
  }
}

/** Settlement of results, with the settler's role. Idempotent by job id and result digest. Throws as `CreditLocksPg`. */
export class SettlementsPg implements Settlements {
  readonly #log: Log;
  readonly #db: Database;

  constructor(log: Log, db: Database) {
    this.#log = log;
    this.#db = db;
  }

  /** Captures or voids the lock of each result whose fence matches. A row PostgreSQL cannot take is answered `unknown`. */
  settleBatch(requests: readonly SettleRequest[]): Promise<SettleAnswer[]> {
    return servedWithoutPoison<SettleRequest, SettleAnswer>(
      requests,
      async (batch) => {
        const rows = await this.#db.query<SettleRow>('settle_batch', [
          batch.map((request) => request.jobId),
          batch.map((request) => request.attempt),
          batch.map((request) => request.node),
          batch.map((request) => request.session),
          batch.map((request) => request.status === 'completed'),
          batch.map((request) => request.inputTokens),
          batch.map((request) => request.outputTokens),
          batch.map((request) => request.digest),
        ]);
        const answers = byId(rows, (row) => row.id, batch);
        return batch.map(({ jobId }) => {
          const row = answers.get(jobId);
          invariant(row !== undefined, `settle_batch gave no answer for ${jobId}`);
          return settleAnswerOf(row);
        });
      },
      ({ jobId }, rejection) => {
        this.#log.error({ jobId, sqlState: rejection.sqlState }, 'PostgreSQL cannot take this result');
        return { kind: 'unknown' };
      },
    );
  }
}
