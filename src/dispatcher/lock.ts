import type { Clock } from '../clock.ts';
import { refusal } from '../errors.ts';
import type { CreditLocks, LockAnswer, LockRequest } from '../ledger/types.ts';
import type { Metrics } from '../ops/types.ts';
import type { LeaseName } from '../workers/types.ts';
import { answered } from './answered.ts';
import { type FinishedJob, resend } from './finished.ts';
import { conflictExit, unrecorded } from './look-up.ts';
import type { Admitted, Exit, Locked, Reserved } from './types.ts';

interface LockDeps {
  readonly locks: CreditLocks;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** `give` names the leases this batch took and does not need; `repriced` must be admitted again with a fresh directory. */
export interface LockedBatch {
  readonly on: readonly Locked[];
  readonly off: readonly Exit[];
  readonly finished: readonly FinishedJob[];
  readonly repriced: readonly Reserved<Admitted>[];
  readonly give: readonly LeaseName[];
  /** The account of each lock that is new. */
  readonly newOf: readonly number[];
}

/**
 * Commits one credit lock per job, all in one transaction: the point behind which a job may leave, and before which it may
 * not. PostgreSQL's answer decides everything: a new lock goes on; a row that stood already is obeyed (its node and session,
 * not ours); refusals leave. A slot taken for anything but this node and session is given back. Source: design [2], [5], [15].
 */
export async function lock(reserved: readonly Reserved<Admitted>[], deps: LockDeps): Promise<LockedBatch> {
  if (reserved.length === 0) return { on: [], off: [], finished: [], repriced: [], give: [], newOf: [] };
  const askedMs = deps.clock.monotonicMs();
  const answers = await deps.locks.lockBatch(reserved.map(toRequest));
  const nowMs = deps.clock.nowMs();
  const on: Locked[] = [];
  const off: Exit[] = [];
  const finished: FinishedJob[] = [];
  const repriced: Reserved<Admitted>[] = [];
  const give: LeaseName[] = [];
  const newOf: number[] = [];
  for (const [one, answer] of answered(reserved, answers)) {
    deps.metrics.locks(answer.kind, 1);
    if (!keepsSlot(one, answer)) give.push(leaseOf(one));
    if (answer.kind === 'new') {
      on.push(newLock(one, answer, askedMs, nowMs));
      newOf.push(one.admitted.account.id);
    } else if (answer.kind === 'repriced') repriced.push(one);
    else if (answer.kind === 'exists') {
      const again = resend(one.admitted, answer, askedMs, nowMs);
      if (again) on.push({ ...again, choice: keepsSlot(one, answer) ? one.choice : null });
      else finished.push({ known: one.admitted, existing: answer });
    } else off.push(refusedExit(one, answer));
  }
  return { on, off, finished, repriced, give, newOf };
}

/** The name of the lease that was reserved. */
export function leaseOf({ admitted, choice }: Reserved): LeaseName {
  const { jobId, attempt } = admitted;
  return { jobId, attempt, node: choice.node, session: choice.session };
}

/** A lease that this call did not take is not ours to give; one that the lock names is needed. */
function keepsSlot({ choice, isTaken }: Reserved<Admitted>, answer: LockAnswer): boolean {
  if (!isTaken || answer.kind === 'new') return true;
  return (
    answer.kind === 'exists' &&
    answer.state === 'locked' &&
    answer.node === choice.node &&
    answer.session === choice.session
  );
}

function toRequest({ admitted, choice }: Reserved<Admitted>): LockRequest {
  const { limits } = admitted.job;
  return {
    ...admitted.identity,
    modelVersionId: admitted.model.id,
    inputTokensMax: limits.input_tokens_max,
    outputTokensMax: limits.output_tokens_max,
    timeoutMs: limits.timeout_ms,
    attemptsMax: limits.attempts_max,
    node: choice.node,
    session: choice.session,
    poolSuffix: admitted.pool.slice(admitted.job.model.length) || null,
  };
}

function newLock(
  one: Reserved<Admitted>,
  answer: LockAnswer & { kind: 'new' },
  askedMs: number,
  nowMs: number,
): Locked {
  const { attempt, node, session, startMs, remainingMs } = answer;
  return {
    admitted: one.admitted,
    attempt,
    node,
    session,
    startMs,
    remainingMs,
    askedMs,
    lockedAtMs: nowMs,
    choice: one.choice,
  };
}

function refusedExit(one: Reserved<Admitted>, answer: LockAnswer & { kind: 'refused' | 'conflict' }): Exit {
  if (answer.kind === 'conflict') return conflictExit(one.admitted, answer.field);
  if (!answer.isRecorded) return unrecorded(one.admitted, answer.code);
  const why = refusal(answer.code, answer.code === 'TG_CREDIT_INSUFFICIENT' ? 'account' : null);
  return {
    arrival: one.admitted.arrival,
    outcome: { kind: 'refused', state: 'refused', refusal: why, known: one.admitted },
  };
}
