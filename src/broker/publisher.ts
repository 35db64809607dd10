import { type ConfirmChannel, IllegalOperationError, type Options } from 'amqplib';
import type { Log } from '../ops/types.ts';
import { textOf } from './amqp-errors.ts';
import type { OutMessage, Publisher, PublishOutcome } from './types.ts';

/** Bounds of a publisher. */
export interface PublisherOptions {
  /** Messages sent and not confirmed; beyond it publishing waits. */
  readonly unconfirmedMax: number;
  /** From the call to the outcome; what is not known by then is `unknown`. */
  readonly confirmMsMax: number;
  /** `user_id` of every message; null sends none. */
  readonly userId: string | null;
  readonly log: Log;
}

/** One call of `publishBatch` on its way. */
interface Batch {
  readonly messages: readonly OutMessage[];
  readonly outcomes: (PublishOutcome | undefined)[];
  /** Index of the next message to send; behind the last one when all are sent. */
  next: number;
  /** Outcomes still missing; 0 when the call has its answer. */
  missing: number;
  readonly resolve: (outcomes: PublishOutcome[]) => void;
  readonly timer: NodeJS.Timeout;
}

/** A message that was sent and that the broker has not answered. */
interface Sent {
  readonly batch: Batch;
  readonly index: number;
  isReturned: boolean;
}

/**
 * Publishes with confirms on whatever channel it is given. The broker answers by delivery tag, which counts the
 * messages of a channel from 1, so the window of unanswered messages is an array that starts at the lowest open tag.
 * States: detached (every call answers `unknown` at once) → attached → detached, and again.
 */
export class ConfirmPublisher implements Publisher {
  readonly #options: PublisherOptions;
  #channel: ConfirmChannel | null = null;
  /** By delivery tag, from `#firstTag`; undefined where the answer came out of order. */
  #window: (Sent | undefined)[] = [];
  #firstTag = 1;
  /** Sent and unanswered, also those whose caller no longer waits. */
  #unconfirmed = 0;
  /** Calls that found the window full, oldest first. The callers' own bounds bound it. */
  #waiting: Batch[] = [];
  #isBlocked = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /** True while a publish can be sent. */
  get isReady(): boolean {
    return this.#channel !== null && !this.#isBlocked;
  }

  /** Messages sent and not yet answered by the broker. */
  get unconfirmed(): number {
    return this.#unconfirmed;
  }

