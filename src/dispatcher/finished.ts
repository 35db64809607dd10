import { refusal, StoreError } from '../errors.ts';
import type { ExistingJob } from '../ledger/types.ts';
import type { Trace, TraceStore } from '../traces/types.ts';
import { firstAttempt } from './admit.ts';
import { askAgain } from './ask-again.ts';
import { failureReply, successReply } from './replies.ts';
import type { Exit, Known, Locked } from './types.ts';

/**
 * A finished twin whose trace is not there yet is asked about so often, for 20 s in all. Then it is acknowledged, for the result's
 * own reply is under way; with MongoDB away the broker keeps it. Source: design §5.
 */
const ASKS_MAX = 24;

/**
 * What a row that exists already means for a delivery of the same job.
 *
 * Locked: the same attempt is sent again to the node and session PostgreSQL names, while its start window is open; workers
 * remember `job.attempt` and run it once, so this heals a crash between lock and dispatch and costs nothing otherwise. When the
 * window is over nothing is published: the result or the sweep ends the job. A later attempt has a message of its own, which
 * stands for it. Source: design [3], [10], [11].
 */
export function resend(known: Known, existing: ExistingJob, askedMs: number, nowMs: number): Locked | null {
  if (existing.state !== 'locked' || existing.node === null || existing.session === null) return null;
  if (existing.startMs <= 0 || existing.remainingMs <= 0 || known.model === null) return null;
  if (existing.attempt > 1) return null;
  return {
    admitted: firstAttempt(known, known.model, null),
    attempt: existing.attempt,
    node: existing.node,
    session: existing.session,
    startMs: existing.startMs,
    remainingMs: existing.remainingMs,
    askedMs,
    lockedAtMs: nowMs,
    choice: null,
  };
}

/** A delivery of a job whose row says that it needs no dispatch any more. */
export interface FinishedJob {
  readonly known: Known;
  readonly existing: ExistingJob;
}

/**
 * How deliveries of jobs that have ended leave the line: with the first answer, from the row or from the trace. Called once the
 * rest of the batch is on its way, because MongoDB may be slow or away and no lock or dispatch waits for it. Source: design [23].
 */
export function leaveFinished(finished: readonly FinishedJob[], store: TraceStore): Promise<Exit[]> {
  return Promise.all(finished.map((one) => leaveOne(one, store)));
}

async function leaveOne({ known, existing }: FinishedJob, store: TraceStore): Promise<Exit> {
  const { arrival, identity } = known;
  const { state, code } = existing;
  if (state === 'refused' || state === 'expired') {
    const why = refusal(code ?? 'TG_JOB_EXPIRED', null);
    return { arrival, outcome: { kind: 'refused', state, refusal: why, known } };
  }
  const { replyTo, correlationId } = identity;
  if (state === 'locked' || replyTo === null) return { arrival, outcome: { kind: 'done' } };
  if (state === 'failed' || state === 'cancelled') {
    const message = failureReply(identity.jobId, state, code ?? 'TG_JOB_OVERDUE');
    return { arrival, outcome: { kind: 'answered', reply: { replyTo, correlationId, message } } };
  }
  let trace: Trace | null;
  try {
    trace = await store.findJob(identity.jobId, known.job.namespace);
  } catch (error) {
    if (error instanceof StoreError) return askAgain(arrival, ASKS_MAX, 'requeued');
    throw error;
  }
  const result = trace?.attempts.find((attempt) => attempt.attempt === existing.attempt)?.result;
  // A redelivery's own result replies in a moment; a fresh duplicate has to ask again.
  if (!result || result.text === null)
    return arrival.delivery.redelivered
      ? { arrival, outcome: { kind: 'done' } }
      : askAgain(arrival, ASKS_MAX, 'done');
  const message = successReply(
    {
      jobId: identity.jobId,
      chargedMicro: existing.chargedMicro,
      modelVersion: trace?.request.modelVersion ?? null,
    },
    { text: result.text, finish_reason: result.finishReason === 'length' ? 'length' : 'stop' },
    { input_tokens: result.inputTokens, output_tokens: result.outputTokens },
  );
  return { arrival, outcome: { kind: 'answered', reply: { replyTo, correlationId, message } } };
}
