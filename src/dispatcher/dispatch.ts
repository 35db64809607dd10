import type { OutMessage, Publisher } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { DispatchMessage } from '../contracts/dispatch.ts';
import { EXCHANGE } from '../contracts/names.ts';
import { invariant } from '../errors.ts';
import { answered } from './answered.ts';
import type { Dispatched, Locked } from './types.ts';

interface DispatchDeps {
  readonly publisher: Publisher;
  readonly clock: Clock;
  readonly firstTokenMs: number;
}

/**
 * `on`: confirmed, or the window closed first and nothing was published. `failed`: the node has no queue, or no room in it.
 * `again`: unknown, so the same attempt is sent again while its window is open.
 */
export interface DispatchedBatch {
  readonly on: readonly Dispatched[];
  readonly failed: readonly { readonly locked: Locked; readonly why: 'returned' | 'nacked' }[];
  readonly again: readonly Locked[];
}

/**
 * Hands every locked job to the queue of the node that PostgreSQL named, and waits for the broker's confirm. Only half of
 * the start window is used for sending, counted from the question to PostgreSQL on the monotonic clock, and the message dies
 * in the queue when the window does: a worker can never start an attempt that the sweep already counts as overdue.
 * Source: design [2], [10].
 */
export async function dispatch(locked: readonly Locked[], deps: DispatchDeps): Promise<DispatchedBatch> {
  const nowMs = deps.clock.monotonicMs();
  const open: Locked[] = [];
  const on: Dispatched[] = [];
  for (const one of locked) {
    if (nowMs - one.askedMs < one.startMs / 2) open.push(one);
    else on.push({ locked: one, dispatchedAtMs: null, dispatchMs: null });
  }
  const failed: { locked: Locked; why: 'returned' | 'nacked' }[] = [];
  const again: Locked[] = [];
  const outcomes = await deps.publisher.publishBatch(
    open.map((one) => toMessage(one, nowMs, deps.firstTokenMs)),
  );
  const confirmedMs = deps.clock.monotonicMs();
  const dispatchedAtMs = deps.clock.nowMs();
  for (const [one, outcome] of answered(open, outcomes)) {
    const dispatchMs = confirmedMs - one.admitted.arrival.delivery.receivedMs;
    if (outcome === 'confirmed') on.push({ locked: one, dispatchedAtMs, dispatchMs });
    else if (outcome === 'returned' || outcome === 'nacked') failed.push({ locked: one, why: outcome });
    else again.push(one);
  }
  return { on, failed, again };
}

function toMessage(one: Locked, nowMs: number, firstTokenMs: number): OutMessage {
  const { job, inputJson, model, jobId } = one.admitted;
  const spentMs = nowMs - one.askedMs;
  const startMs = Math.max(1, Math.floor(one.startMs - spentMs));
  // The promise itself: what is dispatched was locked, and the lock named this attempt, node and session.
  invariant(one.attempt >= 1 && one.node !== '' && one.session > 0, 'dispatch without a committed lock');
  const message: Omit<DispatchMessage, 'input'> = {
    v: 1,
    job: jobId,
    attempt: one.attempt,
    node: one.node,
    session: one.session,
    model: model.model,
    model_version: model.version,
    kind: 'chat',
    limits: {
      input_tokens_max: job.limits.input_tokens_max,
      output_tokens_max: job.limits.output_tokens_max,
    },
    start_ms: startMs,
    remaining_ms: Math.max(1, Math.floor(one.remainingMs - spentMs)),
    first_token_ms: firstTokenMs,
  };
  return {
    exchange: EXCHANGE.dispatch,
    routingKey: one.node,
    body: bodyOf(message, inputJson ?? JSON.stringify(job.input)),
    messageId: `${jobId}.${one.attempt}`,
    expirationMs: startMs,
    mandatory: true,
    // Its lock says what is to be done: one that goes with the broker is made again, and RabbitMQ need not keep it on disk.
    transient: true,
  };
}

/** The message with its input, which is the large part and was mostly written before. */
function bodyOf(message: Omit<DispatchMessage, 'input'>, inputJson: string): Buffer {
  return Buffer.from(`{"input":${inputJson},${JSON.stringify(message).slice(1)}`);
}
