import type { ChannelModel } from 'amqplib';
import type { Clock } from '../clock.ts';
import { StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';
import { brokerError, isOutOfChannels, textOf } from './amqp-errors.ts';
import { AmqpConsumerChannel } from './consumer.ts';
import { Link } from './link.ts';
import { ConfirmPublisher } from './publisher.ts';
import { type QueueBounds, Topology } from './topology.ts';
import type { Broker, ConsumerChannel } from './types.ts';

/** What a broker connection needs; the numbers come from `Config['servers']` and `Config['broker']`. */
export interface BrokerOptions {
  /** `amqp://` or `amqps://` with user, password and vhost. */
  readonly url: string;
  /** Who connects, as the broker's management pages show it. */
  readonly name: string;
  readonly heartbeatS: number;
  readonly connectTimeoutMs: number;
  readonly reconnectDelayMsMax: number;
  /** Failed tries after which `start` rejects; later outages are waited for without end. Default 5. */
  readonly initialTriesMax?: number;
  readonly unconfirmedMax: number;
  readonly confirmMsMax: number;
  readonly bounds: QueueBounds;
  /** Sent as `user_id` of every message; nodes and publishers must, coordinators must not. */
  readonly userId?: string;
  /** Declares what this process needs; awaited on every new connection before the broker counts as up. */
  readonly setup?: (topology: Topology) => Promise<void>;
  readonly log: Log;
  readonly clock: Clock;
}

const INITIAL_TRIES_MAX = 5;

/**
 * RabbitMQ over two connections: one publishes (a broker under memory or disk alarm stops reading it), the other
 * consumes, acknowledges and declares. Each is made again on its own when it is lost. States: stopped → starting → up ⇄
 * down → stopped; `isUp` needs both connections, an open confirm channel, the topology in place and no alarm.
 */
export class AmqpBroker implements Broker, Service {
  readonly topology: Topology;
  readonly #options: BrokerOptions;
  readonly #publisher: ConfirmPublisher;
  readonly #publishing: Link;
  readonly #consuming: Link;
  readonly #channels = new Set<AmqpConsumerChannel>();
  readonly #listeners = new Set<(isUp: boolean) => void>();
  #wasUp = false;
  /** What the log says of this consuming connection already: it would be said again and again, or of a thousand queues. */
  readonly #told = new Set<string>();

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.topology = new Topology(options.bounds, (queue, { message: reason }) =>
      this.#tellOnce('warn', { queue, reason }, 'a queue keeps the length it was made with, and others may'),
    );
    this.#publisher = new ConfirmPublisher({ ...options, userId: options.userId ?? null });
    this.#publishing = new Link(
      { ...options, name: `${options.name} publish` },
      {
        onOpen: (model) => this.#openPublishChannel(model),
        onUp: () => this.#noteChange(),
        onLost: () => {
          // The next connection is told again if the alarm still holds; its end would not be.
          this.#publisher.setBlocked(false);
          this.#noteChange();
        },
        onBlocked: (isBlocked) => this.#noteBlocked(isBlocked),
      },
    );
    this.#consuming = new Link(
      { ...options, name: `${options.name} consume` },
      {
        onOpen: (model) => {
          this.#told.clear();
          return this.#setUp(model);
        },
        onUp: () => this.#noteChange(),
        onLost: () => {
          this.topology.detach();
          this.#noteChange();
        },
      },
    );
  }

  get publisher(): ConfirmPublisher {
    return this.#publisher;
  }

  get isUp(): boolean {
    return this.#publisher.isReady && this.#publishing.model !== null && this.#consuming.model !== null;
  }

  onChange(listener: (isUp: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when both connections are there; rejects when one could not be made in `initialTriesMax` tries. */
  async start(): Promise<void> {
    const triesMax = this.#options.initialTriesMax ?? INITIAL_TRIES_MAX;
    try {
      // One after the other: what `setup` declares is there before anything can be published.
      await this.#consuming.start(triesMax);
      await this.#publishing.start(triesMax);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Sends what was answered, then closes; publishes without an outcome become `unknown`. */
  async stop(): Promise<void> {
    // The channels first: amqplib sends a connection's close before what its channels still have to send.
    await this.#closeChannels();
    await Promise.all([this.#publishing.stop(), this.#consuming.stop()]);
  }

  async openChannel(onGone: () => void): Promise<ConsumerChannel> {
    const model = this.#consuming.model;
    if (model === null) throw new StoreError('rabbitmq', 'opening a channel: not connected');
    try {
      const { clock, log } = this.#options;
      const amqp = await model.createChannel();
      const channel: AmqpConsumerChannel = new AmqpConsumerChannel(amqp, clock, log, (isLost) => {
        this.#channels.delete(channel);
        if (isLost) onGone();
      });
      this.#channels.add(channel);
      return channel;
    } catch (error) {
      // Nothing is lost by it, and nothing moves either: what wants a channel waits for one.
      if (isOutOfChannels(error))
        this.#tellOnce(
          'error',
          { channels: this.#channels.size },
          'no channel is left on the connection to RabbitMQ, so some pools are not consumed: raise channel_max in its rabbitmq.conf',
        );
      throw brokerError(error, 'opening a channel');
    }
  }

  #tellOnce(level: 'warn' | 'error', fields: object, text: string): void {
    if (this.#told.has(text)) return;
    this.#told.add(text);
    const { log, name } = this.#options;
    log[level]({ broker: name, ...fields }, text);
  }

  /** A broker that does not answer gets no more time here than for a connection. */
  async #closeChannels(): Promise<void> {
    const { promise: tooLong, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, this.#options.connectTimeoutMs);
    await Promise.race([Promise.all([...this.#channels].map((channel) => channel.close())), tooLong]);
    clearTimeout(timer);
  }

  async #setUp(model: ChannelModel): Promise<void> {
    const { log, name } = this.#options;
    await this.topology.attach(model, (error) =>
      log.error(
        { broker: name, code: error.code, reason: error.message },
        'a queue cannot be declared again',
      ),
    );
    await this.#options.setup?.(this.topology);
  }

  /**
   * Opens the confirm channel. A message that the broker refuses (an exchange that is gone, a foreign `user_id`) closes
   * the channel and not the connection; then the next one is opened at once, and what was under way is `unknown`.
   */
  async #openPublishChannel(model: ChannelModel): Promise<void> {
    const { log, name } = this.#options;
    const channel = await model.createConfirmChannel();
    channel.on('error', (error) =>
      log.warn({ broker: name, reason: textOf(error) }, 'the publishing channel was closed'),
    );
    channel.on('handler-error', (error) =>
      log.error({ broker: name, reason: textOf(error) }, 'a listener failed'),
    );
    this.#publisher.attach(channel);
    channel.once('close', () => {
      this.#noteChange();
      // A connection that ends closes its channels first: a turn later it is clear which of the two went.
      setImmediate(() => this.#reopenPublishChannel(model));
    });
  }

  #reopenPublishChannel(model: ChannelModel): void {
    if (this.#publishing.model !== model) return;
    this.#openPublishChannel(model).then(
      () => this.#noteChange(),
      () => this.#publishing.drop(),
    );
  }

  #noteBlocked(isBlocked: boolean): void {
    this.#publisher.setBlocked(isBlocked);
    this.#options.log.warn(
      { broker: this.#options.name, isBlocked },
      'the broker changed its resource alarm',
    );
    this.#noteChange();
  }

  #noteChange(): void {
    const isUp = this.isUp;
    if (isUp === this.#wasUp) return;
    this.#wasUp = isUp;
    for (const listener of this.#listeners) listener(isUp);
  }
}

/** Makes a broker and starts it. Rejects as `AmqpBroker.start` does. */
export async function connectBroker(options: BrokerOptions): Promise<AmqpBroker> {
  const broker = new AmqpBroker(options);
  await broker.start();
  return broker;
}
