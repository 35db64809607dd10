import type { Broker, ConsumerChannel, Delivery } from '../broker/types.ts';
import { QUEUE } from '../contracts/names.ts';
import { StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';
import type { JobLine } from './job-line.ts';
import type { Arrival, Source, WaitingRoom } from './types.ts';

/** Unacknowledged deliveries of each side queue; they need no slot, so a few are enough. */
const PREFETCH = 128;
/** A lost channel is opened again after this, in milliseconds. */
const REOPEN_MS = 250;
/** A job that came round by the alternate exchange and found no slot goes back there for this long, in milliseconds. */
const HOLD_MS = 1_000;

/**
 * Consumes one of the two side doors: jobs without a queue (`jobs.unroutable`: unknown model, or one added a moment ago) and
 * jobs whose `wait_ms` ran out in their queue (`jobs.expired`). Both run the same stages. Source: design [19].
 */
export class SideIntake implements Service, WaitingRoom {
  readonly #broker: Broker;
  readonly #line: Pick<JobLine, 'offer'>;
  readonly #log: Log;
  readonly #source: Exclude<Source, 'pool'>;
  readonly #timers = new Set<NodeJS.Timeout>();
  #channel: ConsumerChannel | null = null;
  #isRunning = false;

  constructor(
    deps: { broker: Broker; line: Pick<JobLine, 'offer'>; log: Log },
    source: Exclude<Source, 'pool'>,
  ) {
    this.#broker = deps.broker;
    this.#line = deps.line;
    this.#log = deps.log;
    this.#source = source;
  }

  async start(): Promise<void> {
    this.#isRunning = true;
    await this.#open();
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#channel?.close().catch(() => undefined);
    this.#channel = null;
  }

  hold(arrival: Arrival): void {
    this.#after(HOLD_MS, () => arrival.delivery.requeue());
  }

  placed(): void {}

  left(): void {}

  async #open(): Promise<void> {
    if (!this.#isRunning) return;
    try {
      const channel = await this.#broker.openChannel(() => this.#reopen());
      this.#channel = channel;
      await channel.consume(
        QUEUE[this.#source],
        PREFETCH,
        (delivery) => this.#receive(delivery),
        () => this.#reopen(),
      );
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.debug({ source: this.#source, reason: error.message }, 'side intake waits for the broker');
      this.#reopen();
    }
  }

  #reopen(): void {
    this.#channel = null;
    this.#after(REOPEN_MS, () => void this.#open());
  }

  #receive(delivery: Delivery): void {
    this.#line.offer({
      delivery,
      source: this.#source,
      priority: 'interactive',
      room: this,
      parsed: null,
      asked: 0,
    });
  }

  #after(delayMs: number, call: () => void): void {
    if (!this.#isRunning) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      call();
    }, delayMs);
    this.#timers.add(timer);
  }
}
