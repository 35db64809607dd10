import { createHash } from 'node:crypto';
import { CODES, type Code } from '../errors.ts';
import type { Directory } from '../network/types.ts';
import type { AttemptDocument, EventDocument } from '../traces/types.ts';
import { addressed, failureReply, successReply } from './replies.ts';
import type { IdleResult, RetriedResult, SettledResult } from './settle.ts';
import type { AddressedReply } from './types.ts';
import type { RefusedResult, VerifiedResult } from './verify.ts';

/** The answer to the client, or null if it gave no address. Account, namespace and address come from the ledger. */
export function resultReply({ verified, job }: SettledResult, directory: Directory): AddressedReply | null {
  const { output, usage } = verified.result;
  if (job.state !== 'succeeded' || output === null) {
    return addressed(job, failureReply(job.jobId, job.state, job.code ?? 'TG_WORKER_ERROR'));
  }
  const modelVersion = directory.modelVersion(job.modelVersionId)?.version ?? null;
  return addressed(job, successReply({ ...job, modelVersion }, output, usage));
}

/** What the attempt produced: the answer, its tokens with their times, the evidence. */
export function attemptDocument({ verified, job, decision }: SettledResult): AttemptDocument {
  const { code, namespace, endedAtMs, chargedMicro, lockedMicro } = job;
  return documentOf(verified, { code, namespace, endedAtMs, chargedMicro, lockedMicro, decision });
}

/** What came of an attempt that failed and was followed by another; `nowMs` is when that was decided. */
export function retriedDocument(
  { verified, decided, givenUp }: RetriedResult,
  nowMs: number,
): AttemptDocument {
  const { namespace, lockedMicro } = givenUp;
  const { code, decision } = decided;
  return documentOf(verified, { code, namespace, endedAtMs: nowMs, chargedMicro: 0n, lockedMicro, decision });
}

function documentOf(
  { result }: VerifiedResult,
  end: Pick<
    AttemptDocument,
    'code' | 'namespace' | 'endedAtMs' | 'chargedMicro' | 'lockedMicro' | 'decision'
  >,
): AttemptDocument {
  return {
    job: result.job,
    attempt: result.attempt,
    node: result.node,
    session: result.session,
    outcome: result.status,
    ...end,
    result: {
      text: result.output?.text ?? null,
      finishReason: result.output?.finish_reason ?? null,
      inputTokens: result.usage.input_tokens,
      outputTokens: result.usage.output_tokens,
      queuedMs: result.timing.queued_ms,
      firstTokenMs: result.timing.first_token_ms,
      totalMs: result.timing.total_ms,
      tokenEnds: result.tokens?.ends ?? [],
      tokenAtMs: result.tokens?.at_ms ?? [],
      gpu: result.gpu && { name: result.gpu.name, vramGb: result.gpu.vram_gb },
      evaluation: result.evaluation && {
        lowConfidence: result.evaluation.low_confidence,
        moderation: result.evaluation.moderation,
      },
      error: result.error,
      digest: result.digest,
      flushDigests: result.flush.digests,
      signature: result.flush.signature,
    },
  };
}

/** An anomaly of a result that was read: late, stale, different, beyond its limits. */
export function anomalyEvent(
  verified: VerifiedResult,
  code: Code,
  namespace: string | null,
  nowMs: number,
): EventDocument {
  const { result } = verified;
  return {
    key: `${code}:${result.job}.${result.attempt}:${result.digest}`,
    kind: 'anomaly',
    code,
    field: null,
    message: CODES[code].text,
    job: result.job,
    namespace,
    sender: verified.delivery.userId,
    atMs: nowMs,
  };
}

/** Tokens that a model may count beyond the bytes of its answer: those that end it, and what opens a turn. */
const SILENT_TOKENS = 64;

/**
 * What does not add up in a result that was settled all the same. No token of the answer is shorter than a byte, but a model may have
 * thought before it spoke: more tokens than bytes are noted for whoever looks, and the charge stays what the lock allows.
 */
export function faultsOf({ verified, job, isCapped }: SettledResult, directory: Directory): Code[] {
  const { output, usage, model_version: version } = verified.result;
  const faults: Code[] = isCapped ? ['TG_RESULT_USAGE'] : [];
  const asked = directory.modelVersion(job.modelVersionId);
  if (asked !== undefined && asked.version !== version) faults.push('TG_RESULT_MODEL');
  if (!isCapped && output !== null && usage.output_tokens > Buffer.byteLength(output.text) + SILENT_TOKENS)
    faults.push('TG_RESULT_TOKENS');
  return faults;
}

/** The anomaly of a result that changed nothing. */
export function idleEvent(idle: IdleResult, nowMs: number): EventDocument {
  return anomalyEvent(idle.verified, idle.code, idle.namespace, nowMs);
}

/** A result that was refused unread: by its shape, its sender or its signature. */
export function refusedResultEvent(
  { delivery, refusal: why, job }: RefusedResult,
  nowMs: number,
): EventDocument {
  const body = createHash('sha256').update(delivery.body).digest('base64url');
  return {
    key: `${why.code}:${job ?? ''}:${body}`,
    kind: 'anomaly',
    code: why.code,
    field: why.field,
    message: why.message,
    job,
    namespace: null,
    sender: delivery.userId,
    atMs: nowMs,
  };
}
