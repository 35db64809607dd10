import type { CancelTimer, Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { UnderWay } from './under-way.ts';

/** What waits, as far as it matters for how long it may: whose delivery is to be answered, and whether others wait for that. */
interface Owed {
  readonly consumer: Consumer;
  readonly isAwaited: boolean;
}

/** `prefetch`: deliveries of the consumer that may be unanswered at a time. */
interface Consumer {
  readonly prefetch: number;
}

/** Which part of a consumer's prefetch may wait here: what is behind it in its queue needs the rest. */
const PREFETCH_PARTS = 4;

/**
 * Gathers the ends of jobs that nobody waits for: traces, acknowledgements, the refusals of a flood. At a few jobs a turn each of
 * them would be a durable write of its own in MongoDB, a line in a quorum queue's log and a dozen processes woken, and those that
 * still want a slot or a lock would wait for the cores; together they cost little more than one.
 *
 * What comes after a quiet time goes at the end of the turn. The rest goes `gatherMs` after the last, or earlier, as soon as there is
 * a batch of it, a consumer has a quarter of its prefetch here, or others wait for the end of one: after a start, redelivered
 * messages are let through one at a time. At most `batchEndsMax` run at a time. Prior art: group commit (Gray, Reuter 1993),
 * `linger.ms` of Kafka's producer.
 */
export class Coalescer<T> {
  readonly #clock: Pick<Clock, 'after' | 'monotonicMs' | 'soon'>;
  readonly #bounds: Pick<Config['line'], 'batchJobsMax' | 'batchEndsMax' | 'gatherMs'>;
  readonly #owedOf: (item: T) => Owed;
  readonly #run: (items: readonly T[]) => Promise<void>;
  readonly #waiting: T[] = [];
  readonly #waitingOf = new Map<Consumer, number>();
  readonly #underWay = new UnderWay();
  /** True when what waits need wait no longer. */
  #isDue = false;
  /** True from an offer to the end of its turn. */
  #isLooking = false;
  #isOpen = true;
  #begunMs = Number.NEGATIVE_INFINITY;
  #cancelTimer: CancelTimer | null = null;

  /** `run` must not reject: it answers for every item it was given. */
  constructor(
    clock: Pick<Clock, 'after' | 'monotonicMs' | 'soon'>,
    bounds: Pick<Config['line'], 'batchJobsMax' | 'batchEndsMax' | 'gatherMs'>,
    owedOf: (item: T) => Owed,
    run: (items: readonly T[]) => Promise<void>,
  ) {
    this.#clock = clock;
    this.#bounds = bounds;
    this.#owedOf = owedOf;
    this.#run = run;
  }

  /** Takes over `items`; begins nothing in this turn. */
  offer(items: readonly T[]): void {
    if (items.length === 0) return;
    for (const item of items) {
      const { consumer, isAwaited } = this.#owedOf(item);
      const count = (this.#waitingOf.get(consumer) ?? 0) + 1;
      this.#waiting.push(item);
      this.#waitingOf.set(consumer, count);
      if (isAwaited || count * PREFETCH_PARTS >= consumer.prefetch) this.#isDue = true;
    }
    if (this.#waiting.length >= this.#bounds.batchJobsMax) this.#isDue = true;
    // What the caller does next is waited for; this is not.
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#clock.soon(() => this.#look());
  }

  /** Resolves when less than a batch waits: a slow store slows the intake down instead of piling ends up. */
  async room(): Promise<void> {
    while (this.#waiting.length >= this.#bounds.batchJobsMax)
      await (this.#isLooking ? this.#turn() : this.#underWay.next());
  }

  /** Lets everything go, and resolves when it has ended. */
  async close(): Promise<void> {
    this.#isOpen = false;
    this.#look();
    await this.#underWay.ended();
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#clock.soon(resolve));
  }

  #look(): void {
    this.#isLooking = false;
    while (this.#waiting.length > 0 && this.#underWay.size < this.#bounds.batchEndsMax) {
      const sinceMs = this.#clock.monotonicMs() - this.#begunMs;
      const waitMs = this.#isDue || !this.#isOpen ? 0 : this.#bounds.gatherMs - sinceMs;
      if (waitMs > 0) {
        this.#cancelTimer ??= this.#clock.after(waitMs, () => this.#ring());
        return;
      }
      this.#begin();
    }
  }

  #ring(): void {
    this.#cancelTimer = null;
    this.#isDue = true;
    this.#look();
  }

  #begin(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    const items = this.#waiting.splice(0, this.#bounds.batchJobsMax);
    this.#waitingOf.clear();
    this.#isDue = this.#waiting.length > 0;
    this.#begunMs = this.#clock.monotonicMs();
    this.#underWay.add(this.#run(items), () => this.#look());
  }
}
