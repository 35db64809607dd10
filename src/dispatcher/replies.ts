import type { OutMessage, Publisher, PublishOutcome } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import type { FinalState, ReplyMessage } from '../contracts/reply.ts';
import { CODES, type Code, type Refusal, StoreError } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';
import type { EndedJob } from '../ledger/types.ts';
import type { Log, Metrics } from '../ops/types.ts';
import type { EventDocument, TraceSink } from '../traces/types.ts';
import { answered } from './answered.ts';
import type { AddressedReply } from './types.ts';

/** The reply that says no, before any lock. `job` is null where no id could be read. */
export function refusalReply(job: string | null, state: FinalState, why: Refusal): ReplyMessage {
  return {
    v: 1,
    job,
    state,
    output: null,
    usage: null,
    charged_micro: 0,
    model_version: null,
    error: { code: why.code, message: why.message, field: why.field, retryable: CODES[why.code].retryable },
  };
}

/** The answer of a job that succeeded. */
export function successReply(
  ended: { readonly jobId: string; readonly chargedMicro: bigint; readonly modelVersion: number | null },
  output: NonNullable<ReplyMessage['output']>,
  usage: NonNullable<ReplyMessage['usage']>,
): ReplyMessage {
  return {
    v: 1,
    job: ended.jobId,
    state: 'succeeded',
    output,
    usage,
    // Safe: the ledger bounds every amount by 2^53 - 1.
    charged_micro: Number(ended.chargedMicro),
    model_version: ended.modelVersion,
    error: null,
  };
}

/** The reply of a job that was locked and ended without a usable result. Nothing was charged. */
export function failureReply(jobId: string, state: FinalState, code: Code): ReplyMessage {
  return refusalReply(jobId, state, { code, field: null, message: CODES[code].text });
}

/** Addresses `message` to where the client of `ended` listens, or null if it gave no address. */
export function addressed(
  to: Pick<EndedJob, 'replyTo' | 'correlationId'>,
  message: ReplyMessage,
  about: 'job' | 'cancel' = 'job',
): AddressedReply | null {
  return to.replyTo === null
    ? null
    : { replyTo: to.replyTo, correlationId: to.correlationId, message, about };
}

function toMessage(reply: AddressedReply): OutMessage {
  return {
    exchange: '',
    routingKey: reply.replyTo,
    body: Buffer.from(JSON.stringify(reply.message)),
    messageId: `${reply.about === 'cancel' ? 'c' : 'r'}-${reply.message.job ?? newUuidV7()}`,
    correlationId: reply.correlationId ?? undefined,
    // Nobody is told that a reply came back which is not sent again.
    mandatory: reply.isOnce !== true,
    ...(reply.isOnce ? { transient: true } : {}),
  };
}

/** The client's queue is gone or full, and the reply deserves another try. */
function isUntaken(reply: AddressedReply, outcome: PublishOutcome): boolean {
  return (outcome === 'returned' || outcome === 'nacked') && reply.isOnce !== true;
}

/**
 * Sends replies. The first try belongs to the batch; one that is returned or nacked (the client's queue is gone or full) is
 * recorded as an event and tried again apart, `replyTriesMax` times in all within `replyTryMsMax`; a second event says that it
 * was given up: the client asks again with the same id. The first event comes before the batch goes on, because the other tries
 * are in memory only: a coordinator that dies meanwhile leaves either the reply or a line that explains why there is none. A
 * reply never delays a settlement. Source: design [20].
 */
export class Replier {
  readonly #publisher: Publisher;
  readonly #traces: TraceSink;
  readonly #bounds: Pick<Config['line'], 'replyTriesMax' | 'replyTryMsMax' | 'repliesPendingMax'>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #metrics: Metrics;
  readonly #pending = new Set<Promise<void>>();

  constructor(deps: {
    publisher: Publisher;
    traces: TraceSink;
    bounds: Pick<Config['line'], 'replyTriesMax' | 'replyTryMsMax' | 'repliesPendingMax'>;
    clock: Clock;
    log: Log;
    metrics: Metrics;
  }) {
    this.#publisher = deps.publisher;
    this.#traces = deps.traces;
    this.#bounds = deps.bounds;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#metrics = deps.metrics;
  }

