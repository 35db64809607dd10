import type { Broker, Delivery } from '../broker/types.ts';
import { QUEUE } from '../contracts/names.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { JobLine } from './job-line.ts';
import { QueueConsumer } from './queue-consumer.ts';
import type { Suspects } from './suspects.ts';
import type { Arrival, Source, WaitingRoom } from './types.ts';

interface SideIntakeDeps {
  readonly broker: Broker;
  readonly line: Pick<JobLine, 'offer'>;
  readonly suspects: Suspects;
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'jobsReceived' | 'redelivered'>;
}

/** Unacknowledged deliveries of each side queue; they need no slot, so a few are enough. */
const PREFETCH = 128;
/** A job that came round by the alternate exchange and found no slot goes back there after this, in milliseconds. */
const HOLD_MS = 1_000;

/**
 * Consumes one of the two side doors: jobs without a queue (`jobs.unroutable`: unknown model, or one added a moment ago) and
 * jobs whose `wait_ms` ran out in their queue (`jobs.expired`). Both run the same stages. Source: design [19].
 */
export class SideIntake implements Service, WaitingRoom {
  readonly #line: Pick<JobLine, 'offer'>;
  readonly #suspects: Suspects;
  readonly #metrics: SideIntakeDeps['metrics'];
  readonly #source: Exclude<Source, 'pool'>;
  readonly #consumer: QueueConsumer;
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(deps: SideIntakeDeps, source: Exclude<Source, 'pool'>) {
    this.#metrics = deps.metrics;
    this.#line = deps.line;
    this.#suspects = deps.suspects;
    this.#source = source;
    this.#consumer = new QueueConsumer(deps.broker, deps.log, {
      queue: QUEUE[source],
      prefetch: PREFETCH,
      onDelivery: (delivery) => this.#receive(delivery),
    });
  }

  start(): Promise<void> {
    return this.#consumer.start();
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#consumer.stop();
  }

  hold(arrival: Arrival): void {
    this.left(arrival);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      arrival.delivery.requeue();
    }, HOLD_MS);
    this.#timers.add(timer);
  }

  placed(): void {}

  left(arrival: Arrival): void {
    this.#suspects.left(arrival.delivery);
  }

  #receive(delivery: Delivery): void {
    this.#metrics.jobsReceived(1);
    if (delivery.redelivered) this.#metrics.redelivered(1);
    this.#suspects.pass(delivery, (isPoison) => {
      const source = this.#source;
      this.#line.offer({
        delivery,
        source,
        priority: 'interactive',
        room: this,
        parsed: null,
        jobId: null,
        resumed: null,
        isPoison,
        isRefreshed: false,
        asked: 0,
      });
    });
  }
}
