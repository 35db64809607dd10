import type { Code } from '../errors.ts';
import type { EndedJob, SettleAnswer, Settlements } from '../ledger/types.ts';
import { answered } from './answered.ts';
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
  for (const [one, answer] of answered(verified, answers)) {
    if (!('job' in answer)) off.push({ verified: one, ...idle(answer) });
    else {
      const { job, isCapped } = answer;
      on.push({ verified: one, job, isFirst: answer.kind === 'settled', isCapped });
    }
  }
  return { on, off };
}

/** Parts in which each job stands at most once: one call to the ledger may not name a job twice. */
export function distinctJobs(verified: readonly VerifiedResult[]): VerifiedResult[][] {
  const parts: VerifiedResult[][] = [];
  const timesSeen = new Map<string, number>();
  for (const one of verified) {
    const times = timesSeen.get(one.result.job) ?? 0;
    timesSeen.set(one.result.job, times + 1);
    const part = parts[times] ?? [];
    part.push(one);
    parts[times] = part;
  }
  return parts;
}

type IdleAnswer = Extract<SettleAnswer, { kind: 'late' | 'stale' | 'different' | 'unknown' }>;

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