  /** Replies being tried again. */
  get pending(): number {
    return this.#pending.size;
  }

  /**
   * Publishes all; resolves after the first try. False where the outcome is unknown because the connection went, or where a
   * refused reply could not be recorded: whoever stands behind that reply (an unacknowledged delivery, an owed-reply row) brings
   * it again.
   */
  async send(replies: readonly AddressedReply[]): Promise<boolean[]> {
    if (replies.length === 0) return [];
    const outcomes = await this.#publisher.publishBatch(replies.map(toMessage));
    const tried = answered(replies, outcomes);
    const untaken = tried.flatMap(([reply, outcome]) => (isUntaken(reply, outcome) ? [reply] : []));
    const isRecorded = await this.#record(untaken);
    return tried.map(
      ([reply, outcome]) => (isRecorded || !isUntaken(reply, outcome)) && this.#judge(reply, outcome),
    );
  }

  /**
   * A call for a stage to make, and to repeat while the connection is away: each time it sends those whose outcome is still
   * unknown. Throws StoreError when some are; then their deliveries must not be acknowledged.
   */
  sending(replies: readonly AddressedReply[]): () => Promise<void> {
    let open = replies;
    return async () => {
      const isKnown = await this.send(open);
      open = open.filter((_, i) => isKnown[i] !== true);
      if (open.length > 0) throw new StoreError('rabbitmq', `${open.length} replies without a confirm`);
    };
  }

  /** Waits for the tries under way; each is bounded by `replyTryMsMax`. */
  async close(): Promise<void> {
    await Promise.all(this.#pending);
  }

  #judge(reply: AddressedReply, outcome: PublishOutcome): boolean {
    if (outcome === 'unknown') return false;
    if (outcome === 'confirmed') this.#metrics.replies('confirmed');
    else if (reply.isOnce) this.#metrics.replies('given_up');
    else if (this.#pending.size < this.#bounds.repliesPendingMax) this.#tryAgain(reply);
    else this.#tryAgain(reply, 0);
    return true;
  }

  async #record(untaken: readonly AddressedReply[]): Promise<boolean> {
    if (untaken.length === 0) return true;
    try {
      await this.#traces.writeEvents(untaken.map((reply) => this.#warning(reply, 'TG_REPLY_DELAYED')));
      return true;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.warn(
        { replies: untaken.length, reason: error.message },
        'refused replies wait for their record',
      );
      return false;
    }
  }

  #tryAgain(reply: AddressedReply, triesLeft = this.#bounds.replyTriesMax - 1): void {
    const trying = this.#retry(reply, triesLeft)
      .catch((error: unknown) =>
        this.#log.error({ err: error, job: reply.message.job }, 'reply not recorded'),
      )
      .finally(() => this.#pending.delete(trying));
    this.#pending.add(trying);
  }

  async #retry(reply: AddressedReply, triesLeft: number): Promise<void> {
    const pauseMs = this.#bounds.replyTryMsMax / (this.#bounds.replyTriesMax + 1);
    for (let left = triesLeft; left > 0; left--) {
      await this.#clock.sleep(pauseMs);
      this.#metrics.replies('retried');
      const outcome = await this.#publisher.publish(toMessage(reply));
      if (outcome === 'confirmed') return this.#metrics.replies('confirmed');
    }
    this.#metrics.replies('given_up');
    await this.#traces.writeEvents([this.#warning(reply, 'TG_REPLY_UNDELIVERED')]);
  }

  #warning(reply: AddressedReply, code: 'TG_REPLY_DELAYED' | 'TG_REPLY_UNDELIVERED'): EventDocument {
    const what = code === 'TG_REPLY_DELAYED' ? 'reply-delayed' : 'reply';
    return {
      key: `${what}:${reply.message.job ?? newUuidV7()}`,
      kind: 'warning',
      code,
      field: 'reply_to',
      message: CODES[code].text,
      job: reply.message.job,
      namespace: null,
      sender: null,
      atMs: this.#clock.nowMs(),
    };
  }
}
