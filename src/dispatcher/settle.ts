import type { Code } from '../errors.ts';
import type { EndedJob, GiveUpAnswer, GivenUp, SettleAnswer, Settlements } from '../ledger/types.ts';
import type { Decision } from '../traces/types.ts';
import { answered } from './answered.ts';
import type { Decided, FailedAttempt, FailureOwner } from './failure-owner.ts';
import type { VerifiedResult } from './verify.ts';

/** A result that ended its job, now or before: release, reply and trace follow, each harmless to repeat. */
export interface SettledResult {
  readonly verified: VerifiedResult;
  readonly job: EndedJob;
  /** Null for a good result. */
  readonly decision: Decision | null;
  /** False for a repeat of a result that was settled by an earlier delivery. */
  readonly isFirst: boolean;
  /** The node reported more than the job's limits: the charge was capped at the lock. */
  readonly isCapped: boolean;
}

/** A failed result whose job goes on with another attempt: release, trace and alarm follow, each harmless to repeat. */
export interface RetriedResult {
  readonly verified: VerifiedResult;
  readonly decided: Decided;
  readonly givenUp: GivenUp;
}

/** A result that changed nothing: late, for another attempt, or different from the one that was settled. */
export interface IdleResult {
  readonly verified: VerifiedResult;
  readonly code: Code;
  readonly namespace: string | null;
}

/**
 * Ends the credit locks of a batch of results in one transaction. PostgreSQL decides by the fence (attempt, node, session) and
 * the primary key of the resolution: whatever comes twice, late or forged, a lock is resolved once. Source: design [6], [7], [11].
 */
export async function settle(
  verified: readonly VerifiedResult[],
  settlements: Settlements,
): Promise<{ on: SettledResult[]; off: IdleResult[] }> {
  if (verified.length === 0) return { on: [], off: [] };
  const answers = await settlements.settleBatch(
    verified.map(({ result, digest }) => ({
      jobId: result.job,
      attempt: result.attempt,
      node: result.node,
      session: result.session,
      status: result.status,
      inputTokens: result.usage.input_tokens,
      outputTokens: result.usage.output_tokens,
      digest,
    })),
  );
  const on: SettledResult[] = [];
  const off: IdleResult[] = [];
  for (const [one, answer] of answered(verified, answers)) {
    if (!('job' in answer)) off.push({ verified: one, ...idle(answer) });
    else {
      const { job, isCapped } = answer;
      on.push({ verified: one, job, decision: null, isFirst: answer.kind === 'settled', isCapped });
    }
  }
  return { on, off };
}

/** What failed results came to. */
export interface FailedResults {
  readonly retried: readonly RetriedResult[];
  readonly ended: readonly SettledResult[];
  readonly off: readonly IdleResult[];
}

/** Hands failed results to the owner of failure: each job goes on with another attempt or ends, its lock void. */
export async function giveUp(
  verified: readonly VerifiedResult[],
  failures: Pick<FailureOwner, 'decide'>,
): Promise<FailedResults> {
  const failed = verified.map((one) => ({ ...failedAttempt(one), verified: one }));
  const retried: RetriedResult[] = [];
  const ended: SettledResult[] = [];
  const off: IdleResult[] = [];
  for (const decided of await failures.decide(failed, false)) {
    const { failed: one, decision, answer } = decided;
    if (answer.kind === 'retry') retried.push({ verified: one.verified, decided, givenUp: answer.givenUp });
    else if (answer.kind === 'ended') {
      const { job, isFirst } = answer;
      ended.push({ verified: one.verified, job, decision, isFirst, isCapped: false });
    } else off.push({ verified: one.verified, ...idle(answer) });
  }
  return { retried, ended, off };
}

function failedAttempt({ result, digest }: VerifiedResult): FailedAttempt {
  const { job: jobId, attempt, node, session, error } = result;
  return {
    jobId,
    attempt,
    node,
    session,
    digest,
    failure: { kind: 'error_result', error: error?.code ?? '' },
  };
}

type IdleAnswer =
  | Extract<SettleAnswer, { kind: 'late' | 'stale' | 'different' | 'unknown' }>
  | Extract<GiveUpAnswer, { kind: 'late' | 'stale' | 'different' | 'unknown' }>;

function idle(answer: IdleAnswer): {
  code: Code;
  namespace: string | null;
} {
  switch (answer.kind) {
    case 'late':
      return { code: 'TG_RESULT_LATE', namespace: answer.namespace };
    case 'stale':
      return { code: 'TG_RESULT_STALE', namespace: answer.namespace };
    case 'different':
      return { code: 'TG_RESULT_CONFLICT', namespace: answer.namespace };
    case 'unknown':
      return { code: 'TG_RESULT_UNKNOWN_JOB', namespace: null };
    default:
      return answer satisfies never;
  }
}
