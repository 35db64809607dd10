import type { Broker, Delivery, Publisher } from '../broker/types.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import { poolOfJob, QUEUE } from '../contracts/names.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { JobLine } from './job-line.ts';
import { movedMessage } from './moved.ts';
import { QueueConsumer } from './queue-consumer.ts';
import type { SeenJobs } from './seen-jobs.ts';
import type { Suspects } from './suspects.ts';
import type { Arrival, Source, WaitingRoom } from './types.ts';

interface SideIntakeDeps {
  readonly broker: Broker;
  readonly publisher: Publisher;
  readonly line: Pick<JobLine, 'offer'>;
  readonly suspects: Suspects;
  readonly seen: SeenJobs;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'jobsReceived' | 'redelivered'>;
}

/** Unacknowledged deliveries of each side queue; they need no slot, so a few are enough. */
const PREFETCH = 128;
/** A job that found no slot while its pool has no queue yet goes back to where it came from after this, in milliseconds. */
const HOLD_MS = 1_000;

/**
 * Consumes one of the two side doors: jobs without a queue (`jobs.unroutable`: unknown model, or a pool made a moment ago) and
 * jobs whose `wait_ms` ran out in their queue (`jobs.expired`). Both run the same stages. A job of the first
 * kind that finds no slot waits where the others of its pool wait, as soon as there is such a queue: here it would be in the
 * way of all that come by this door. Source: design [19].
 */
export class SideIntake implements Service, WaitingRoom {
  readonly #line: Pick<JobLine, 'offer'>;
  readonly #publisher: Publisher;
  readonly #suspects: Suspects;
  readonly #seen: SeenJobs;
  readonly #clock: Clock;
  readonly #metrics: SideIntakeDeps['metrics'];
  readonly #source: Exclude<Source, 'pool'>;
  readonly #consumer: QueueConsumer;
  readonly #timers = new Set<CancelTimer>();
  readonly prefetch = PREFETCH;

  constructor(deps: SideIntakeDeps, source: Exclude<Source, 'pool'>) {
    this.#metrics = deps.metrics;
    this.#line = deps.line;
    this.#publisher = deps.publisher;
    this.#suspects = deps.suspects;
    this.#seen = deps.seen;
    this.#clock = deps.clock;
    this.#source = source;
    this.#consumer = new QueueConsumer(deps.broker, deps.clock, deps.log, {
      queue: QUEUE[source],
      prefetch: PREFETCH,
      onDelivery: (delivery) => this.#receive(delivery),
    });
  }

  start(): Promise<void> {
    return this.#consumer.start();
  }

  async stop(): Promise<void> {
    for (const cancel of this.#timers) cancel();
    await this.#consumer.stop();
  }

  hold(arrival: Arrival): void {
    this.left(arrival);
    const { delivery, parsed } = arrival;
    if (parsed) this.#seen.note(parsed.id, poolOfJob(parsed), parsed.priority);
    void this.#move(delivery);
  }

  /** Confirmed first, acknowledged then: a crash in between leaves two of one id, and the line answers both with one job. */
  async #move(delivery: Delivery): Promise<void> {
    if (this.#source === 'unroutable') {
      const outcome = await this.#publisher.publish(movedMessage(delivery));
      if (outcome === 'confirmed') return delivery.acknowledge();
    }
    const cancel = this.#clock.after(HOLD_MS, () => {
      this.#timers.delete(cancel);
      delivery.requeue();
    });
    this.#timers.add(cancel);
  }

  isAwaited(delivery: Delivery): boolean {
    return this.#suspects.isWatched(delivery);
  }

  placed(): void {}

  heldBy(): number {
    return 0;
  }

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
