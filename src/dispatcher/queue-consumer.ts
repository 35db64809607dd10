import type { Broker, ConsumerChannel, Delivery } from '../broker/types.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import { StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';

/** A lost channel is opened again after this, in milliseconds. */
const REOPEN_MS = 250;

/** What is consumed, and by whom. */
export interface QueueConsumerOptions {
  readonly queue: string;
  readonly prefetch: number;
  /** Must not throw. */
  readonly onDelivery: (delivery: Delivery) => void;
  /** The channel went: what was delivered and not answered comes again. */
  readonly onGone?: () => void;
}

/**
 * Consumes one queue for as long as it runs: `start` resolves when the first consumer stands, and one that the broker or the
 * network took is made again without end.
 */
export class QueueConsumer implements Service {
  readonly #broker: Broker;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #options: QueueConsumerOptions;
  #channel: ConsumerChannel | null = null;
  #cancel: (() => Promise<void>) | null = null;
  #timer: CancelTimer | null = null;
  #isRunning = false;

  constructor(broker: Broker, clock: Clock, log: Log, options: QueueConsumerOptions) {
    this.#broker = broker;
    this.#clock = clock;
    this.#log = log;
    this.#options = options;
  }

  /** True while a consumer stands. */
  get isConsuming(): boolean {
    return this.#cancel !== null;
  }

  async start(): Promise<void> {
    this.#isRunning = true;
    await this.#open();
  }

  /** No more deliveries. The channel stays for the answers of what is under way; it goes with the broker's connection. */
  async stop(): Promise<void> {
    this.#isRunning = false;
    this.#timer?.();
    const cancel = this.#cancel;
    this.#cancel = null;
    await cancel?.();
  }

  async #open(): Promise<void> {
    if (!this.#isRunning) return;
    const { queue, prefetch, onDelivery } = this.#options;
    try {
      const channel: ConsumerChannel = await this.#broker.openChannel(() => this.#reopen(channel));
      this.#channel = channel;
      const consumption = await channel.consume(queue, prefetch, onDelivery, () => this.#reopen(channel));
      this.#cancel = () => consumption.cancel();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.debug({ queue, reason: error.message }, 'consumer waits for the broker');
      this.#reopen(this.#channel);
    }
  }

  #reopen(channel: ConsumerChannel | null): void {
    if (channel !== this.#channel) return;
    this.#channel = null;
    this.#cancel = null;
    this.#options.onGone?.();
    void channel?.close().catch(() => undefined);
    if (!this.#isRunning) return;
    this.#timer?.();
    this.#timer = this.#clock.after(REOPEN_MS, () => void this.#open());
  }
}
