import pLimit, { type LimitFunction } from 'p-limit';
import type { Clock } from '../clock.ts';
import { UnderWay } from './under-way.ts';

/**
 * Batches that form by themselves: whatever waits when a batch may start is the batch, so an idle system sends one job at
 * once and a loaded one shares a commit among hundreds. There is no timer; the only delay is to the end of the current turn
 * of the event loop, in which one socket read delivers many messages. Source: design [1].
 *
 * `run` must not reject: it answers for every item it was given.
 */
export class Batcher<T> {
  readonly #clock: Pick<Clock, 'soon'>;
  readonly #take: (countMax: number) => readonly T[];
  readonly #run: (batch: readonly T[]) => Promise<void>;
  readonly #batchMax: number;
  readonly #inFlightMax: number;
  readonly #limit: LimitFunction;
  #isScheduled = false;
  #isOpen = true;
  readonly #underWay = new UnderWay();

  constructor(
    clock: Pick<Clock, 'soon'>,
    bounds: { batchJobsMax: number; batchesInFlightMax: number },
    take: (countMax: number) => readonly T[],
    run: (batch: readonly T[]) => Promise<void>,
  ) {
    this.#clock = clock;
    this.#batchMax = bounds.batchJobsMax;
    this.#inFlightMax = bounds.batchesInFlightMax;
    this.#limit = pLimit(bounds.batchesInFlightMax);
    this.#take = take;
    this.#run = run;
  }

  get inFlight(): number {
    return this.#underWay.size;
  }

  /** Something waits. Cheap; call it for every arrival. */
  nudge(): void {
    if (this.#isScheduled || !this.#isOpen || this.#underWay.size >= this.#inFlightMax) return;
    this.#isScheduled = true;
    this.#clock.soon(() => {
      this.#isScheduled = false;
      this.#start();
    });
  }

  /** Starts no further batch and resolves when those under way have ended. */
  async close(): Promise<void> {
    this.#isOpen = false;
    await this.#underWay.ended();
  }

  #start(): void {
    while (this.#isOpen && this.#underWay.size < this.#inFlightMax) {
      const batch = this.#take(this.#batchMax);
      if (batch.length === 0) return;
      this.#underWay.add(
        this.#limit(() => this.#run(batch)),
        () => this.nudge(),
      );
    }
  }
}
