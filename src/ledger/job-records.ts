import type { Code } from '../errors.ts';
import type { Database } from '../postgres/database.ts';
import type { JobState } from './types.ts';

/**
 * Everything PostgreSQL knows of one job, for people: no prompt and no answer. Times are ms since 1970, amounts micro-credits,
 * prices micro-credits per 1,000,000 tokens. What a job that was never locked does not have is null.
 */
export interface JobRecord {
  readonly jobId: string;
  readonly state: JobState;
  /** Why it was refused, expired or failed. */
  readonly code: Code | null;
  readonly kind: string;
  readonly priority: string;
  readonly account: string | null;
  readonly namespace: string | null;
  readonly publisher: string | null;
  readonly model: string | null;
  /** Of its constraint, `~r.eu-west~v.24`; null: it had none. */
  readonly poolSuffix: string | null;
  /** 1, 2, … of its model; `modelVersionId` is the one that messages carry. */
  readonly modelVersion: number | null;
  readonly modelVersionId: number | null;
  readonly inputPriceMicro: bigint | null;
  readonly outputPriceMicro: bigint | null;
  readonly inputTokensMax: number | null;
  readonly outputTokensMax: number | null;
  readonly timeoutMs: number | null;
  /** Tokens of the result that was settled. */
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  /** 0: it never had one. */
  readonly attempt: number;
  readonly attemptsMax: number | null;
  readonly node: string | null;
  readonly session: number | null;
  /** How the last attempt ended: by a result (completed, failed) or without one. */
  readonly outcome: 'completed' | 'failed' | 'lost' | 'expired' | null;
  readonly replyOwed: boolean;
  readonly createdAtMs: number;
  readonly startByMs: number | null;
  readonly deadlineAtMs: number | null;
  readonly endedAtMs: number | null;
  readonly lockedMicro: bigint;
  readonly chargedMicro: bigint;
  /** When the lock was written, and when that transaction committed (null: the server does not track it). */
  readonly lockedAtMs: number | null;
  readonly lockCommittedAtMs: number | null;
  /** How the credit lock ended; null while it is held, and for jobs that never had one. */
  readonly resolution: 'captured' | 'voided' | 'expired' | null;
  readonly resolutionMicro: bigint | null;
  readonly resolvedAtMs: number | null;
  readonly resolutionCommittedAtMs: number | null;
  /** Hex; null when it ended without a result. */
  readonly resultDigest: string | null;
}

interface StoryRow {
  readonly job_id: string;
  readonly state: JobState;
  readonly code: Code | null;
  readonly kind: string;
  readonly priority: string;
  readonly account: string | null;
  readonly namespace: string | null;
  readonly publisher: string | null;
  readonly model: string | null;
  readonly pool_suffix: string | null;
  readonly model_version: number | null;
  readonly model_version_id: number | null;
  readonly input_price_micro: bigint | null;
  readonly output_price_micro: bigint | null;
  readonly input_tokens_max: number | null;
  readonly output_tokens_max: number | null;
  readonly timeout_ms: number | null;
  readonly input_tokens: number | null;
  readonly output_tokens: number | null;
  readonly attempt: number;
  readonly attempts_max: number | null;
  readonly node: string | null;
  readonly session: bigint | null;
  readonly outcome: JobRecord['outcome'];
  readonly reply_owed: boolean;
  readonly created_at: Date;
  readonly start_by: Date | null;
  readonly deadline: Date | null;
  readonly ended_at: Date | null;
  readonly locked_micro: bigint;
  readonly charged_micro: bigint;
  readonly lock_at: Date | null;
  readonly lock_committed_at: Date | null;
  readonly resolution: 'capture' | 'void' | 'expire' | null;
  readonly resolution_micro: bigint | null;
  readonly resolution_at: Date | null;
  readonly resolution_committed_at: Date | null;
  readonly result_digest: Buffer | null;
}

const RESOLUTION = { capture: 'captured', void: 'voided', expire: 'expired' } as const;

const msOf = (at: Date | null): number | null => (at === null ? null : at.getTime());

function recordOf(row: StoryRow): JobRecord {
  return {
    jobId: row.job_id,
    state: row.state,
    code: row.code,
    kind: row.kind,
    priority: row.priority,
    account: row.account,
    namespace: row.namespace,
    publisher: row.publisher,
    model: row.model,
    poolSuffix: row.pool_suffix,
    modelVersion: row.model_version,
    modelVersionId: row.model_version_id,
    inputPriceMicro: row.input_price_micro,
    outputPriceMicro: row.output_price_micro,
    inputTokensMax: row.input_tokens_max,
    outputTokensMax: row.output_tokens_max,
    timeoutMs: row.timeout_ms,
    inputTokens: row.input_tokens,
    outputTokens: row.output_tokens,
    attempt: row.attempt,
    attemptsMax: row.attempts_max,
    node: row.node,
    session: row.session === null ? null : Number(row.session),
    outcome: row.outcome,
    replyOwed: row.reply_owed,
    createdAtMs: row.created_at.getTime(),
    startByMs: msOf(row.start_by),
    deadlineAtMs: msOf(row.deadline),
    endedAtMs: msOf(row.ended_at),
    lockedMicro: row.locked_micro,
    chargedMicro: row.charged_micro,
    lockedAtMs: msOf(row.lock_at),
    lockCommittedAtMs: msOf(row.lock_committed_at),
    resolution: row.resolution === null ? null : RESOLUTION[row.resolution],
    resolutionMicro: row.resolution_micro,
    resolvedAtMs: msOf(row.resolution_at),
    resolutionCommittedAtMs: msOf(row.resolution_committed_at),
    resultDigest: row.result_digest?.toString('hex') ?? null,
  };
}

/** Reads single jobs for `tollgate job show`. Roles: dispatcher, operator, auditor. */
export class JobRecords {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** The record of a job; null for an id without a row. Throws StoreError when PostgreSQL is away. */
  async find(jobId: string): Promise<JobRecord | null> {
    const [row] = await this.#db.query<StoryRow>('read_job_story', [jobId]);
    return row === undefined ? null : recordOf(row);
  }
}