  /** Publishes on `channel` from now on, until it closes. */
  attach(channel: ConfirmChannel): void {
    this.#channel = channel;
    this.#firstTag = 1;
    channel.on('ack', ({ deliveryTag, multiple }) => this.#answered(deliveryTag, multiple, 'confirmed'));
    channel.on('nack', ({ deliveryTag, multiple }) => this.#answered(deliveryTag, multiple, 'nacked'));
    channel.on('return', (message) => {
      this.#returned(message.fields.exchange, message.fields.routingKey, message.properties.messageId);
    });
    channel.once('close', () => {
      if (this.#channel === channel) this.#detach();
    });
  }

  /**
   * A resource alarm of the broker: it no longer reads what we send. What would be sent now would arrive at any later
   * time, past its start window, so it is not sent, and is `unknown` like everything while the broker is away.
   */
  setBlocked(isBlocked: boolean): void {
    this.#isBlocked = isBlocked;
    if (isBlocked) this.#dropWaiting();
  }

  publish(message: OutMessage): Promise<PublishOutcome> {
    return this.publishBatch([message]).then(([outcome]) => outcome ?? 'unknown');
  }

  publishBatch(messages: readonly OutMessage[]): Promise<PublishOutcome[]> {
    if (messages.length === 0) return Promise.resolve([]);
    if (!this.isReady) return Promise.resolve(messages.map(() => 'unknown'));
    const { promise, resolve } = Promise.withResolvers<PublishOutcome[]>();
    const batch: Batch = {
      messages,
      outcomes: Array.from({ length: messages.length }),
      next: 0,
      missing: messages.length,
      resolve,
      timer: setTimeout(() => this.#giveUp(batch), this.#options.confirmMsMax),
    };
    this.#waiting.push(batch);
    this.#sendWaiting();
    return promise;
  }

  /** Sends what the window has room for, oldest call first. amqplib's writes leave together at the end of the turn. */
  #sendWaiting(): void {
    const { unconfirmedMax } = this.#options;
    for (;;) {
      const batch = this.#waiting[0];
      if (batch === undefined) return;
      while (batch.next < batch.messages.length) {
        if (this.#channel === null || this.#unconfirmed >= unconfirmedMax) return;
        this.#send(this.#channel, batch);
      }
      this.#waiting.shift();
    }
  }

  #send(channel: ConfirmChannel, batch: Batch): void {
    const index = batch.next;
    batch.next += 1;
    const message = batch.messages[index];
    if (message === undefined) return;
    try {
      channel.publish(message.exchange, message.routingKey, message.body, this.#properties(message));
    } catch (error) {
      this.#notSent(error, batch, index);
      return;
    }
    this.#window.push({ batch, index, isReturned: false });
    this.#unconfirmed += 1;
  }

  /**
   * Either the channel is closing, or a property cannot be carried by AMQP, e.g. a client's correlation id that grew past
   * 255 bytes when its invalid UTF-8 was decoded: that message will never do, and the ones behind it can be sent.
   */
  #notSent(error: unknown, batch: Batch, index: number): void {
    if (error instanceof IllegalOperationError) {
      settle(batch, index, 'unknown');
      this.#detach();
      return;
    }
    this.#options.log.warn({ reason: textOf(error) }, 'a message cannot be encoded');
    settle(batch, index, 'nacked');
  }

  #properties(message: OutMessage): Options.Publish {
    const properties: Options.Publish = {
      messageId: message.messageId,
      mandatory: message.mandatory,
      persistent: message.transient !== true,
    };
    if (message.correlationId !== undefined) properties.correlationId = message.correlationId;
    if (message.replyTo !== undefined) properties.replyTo = message.replyTo;
    if (message.expirationMs !== undefined) properties.expiration = message.expirationMs;
    if (message.headers !== undefined) properties.headers = message.headers;
    if (this.#options.userId !== null) properties.userId = this.#options.userId;
    return properties;
  }

  /** The broker's answer for one tag, or for all open ones up to it. */
  #answered(tag: number, isMultiple: boolean, outcome: 'confirmed' | 'nacked'): void {
    const window = this.#window;
    const position = tag - this.#firstTag;
    for (let i = isMultiple ? 0 : position; i <= position; i++) {
      const sent = window[i];
      if (sent === undefined) continue;
      window[i] = undefined;
      this.#unconfirmed -= 1;
      // The broker confirms what it returned, too: the return came first.
      settle(sent.batch, sent.index, sent.isReturned && outcome === 'confirmed' ? 'returned' : outcome);
    }
    let answered = 0;
    while (answered < window.length && window[answered] === undefined) answered += 1;
    window.splice(0, answered);
    this.#firstTag += answered;
    this.#sendWaiting();
  }

  /**
   * A mandatory message that no queue took. The broker names no delivery tag, but it routes a channel's messages in
   * order and returns before it confirms: the oldest open one with that address and id is meant.
   */
  #returned(exchange: string, routingKey: string, messageId: unknown): void {
    for (const sent of this.#window) {
      if (sent === undefined || sent.isReturned) continue;
      const message = sent.batch.messages[sent.index];
      if (message === undefined || !message.mandatory || message.messageId !== messageId) continue;
      if (message.exchange !== exchange || message.routingKey !== routingKey) continue;
      sent.isReturned = true;
      return;
    }
  }

  #detach(): void {
    this.#channel = null;
    const window = this.#window;
    this.#window = [];
    this.#unconfirmed = 0;
    for (const sent of window) if (sent !== undefined) settle(sent.batch, sent.index, 'unknown');
    this.#dropWaiting();
  }

  #dropWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const batch of waiting) settleUnsent(batch);
  }

  /** The caller has waited long enough. What was sent keeps its place in the window: the broker still owes an answer. */
  #giveUp(batch: Batch): void {
    this.#waiting = this.#waiting.filter((other) => other !== batch);
    batch.next = batch.messages.length;
    for (let i = 0; i < batch.messages.length; i++) settle(batch, i, 'unknown');
    this.#sendWaiting();
  }
}

/** Notes one outcome, once, and answers the call when it was the last. */
function settle(batch: Batch, index: number, outcome: PublishOutcome): void {
  if (batch.outcomes[index] !== undefined) return;
  batch.outcomes[index] = outcome;
  batch.missing -= 1;
  if (batch.missing > 0) return;
  clearTimeout(batch.timer);
  batch.resolve(batch.outcomes.map((known) => known ?? 'unknown'));
}

/** What was not sent yet never will be. */
function settleUnsent(batch: Batch): void {
  const from = batch.next;
  batch.next = batch.messages.length;
  for (let i = from; i < batch.messages.length; i++) settle(batch, i, 'unknown');
}
