import type { Config } from '../config-schema.ts';
import { type Code, InvariantError, invariant } from '../errors.ts';
import type { Log } from '../ops/types.ts';
import type { Database } from '../postgres/database.ts';
import { byId, servedWithoutPoison } from './batch.ts';
import { type AnswerRow, type DescriptionRow, endedOf, existingOf } from './rows.ts';
import type {
  AttemptName,
  Attempts,
  FailureClass,
  GivenUp,
  GiveUpAnswer,
  GiveUpRequest,
  JobState,
  OwedAttempt,
  PlaceAnswer,
  PlaceRequest,
  RetryAlarm,
  RetryFacts,
} from './types.ts';

/** One answer of `give_up_batch`; all of the job is null where the answer is `unknown`. */
interface GiveUpRow extends DescriptionRow {
  readonly id: string;
  readonly answer: 'retry' | 'retried' | 'ended' | 'same' | 'late' | 'stale' | 'different' | 'unknown';
  readonly next_attempt: number;
  readonly retry_ms: number | null;
  readonly remaining_ms: number;
  readonly pool: string;
  readonly priority: 'interactive' | 'batch';
}

interface RetryRow {
  readonly job_id: string;
  readonly state: JobState;
  readonly attempt: number;
  readonly node: string | null;
  readonly namespace: string;
  readonly model_version_id: number | null;
  readonly remaining_ms: number;
  readonly tried: readonly string[];
  readonly last_class: FailureClass | null;
  readonly last_code: Code | null;
  readonly last_node: string | null;
}

interface AlarmRow {
  readonly job_id: string;
  readonly attempt: number;
  readonly pool: string;
  readonly priority: 'interactive' | 'batch';
  readonly remaining_ms: number;
}

interface OwedRow extends AlarmRow {
  readonly node: string;
  readonly session: bigint;
  readonly outcome: 'failed' | 'lost';
  readonly class: FailureClass;
  readonly code: Code;
  readonly is_counted: boolean;
  readonly ended_at_ms: number;
  readonly namespace: string;
  readonly locked_micro: bigint;
  readonly next_attempt: number;
  readonly retry_ms: number | null;
}

/** An attempt that is due this long ago and still has no node is looked after, in milliseconds: its alarm may be lost. */
const ALARM_GRACE_MS = 2_000;

function alarmOf(
  row: Pick<GiveUpRow, 'pool' | 'priority' | 'remaining_ms' | 'next_attempt' | 'retry_ms'>,
  jobId: string,
): RetryAlarm | null {
  if (row.retry_ms === null) return null;
  return {
    jobId,
    attempt: row.next_attempt,
    pool: row.pool,
    priority: row.priority,
    delayMs: row.retry_ms,
    remainingMs: row.remaining_ms,
  };
}

function givenUpOf(request: AttemptName, row: GiveUpRow): GivenUp {
  const { jobId, attempt, node, session } = request;
  return {
    jobId,
    attempt,
    node,
    session,
    namespace: row.namespace,
    lockedMicro: row.locked_micro,
    nextAttempt: attempt + 1,
    alarm: alarmOf(row, jobId),
  };
}

function giveUpAnswerOf(request: AttemptName, row: GiveUpRow): GiveUpAnswer {
  const { answer } = row;
  switch (answer) {
    case 'retry':
    case 'retried':
      return { kind: 'retry', isFirst: answer === 'retry', givenUp: givenUpOf(request, row) };
    case 'ended':
    case 'same':
      return { kind: 'ended', isFirst: answer === 'ended', job: endedOf(row) };
    case 'late':
    case 'stale':
    case 'different':
      return { kind: answer, namespace: row.namespace };
    case 'unknown':
      return { kind: 'unknown' };
    default:
      throw new InvariantError(`unknown answer ${String(answer satisfies never)}`);
  }
}

function placeAnswerOf(row: AnswerRow & { readonly answer: string }): PlaceAnswer {
  if (row.answer === 'new')
    return { kind: 'placed', startMs: row.start_ms ?? 0, remainingMs: row.remaining_ms ?? 0 };
  if (row.answer === 'repriced') return { kind: 'unpayable' };
  const existing = existingOf(row);
  invariant(existing.kind === 'exists', 'a placement asks by id alone');
  return existing;
}

/**
 * The attempts behind the first, with the dispatcher's role: giving up, placing, and what is due. One transaction per call;
 * `sql/README.md` says what each locks. Throws StoreError when PostgreSQL is away: then the outcome is unknown, and the same
 * call must be made again.
 */
export class AttemptsPg implements Attempts {
  readonly #config: Pick<Config['ledger'], 'startWindowMs' | 'uncountedMax'>;
  readonly #log: Log;
  readonly #db: Database;

  constructor(config: Pick<Config['ledger'], 'startWindowMs' | 'uncountedMax'>, log: Log, db: Database) {
    this.#config = config;
    this.#log = log;
    this.#db = db;
  }

