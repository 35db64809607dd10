import type { ConsumeMessage } from 'amqplib';
import { EXCHANGE, SENDER_HEADER } from '../contracts/names.ts';
import type { Answers } from './answers.ts';
import type { Delivery } from './types.ts';

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Client headers may hold anything: only strings count. */
function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/**
 * A delivery over amqplib's message. The headers are looked at only when asked for: ten thousand of these are made per
 * second, and most readers want a few fields.
 */
export class AmqpDelivery implements Delivery {
  readonly queue: string;
  readonly body: Buffer;
  readonly receivedMs: number;
  readonly #message: ConsumeMessage;
  readonly #answers: Answers;

  constructor(queue: string, message: ConsumeMessage, answers: Answers, receivedMs: number) {
    this.queue = queue;
    this.body = message.content;
    this.receivedMs = receivedMs;
    this.#message = message;
    this.#answers = answers;
  }

  get redelivered(): boolean {
    return this.#message.fields.redelivered;
  }

  get userId(): string | null {
    return text(this.#isMoved ? this.#header(SENDER_HEADER) : this.#message.properties.userId);
  }

  get messageId(): string | null {
    return text(this.#message.properties.messageId);
  }

  get correlationId(): string | null {
    return text(this.#message.properties.correlationId);
  }

  get replyTo(): string | null {
    return text(this.#message.properties.replyTo);
  }

  /** The broker takes `expiration` off a message that it dead-letters and keeps it in the death's entry. */
  get expiration(): string | null {
    return text(this.#message.properties.expiration) ?? text(this.#lastDeath?.['original-expiration']);
  }

  get routingKey(): string {
    return this.#message.fields.routingKey;
  }

  get exchange(): string {
    return this.#message.fields.exchange;
  }

  get deathReason(): string | null {
    return text(this.#lastDeath?.['reason']);
  }

  get deathRoutingKey(): string | null {
    const keys = this.#lastDeath?.['routing-keys'];
    return Array.isArray(keys) ? text(keys[0]) : null;
  }

  get deathExchange(): string | null {
    return text(this.#lastDeath?.['exchange']);
  }

  get traceparent(): string | null {
    return text(this.#header('traceparent'));
  }

  get isLive(): boolean {
    return this.#answers.isLive;
  }

  acknowledge(): void {
    this.#answers.answer(this.#message.fields.deliveryTag, 'acknowledge');
  }

  requeue(): void {
    this.#answers.answer(this.#message.fields.deliveryTag, 'requeue');
  }

  /** Only coordinators write these two exchanges, so the header is ours; elsewhere it would be a client's claim. */
  get #isMoved(): boolean {
    const { exchange } = this.#message.fields;
    return (
      exchange === EXCHANGE.moved || (exchange === EXCHANGE.expired && this.deathExchange === EXCHANGE.moved)
    );
  }

  #header(name: string): unknown {
    return this.#message.properties.headers?.[name];
  }

  /** The broker puts the latest death first, before whatever a client wrote there itself. */
  get #lastDeath(): Record<string, unknown> | null {
    const deaths: unknown = this.#header('x-death');
    const last: unknown = Array.isArray(deaths) ? deaths[0] : null;
    return isTable(last) ? last : null;
  }
}
