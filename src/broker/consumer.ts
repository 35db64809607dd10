import type { Channel, ConsumeMessage } from 'amqplib';
import type { Clock } from '../clock.ts';
import type { Log } from '../ops/types.ts';
import { brokerError, textOf } from './amqp-errors.ts';
import { Answers, type Verdict } from './answers.ts';
import { AmqpDelivery } from './delivery.ts';
import type { ConsumerChannel, Consumption, Delivery } from './types.ts';

/**
 * A consuming channel. States: live → gone, when it is closed by us, by the broker or with its connection; then `isLive`
 * of its deliveries is false and their answers do nothing. It never comes back: open another.
 */
export class AmqpConsumerChannel implements ConsumerChannel {
  readonly #channel: Channel;
  readonly #answers: Answers;
  readonly #clock: Clock;
  readonly #log: Log;

  constructor(channel: Channel, clock: Clock, log: Log, onGone: (isLost: boolean) => void) {
    this.#channel = channel;
    this.#clock = clock;
    this.#log = log;
    this.#answers = new Answers((verdict, tag, isMultiple) => this.#send(verdict, tag, isMultiple));
    channel.on('error', (error) =>
      log.warn({ reason: textOf(error) }, 'a consuming channel was closed by the broker'),
    );
    channel.on('handler-error', (error) =>
      log.warn({ reason: textOf(error) }, 'amqplib could not place a frame'),
    );
    channel.once('close', () => {
      const isLost = this.#answers.isLive;
      this.#answers.end();
      onGone(isLost);
    });
  }

  async consume(
    queue: string,
    prefetch: number,
    onDelivery: (delivery: Delivery) => void,
    onCancelled: () => void = () => {},
  ): Promise<Consumption> {
    const channel = this.#channel;
    const onMessage = (message: ConsumeMessage | null) => {
      // null: the broker ended the consumer, because its queue was deleted or lost its leader.
      if (message === null) callApart(onCancelled);
      else this.#deliver(queue, message, onDelivery);
    };
    try {
      // Both are queued in this turn, so no other consumer of the channel gets this prefetch.
      const [, { consumerTag }] = await Promise.all([
        channel.prefetch(prefetch),
        channel.consume(queue, onMessage),
      ]);
      return { queue, prefetch, cancel: () => this.#cancel(consumerTag) };
    } catch (error) {
      throw brokerError(error, `consuming from ${queue}`);
    }
  }

  async close(): Promise<void> {
    this.#answers.flush();
    this.#answers.end();
    // It rejects where the channel is gone already, which is what is wanted.
    await this.#channel.close().catch(() => {});
  }

  #deliver(queue: string, message: ConsumeMessage, onDelivery: (delivery: Delivery) => void): void {
    this.#answers.delivered(message.fields.deliveryTag);
    const delivery = new AmqpDelivery(queue, message, this.#answers, this.#clock.monotonicMs());
    try {
      onDelivery(delivery);
    } catch (error) {
      rethrowApart(error);
    }
  }

  async #cancel(consumerTag: string): Promise<void> {
    if (!this.#answers.isLive) return;
    try {
      await this.#channel.cancel(consumerTag);
    } catch (error) {
      this.#log.debug({ reason: textOf(error) }, 'the channel went while its consumer was cancelled');
    }
  }

  #send(verdict: Verdict, tag: number, isMultiple: boolean): void {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- amqplib wants a message and reads only its tag.
    const message = { fields: { deliveryTag: tag } } as ConsumeMessage;
    try {
      if (verdict === 'acknowledge') this.#channel.ack(message, isMultiple);
      else this.#channel.nack(message, isMultiple, true);
    } catch (error) {
      // The connection is closing: nothing can be sent any more, and the broker delivers again what it has no answer to.
      this.#log.debug({ reason: textOf(error) }, 'an answer came after its channel');
    }
  }
}

function callApart(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    rethrowApart(error);
  }
}

/** What a consumer's callback throws is a programmer's error: it ends the process, and must not pass for a bad frame. */
function rethrowApart(error: unknown): void {
  setImmediate(() => {
    throw error;
  });
}
