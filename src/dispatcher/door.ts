import type { Clock } from '../clock.ts';
import { Batcher } from './batcher.ts';
import type { Exit, WaitingRoom } from './types.ts';

/** Bounds of the door. */
interface DoorBounds {
  readonly batchJobsMax: number;
  /** From the end of one batch of refusals to the next, in milliseconds. */
  readonly refusalsGatherMs: number;
}

/** Which part of a consumer's prefetch may wait here, while the others of its queue need the rest. */
const PREFETCH_PARTS = 4;

/**
 * The way out for jobs beyond a limit, beside the batches: a flood of them holds up no end of a batch. A refusal after a quiet
 * time leaves at once. Those of a flood are gathered, `refusalsGatherMs` at most: at a few jobs a turn their replies and
 * acknowledgements would wake the broker for each, and that is what the other accounts' jobs would wait for. Never so many that
 * a consumer has a quarter of its prefetch here: what is behind them in its queue would not be delivered.
 */
export class Door {
  readonly #clock: Pick<Clock, 'soon' | 'after'>;
  readonly #gatherMs: number;
  readonly #answer: (exits: readonly Exit[]) => Promise<void>;
  readonly #batcher: Batcher<Exit>;
  #waiting: Exit[] = [];
  readonly #waitingOf = new Map<WaitingRoom, number>();
  /** Ends the pause that runs. */
  #goOn: (() => void) | null = null;
  #isOpen = true;

  /** `answer` must not reject: it answers for every exit it was given. */
  constructor(
    clock: Pick<Clock, 'soon' | 'after'>,
    { batchJobsMax, refusalsGatherMs }: DoorBounds,
    answer: (exits: readonly Exit[]) => Promise<void>,
  ) {
    this.#clock = clock;
    this.#gatherMs = refusalsGatherMs;
    this.#answer = answer;
    this.#batcher = new Batcher(
      clock,
      { batchJobsMax, batchesInFlightMax: 1 },
      (countMax) => this.#take(countMax),
      (exits) => this.#run(exits),
    );
  }

  /** Takes over what is to be refused. */
  offer(exits: readonly Exit[]): void {
    for (const exit of exits) {
      const { room } = exit.arrival;
      const count = (this.#waitingOf.get(room) ?? 0) + 1;
      this.#waiting.push(exit);
      this.#waitingOf.set(room, count);
    }
    if (this.#isFull()) this.#goOn?.();
    this.#batcher.nudge();
  }

  /** Resolves when the batch under way has ended; returns those that have not begun. */
  async close(): Promise<readonly Exit[]> {
    this.#isOpen = false;
    this.#goOn?.();
    await this.#batcher.close();
    return this.#take(this.#waiting.length);
  }

  #take(countMax: number): readonly Exit[] {
    const exits = this.#waiting.splice(0, countMax);
    for (const { arrival } of exits) {
      const left = (this.#waitingOf.get(arrival.room) ?? 0) - 1;
      if (left > 0) this.#waitingOf.set(arrival.room, left);
      else this.#waitingOf.delete(arrival.room);
    }
    return exits;
  }

  async #run(exits: readonly Exit[]): Promise<void> {
    await this.#answer(exits);
    if (this.#isOpen && !this.#isFull()) await this.#pause();
  }

  #isFull(): boolean {
    return [...this.#waitingOf].some(([room, count]) => count * PREFETCH_PARTS >= room.prefetch);
  }

  #pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#clock.after(this.#gatherMs, resolve);
    this.#goOn = resolve;
    return promise.finally(() => {
      cancel();
      this.#goOn = null;
    });
  }
}