  /** Moves the fence to the next attempt or ends the job, whichever its tries and its time allow. Idempotent by attempt and digest. */
  giveUpBatch(requests: readonly GiveUpRequest[]): Promise<GiveUpAnswer[]> {
    return servedWithoutPoison<GiveUpRequest, GiveUpAnswer>(
      requests,
      async (batch) => {
        const rows = await this.#db.query<GiveUpRow>('give_up_batch', [
          ...nameColumns(batch),
          batch.map((request) => request.outcome),
          batch.map((request) => request.class),
          batch.map((request) => request.code),
          batch.map((request) => request.isCounted),
          batch.map((request) => request.delayMs),
          batch.map((request) => request.digest),
          batch.map((request) => request.isOwed),
          this.#config.uncountedMax,
        ]);
        const answers = byId(rows, (row) => row.id, batch);
        return batch.map((request) => {
          const row = answers.get(request.jobId);
          invariant(row !== undefined, `give_up_batch gave no answer for ${request.jobId}`);
          return giveUpAnswerOf(request, row);
        });
      },
      ({ jobId }, rejection) => {
        this.#log.error({ jobId, sqlState: rejection.sqlState }, 'PostgreSQL cannot take this failure');
        return { kind: 'unknown' };
      },
    );
  }

  /** Reads what later attempts need; null for an id without a job. */
  async readRetries(jobIds: readonly string[]): Promise<(RetryFacts | null)[]> {
    if (jobIds.length === 0) return [];
    const rows = await this.#db.query<RetryRow>('read_retries', [jobIds]);
    const found = new Map(rows.map((row) => [row.job_id, row]));
    return jobIds.map((jobId) => {
      const row = found.get(jobId);
      return row === undefined || row.model_version_id === null ? null : factsOf(row, row.model_version_id);
    });
  }

  /** Gives nodes to attempts that wait for one and sets their start window. Idempotent by attempt. */
  async placeBatch(requests: readonly PlaceRequest[]): Promise<PlaceAnswer[]> {
    if (requests.length === 0) return [];
    const rows = await this.#db.query<AnswerRow>('place_batch', [
      ...nameColumns(requests),
      requests.map((request) => request.modelVersionId),
      this.#config.startWindowMs,
    ]);
    const answers = byId(rows, (row) => row.job_id, requests);
    return requests.map(({ jobId }) => {
      const row = answers.get(jobId);
      return row === undefined ? null : placeAnswerOf(row);
    });
  }

  async claimRetries(limit: number): Promise<RetryAlarm[]> {
    const rows = await this.#db.query<AlarmRow>('claim_retries', [limit, ALARM_GRACE_MS]);
    return rows.map(({ job_id: jobId, attempt, pool, priority, remaining_ms: remainingMs }) => ({
      jobId,
      attempt,
      pool,
      priority,
      delayMs: 0,
      remainingMs,
    }));
  }

  async owedAttempts(limit: number): Promise<OwedAttempt[]> {
    const rows = await this.#db.query<OwedRow>('read_owed_attempts', [limit]);
    return rows.map((row) => ({
      jobId: row.job_id,
      attempt: row.attempt,
      node: row.node,
      session: Number(row.session),
      outcome: row.outcome,
      class: row.class,
      code: row.code,
      isCounted: row.is_counted,
      endedAtMs: row.ended_at_ms,
      namespace: row.namespace,
      lockedMicro: row.locked_micro,
      nextAttempt: row.next_attempt,
      alarm: alarmOf(row, row.job_id),
    }));
  }

  /** Says that slot, trace and alarm of these were seen to. Idempotent. */
  async clearOwedAttempts(attempts: readonly Pick<AttemptName, 'jobId' | 'attempt'>[]): Promise<void> {
    if (attempts.length === 0) return;
    await this.#db.query('clear_owed_attempts', [
      attempts.map(({ jobId }) => jobId),
      attempts.map(({ attempt }) => attempt),
    ]);
  }
}

/** The four columns of the fence, as parallel arrays. */
function nameColumns(names: readonly AttemptName[]): unknown[][] {
  return [
    names.map(({ jobId }) => jobId),
    names.map(({ attempt }) => attempt),
    names.map(({ node }) => node),
    names.map(({ session }) => session),
  ];
}

function factsOf(row: RetryRow, modelVersionId: number): RetryFacts {
  const { last_class: failureClass, last_code: code, last_node: node } = row;
  return {
    jobId: row.job_id,
    state: row.state,
    attempt: row.attempt,
    node: row.node,
    namespace: row.namespace,
    modelVersionId,
    remainingMs: row.remaining_ms,
    tried: row.tried,
    last:
      failureClass === null || code === null || node === null ? null : { class: failureClass, code, node },
  };
}
