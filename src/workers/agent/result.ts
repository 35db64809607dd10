import { type KeyObject, sign } from 'node:crypto';
import type { DispatchMessage } from '../../contracts/dispatch.ts';
import { BODY_BYTES_MAX } from '../../contracts/parse.ts';
import { FLUSH_RESULTS_MAX, type ResultMessage } from '../../contracts/result.ts';
import { flushBytes, resultDigest } from '../../contracts/signed-bytes.ts';
import { type Code, refusal } from '../../errors.ts';
import type { AttemptFailureCode } from './chat-answer.ts';
import type { ChatOutcome } from './model-client.ts';

/** A result before it is signed. */
export type UnsignedResult = Omit<ResultMessage, 'digest' | 'flush'>;

/** The largest time a result may state; `remaining_ms` keeps real ones far below. */
const MILLIS_MAX = 86_400_000;
/** Room for the digest and for a full flush: 16 digests of 67 bytes with their quotes, and one signature. */
const FLUSH_BYTES = 2_048;

/**
 * The result of one attempt whose model was asked `queuedMs` after the dispatch came. Times: `queued_ms` from receipt until
 * the model was asked, `first_token_ms` and `total_ms` since then.
 */
export function resultOf(
  dispatch: DispatchMessage,
  outcome: ChatOutcome,
  queuedMs: number,
  gpu: ResultMessage['gpu'],
): UnsignedResult {
  const timing = {
    queued_ms: Math.min(Math.round(queuedMs), MILLIS_MAX),
    first_token_ms: outcome.firstTokenMs,
    total_ms: Math.min(outcome.totalMs, MILLIS_MAX),
  };
  if (outcome.kind === 'failed')
    return { ...failureOf(dispatch, outcome.code, outcome.message), timing, gpu };
  const { answer } = outcome;
  const result: UnsignedResult = {
    ...base(dispatch),
    status: 'completed',
    output: { text: answer.text, finish_reason: answer.finishReason },
    usage: {
      // A server that counts nothing leaves us an estimate: four bytes to a token, and one token to a chunk.
      input_tokens: answer.usage?.inputTokens ?? estimatedInputTokens(dispatch),
      output_tokens: answer.usage?.outputTokens ?? answer.tokenEnds.length,
    },
    timing,
    tokens: { ends: answer.tokenEnds, at_ms: answer.tokenAtMs },
    gpu,
    evaluation: answer.moderation === null ? null : { low_confidence: false, moderation: answer.moderation },
    error: null,
  };
  if (fits(result)) return result;
  // The text is what was paid for; the timings of its tokens are dropped first.
  const textOnly = { ...result, tokens: null };
  if (fits(textOnly)) return textOnly;
  const message = `the answer does not fit into a result of ${BODY_BYTES_MAX} bytes`;
  return { ...failureOf(dispatch, 'output_too_large', message), timing, gpu };
}

/** The result of an attempt that was not run. `message` never quotes a prompt. */
export function failureOf(
  dispatch: DispatchMessage,
  code: AttemptFailureCode | Code,
  message: string,
): UnsignedResult {
  return {
    ...base(dispatch),
    status: 'failed',
    output: null,
    usage: { input_tokens: 0, output_tokens: 0 },
    timing: { queued_ms: 0, first_token_ms: null, total_ms: 0 },
    tokens: null,
    gpu: null,
    evaluation: null,
    error: { code, message },
  };
}

/**
 * The answer to a dispatch of an earlier session of this node. It names that session: a result counts only for the
 * (attempt, node, session) that PostgreSQL has for the job, and so the job ends now and not at its deadline.
 */
export function staleSessionResult(dispatch: DispatchMessage): UnsignedResult {
  return failureOf(dispatch, 'TG_WORKER_STALE_SESSION', refusal('TG_WORKER_STALE_SESSION').message);
}

/**
 * Signs results together, one Ed25519 signature for up to 16 of the same session, and returns them in order.
 * Signing takes some 70 µs, more than all else a result costs here.
 */
export function signResults(results: readonly UnsignedResult[], privateKey: KeyObject): ResultMessage[] {
  const signed: ResultMessage[] = [];
  for (let from = 0; from < results.length; ) {
    const [first, ...others] = results.slice(from, from + FLUSH_RESULTS_MAX);
    if (first === undefined) break;
    const change = others.findIndex((result) => result.session !== first.session);
    const flush = [first, ...(change === -1 ? others : others.slice(0, change))];
    const digests = flush.map((result) => resultDigest(result).toString('hex'));
    const signature = sign(null, flushBytes(first.node, first.session, digests), privateKey);
    const proof = { digests, signature: signature.toString('base64') };
    for (const [i, result] of flush.entries())
      signed.push({ ...result, digest: digests[i] ?? '', flush: proof });
    from += flush.length;
  }
  return signed;
}

function base(
  dispatch: DispatchMessage,
): Pick<UnsignedResult, 'v' | 'job' | 'attempt' | 'node' | 'session' | 'model_version'> {
  const { job, attempt, node, session, model_version } = dispatch;
  return { v: 1, job, attempt, node, session, model_version };
}

function fits(result: UnsignedResult): boolean {
  const bytesMax = BODY_BYTES_MAX - FLUSH_BYTES;
  // Cheap for the usual result: six bytes are the most that JSON makes of one UTF-16 unit, a token has two numbers.
  const textLength = result.output?.text.length ?? 0;
  const tokenCount = result.tokens?.ends.length ?? 0;
  if (textLength * 6 + tokenCount * 20 + FLUSH_BYTES < bytesMax) return true;
  return Buffer.byteLength(JSON.stringify(result)) < bytesMax;
}

function estimatedInputTokens(dispatch: DispatchMessage): number {
  const bytes = dispatch.input.messages.reduce((sum, message) => sum + Buffer.byteLength(message.content), 0);
  return Math.ceil(bytes / 4);
}
