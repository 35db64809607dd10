import { type Code, invariant } from '../errors.ts';
import type { EndedJob, ExistingJob, JobIdentity, JobState } from './types.ts';

/** A row of the SQL type `jobs.answer`. */
export interface AnswerRow {
  readonly job_id: string;
  readonly answer: 'new' | 'exists' | 'refused' | 'repriced' | 'body' | 'account';
  readonly state: JobState | null;
  readonly attempt: number | null;
  readonly node: string | null;
  readonly session: bigint | null;
  readonly start_ms: number | null;
  readonly remaining_ms: number | null;
  readonly model_version_id: number | null;
  readonly locked_micro: bigint | null;
  readonly charged_micro: bigint | null;
  readonly code: Code | null;
}

/** A row of the SQL type `jobs.description`. */
export interface DescriptionRow {
  readonly job_id: string;
  readonly account_id: number;
  readonly namespace_id: number;
  readonly namespace: string;
  readonly publisher: string;
  readonly reply_to: string | null;
  readonly correlation_id: string | null;
  readonly traceparent: string | null;
  readonly state: JobState;
  readonly code: Code | null;
  readonly attempt: number;
  readonly node: string | null;
  readonly session: bigint | null;
  readonly model_version_id: number | null;
  readonly locked_micro: bigint;
  readonly charged_micro: bigint;
  readonly ended_at_ms: number | null;
  readonly is_over_limits: boolean;
}

/** The first ten parameters that locks and refusals share, as parallel arrays in the order of their queries. */
export function identityColumns(jobs: readonly JobIdentity[]): unknown[][] {
  return [
    jobs.map((job) => job.jobId),
    jobs.map((job) => job.accountId),
    jobs.map((job) => job.namespaceId),
    jobs.map((job) => job.publisherId),
    jobs.map((job) => job.digest),
    jobs.map((job) => job.kind),
    jobs.map((job) => job.priority),
    jobs.map((job) => job.replyTo),
    jobs.map((job) => job.correlationId),
    jobs.map((job) => job.traceparent),
  ];
}

/** Answers of ids that have a row: `exists`, or one of the two conflicts. */
export function existingOf(row: AnswerRow): ExistingJob | { kind: 'conflict'; field: 'body' | 'account' } {
  if (row.answer === 'body' || row.answer === 'account') return { kind: 'conflict', field: row.answer };
  invariant(
    row.answer === 'exists' && row.state !== null,
    `answer ${row.answer} is not one of an existing job`,
  );
  return {
    kind: 'exists',
    state: row.state,
    attempt: row.attempt ?? 0,
    node: row.node,
    session: row.session === null ? null : Number(row.session),
    startMs: row.start_ms ?? 0,
    remainingMs: row.remaining_ms ?? 0,
    modelVersionId: row.model_version_id,
    chargedMicro: row.charged_micro ?? 0n,
    code: row.code,
  };
}

/** A job that had a lock and has ended. */
export function endedOf(row: DescriptionRow): EndedJob {
  const { state, model_version_id: modelVersionId, ended_at_ms: endedAtMs } = row;
  invariant(
    (state === 'succeeded' || state === 'failed' || state === 'cancelled') &&
      modelVersionId !== null &&
      endedAtMs !== null,
    `job ${row.job_id} in state ${state} has not ended`,
  );
  return {
    jobId: row.job_id,
    accountId: row.account_id,
    namespaceId: row.namespace_id,
    namespace: row.namespace,
    publisher: row.publisher,
    replyTo: row.reply_to,
    correlationId: row.correlation_id,
    traceparent: row.traceparent,
    state,
    code: row.code,
    attempt: row.attempt,
    node: row.node,
    session: row.session === null ? null : Number(row.session),
    modelVersionId,
    lockedMicro: row.locked_micro,
    chargedMicro: row.charged_micro,
    endedAtMs,
  };
}
