/**
 * The shapes the broker room shows to others. No amqplib type leaves this room.
 */

/** How a publish ended. `unknown`: the connection went before the confirm; the message may or may not be there. */
export type PublishOutcome = 'confirmed' | 'returned' | 'nacked' | 'unknown';

/** One message to publish; always persistent unless `transient`. */
export interface OutMessage {
  /** '' is the default exchange. */
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
  readonly messageId: string;
  readonly correlationId?: string | undefined;
  readonly replyTo?: string | undefined;
  /** Per-message TTL in milliseconds. */
  readonly expirationMs?: number | undefined;
  /** A short flat table; keep it small, header encoding is on the hot path. */
  readonly headers?: Readonly<Record<string, string | number>> | undefined;
  /** Ask for a return if no queue takes it. */
  readonly mandatory: boolean;
  /** The broker may forget it when it is restarted. */
  readonly transient?: boolean;
}

/** Publishes with confirms on a connection of its own; at most `window` messages are unconfirmed at a time. */
export interface Publisher {
  /** Resolves when every outcome is known, in order; never rejects. The whole batch goes out in one socket write. */
  publishBatch(messages: readonly OutMessage[]): Promise<PublishOutcome[]>;
  publish(message: OutMessage): Promise<PublishOutcome>;
}

/** One AMQP handing of a message to us. */
export interface Delivery {
  readonly queue: string;
  readonly body: Buffer;
  readonly redelivered: boolean;
  /**
   * `user_id`, checked by the broker when present; null when the sender left it out. Of a job that a coordinator moved to its
   * pool's queue: the one that it came with.
   */
  readonly userId: string | null;
  readonly messageId: string | null;
  readonly correlationId: string | null;
  readonly replyTo: string | null;
  /** The message's own `expiration`, as sent; of a dead-lettered message the one it had before. */
  readonly expiration: string | null;
  readonly routingKey: string;
  readonly exchange: string;
  /**
   * Why the broker dead-lettered it last (reason of the first entry of `x-death`, which the broker writes; a client could
   * have sent `x-first-death-reason` itself), or null. Outside the dead-letter queues either is only a client's claim.
   */
  readonly deathReason: string | null;
  /** First routing key of the same entry: what it had when it died, or null. */
  readonly deathRoutingKey: string | null;
  /** Exchange of the same entry: by which it had come to the queue where it died, or null. */
  readonly deathExchange: string | null;
  readonly traceparent: string | null;
  /** Monotonic time of receipt, for the time spent in our hands. */
  readonly receivedMs: number;
  /** False once its channel is gone: the broker will deliver it again, and answering it does nothing. */
  readonly isLive: boolean;
  /** Answers the broker, once; later calls and calls after the channel went do nothing. */
  acknowledge(): void;
  /** Hands it back to the head of its queue, once. */
  requeue(): void;
}

/** A running consumer. `cancel` stops further deliveries; what was delivered stays ours until it is answered. */
export interface Consumption {
  readonly queue: string;
  readonly prefetch: number;
  cancel(): Promise<void>;
}

/**
 * One channel on the consuming connection. Acknowledgements are gathered: the finished prefix goes out as one multiple-ack,
 * what finishes behind a held delivery as single ones, once per event-loop turn.
 */
export interface ConsumerChannel {
  /**
   * Starts a consumer with a prefetch of its own. `onDelivery` must not throw: that ends the process. `onCancelled` is
   * called once if the broker ends the consumer (its queue was deleted); the channel and its other consumers go on.
   * Rejects with `TG_STORE_REJECTED` if there is no such queue or no permission, and then the channel is gone;
   * with StoreError if the connection went.
   */
  consume(
    queue: string,
    prefetch: number,
    onDelivery: (delivery: Delivery) => void,
    onCancelled?: () => void,
  ): Promise<Consumption>;
  /** Sends the answers gathered so far and closes; the broker delivers again what is still unanswered. Never rejects. */
  close(): Promise<void>;
}

/** What a room needs of the broker to consume: channels that come back after a lost connection are new ones. */
export interface Broker {
  readonly publisher: Publisher;
  /** Opens a channel; rejects with StoreError while the broker is away. `onGone` is called once if it is lost. */
  openChannel(onGone: () => void): Promise<ConsumerChannel>;
  /** True while connected and not blocked by a broker alarm. */
  readonly isUp: boolean;
  /** Called on each change of `isUp`. Returns a function that ends the subscription. */
  onChange(listener: (isUp: boolean) => void): () => void;
}
