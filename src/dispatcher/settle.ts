import type { Code } from '../errors.ts';
import type { EndedJob, SettleAnswer, Settlements } from '../ledger/types.ts';
import type { VerifiedResult } from './verify.ts';

/** A result that ended its job, now or before: release, reply and trace follow, each harmless to repeat. */
export interface SettledResult {
  readonly verified: VerifiedResult;
  readonly job: EndedJob;
  /** False for a repeat of a result that was settled by an earlier delivery. */
  readonly isFirst: boolean;
  /** The node reported more than the job's limits: the charge was capped at the lock. */
  readonly isCapped: boolean;
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
  for (const [i, one] of verified.entries()) {
    const answer = answers[i] as SettleAnswer;
    if (answer.kind === 'settled' || answer.kind === 'same') {
      on.push({
        verified: one,
        job: answer.job,
        isFirst: answer.kind === 'settled',
        isCapped: answer.isCapped,
      });
    } else off.push({ verified: one, ...idle(answer) });
  }
  return { on, off };
}

function idle(answer: Exclude<SettleAnswer, { kind: 'settled' | 'same' }>): {
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
