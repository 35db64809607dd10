import type { Config } from '../config-schema.ts';
import { InvariantError, invariant } from '../errors.ts';
import type { Log } from '../ops/types.ts';
import type { Database } from '../postgres/database.ts';
import { byId, servedWithoutPoison } from './batch.ts';
import { type AnswerRow, existingOf, identityColumns } from './rows.ts';
import type {
  CreditLocks,
  EndUnlockedAnswer,
  EndUnlockedRequest,
  ExistingJob,
  JobIdentity,
  LockAnswer,
  LockRequest,
} from './types.ts';

/** A row that PostgreSQL will never take, alone in its transaction: nothing was written for it. */
const REJECTED = { kind: 'refused', code: 'TG_STORE_REJECTED', isRecorded: false } as const;

function lockAnswerOf(row: AnswerRow): LockAnswer {
  switch (row.answer) {
    case 'new':
      invariant(row.node !== null && row.session !== null, 'a new lock names its worker');
      return {
        kind: 'new',
        attempt: 1,
        node: row.node,
        session: Number(row.session),
        startMs: row.start_ms ?? 0,
        remainingMs: row.remaining_ms ?? 0,
        amountMicro: row.locked_micro ?? 0n,
      };
    case 'refused':
      invariant(row.code !== null, 'a refusal has a code');
      return { kind: 'refused', code: row.code, isRecorded: row.state === 'refused' };
    case 'repriced':
      return { kind: 'repriced' };
    case 'exists':
    case 'body':
    case 'account':
      return existingOf(row);
    default:
      throw new InvariantError(`unknown answer ${String(row.answer satisfies never)}`);
  }
}

/**
 * Credit locks, with the dispatcher's role. Each call is one transaction that has committed when its promise resolves; see
 * `sql/README.md` for what it locks and in which order. Idempotent by job id. Throws StoreError when PostgreSQL is away,
 * slow or deadlocked beyond its retries: then the outcome is unknown and the same call must be made again.
 */
export class CreditLocksPg implements CreditLocks {
  readonly #db: Database;
  readonly #config: Config['ledger'];
  readonly #log: Log;

  constructor(config: Config['ledger'], log: Log, db: Database) {
    this.#config = config;
    this.#log = log;
    this.#db = db;
  }

  /** Sets credits aside for attempt 1 of each job. A row that PostgreSQL cannot take is refused TG_STORE_REJECTED. */
  lockBatch(requests: readonly LockRequest[]): Promise<LockAnswer[]> {
    return servedWithoutPoison(
      requests,
      async (batch) => {
        const rows = await this.#db.query<AnswerRow>('lock_batch', [
          ...identityColumns(batch),
          batch.map((request) => request.modelVersionId),
          batch.map((request) => request.inputTokensMax),
          batch.map((request) => request.outputTokensMax),
          batch.map((request) => request.timeoutMs),
          batch.map((request) => request.attemptsMax),
          batch.map((request) => request.node),
          batch.map((request) => request.session),
          batch.map((request) => request.poolSuffix ?? null),
          this.#config.startWindowMs,
          this.#config.deadlineGraceMs,
        ]);
        const answers = byId(rows, (row) => row.job_id, batch);
        return batch.map(({ jobId }) => {
          const row = answers.get(jobId);
          invariant(row !== undefined, `lock_batch gave no answer for ${jobId}`);
          return lockAnswerOf(row);
        });
      },
      ({ jobId }, rejection) => {
        this.#log.error({ jobId, sqlState: rejection.sqlState }, 'PostgreSQL cannot take this job');
        return REJECTED;
      },
    );
  }

  /** Reads what lockBatch would answer for ids that have a row; null for the others. Writes and locks nothing. */
  async lookUpBatch(
    jobs: readonly Pick<JobIdentity, 'jobId' | 'accountId' | 'digest'>[],
  ): Promise<(ExistingJob | { kind: 'conflict'; field: 'body' | 'account' } | null)[]> {
    if (jobs.length === 0) return [];
    const rows = await this.#db.query<AnswerRow>('look_up_batch', [
      jobs.map((job) => job.jobId),
      jobs.map((job) => job.accountId),
      jobs.map((job) => job.digest),
    ]);
    const answers = byId(rows, (row) => row.job_id, jobs);
    return jobs.map(({ jobId }) => {
      const row = answers.get(jobId);
      return row === undefined ? null : existingOf(row);
    });
  }

  /** Remembers refusals and expiries of jobs that were never locked; `recorded` goes to the inserter alone. */
  endUnlockedBatch(requests: readonly EndUnlockedRequest[]): Promise<EndUnlockedAnswer[]> {
    return servedWithoutPoison<EndUnlockedRequest, EndUnlockedAnswer>(
      requests,
      async (batch) => {
        const rows = await this.#db.query<AnswerRow>('end_unlocked_batch', [
          ...identityColumns(batch),
          batch.map((request) => request.state),
          batch.map((request) => request.code),
        ]);
        const answers = byId(rows, (row) => row.job_id, batch);
        return batch.map(({ jobId }) => {
          const row = answers.get(jobId);
          invariant(row !== undefined, `end_unlocked_batch gave no answer for ${jobId}`);
          if (row.answer === 'new') return { kind: 'recorded' };
          if (row.answer === 'refused')
            return { kind: 'refused', code: row.code ?? 'TG_JOB_ID_WINDOW', isRecorded: false };
          return existingOf(row);
        });
      },
      ({ jobId }, rejection) => {
        this.#log.error({ jobId, sqlState: rejection.sqlState }, 'PostgreSQL cannot take this refusal');
        return REJECTED;
      },
    );
  }
}
