import { createHash } from 'node:crypto';
import type { Delivery } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { StoreError } from '../errors.ts';
import type { Log } from '../ops/types.ts';

/** Tries of a message, kept outside this process. */
export interface SuspectCounts {
  count(queue: string, digest: string): Promise<number>;
  clear(queue: string, digest: string): Promise<void>;
}

/** A process that still turns this long after it took a suspect was not killed by it, in milliseconds. */
const SURVIVED_MS = 1_000;

/** Most messages remembered as handed back; beyond it they are merely slower. */
const CLEARED_MAX = 100_000;

function nameOf({ queue, messageId }: Delivery): string {
  return `${queue}/${messageId ?? ''}`;
}

interface Suspect {
  readonly delivery: Delivery;
  readonly go: (isPoison: boolean) => void;
}

/**
 * Finds the message that kills coordinators. For a while after a start, deliveries marked redelivered are let through one at a
 * time, each counted before and cleared once it left the line unharmed. One that was counted `suspectTriesMax` times was in
 * hand at every one of those deaths and is dead-lettered unread. None holds up the others longer than `SURVIVED_MS`. Fresh deliveries pass at once.
 *
 * Every start counts as unclean, because a process that was killed cannot say so; after a clean stop the few handed back
 * cost some milliseconds each. Without Redis nobody is suspected. Source: design [19].
 */
export class Suspects {
  readonly #counts: SuspectCounts;
  readonly #bounds: Pick<Config['line'], 'suspectMs' | 'suspectTriesMax'>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #untilMs: number;
  readonly #waiting: Suspect[] = [];
  /** Messages this process handed back itself. */
  readonly #cleared = new Set<string>();
  #current: { readonly delivery: Delivery; readonly digest: string } | null = null;

  constructor(
    counts: SuspectCounts,
    bounds: Pick<Config['line'], 'suspectMs' | 'suspectTriesMax'>,
    clock: Clock,
    log: Log,
  ) {
    this.#counts = counts;
    this.#bounds = bounds;
    this.#clock = clock;
    this.#log = log;
    this.#untilMs = clock.monotonicMs() + bounds.suspectMs;
  }

  /** Calls `go` at once, or when it is this delivery's turn; the prefetch bounds how many wait. */
  pass(delivery: Delivery, go: (isPoison: boolean) => void): void {
    const isEarly = this.#clock.monotonicMs() < this.#untilMs;
    const isSuspected = delivery.redelivered && isEarly && !this.#cleared.has(nameOf(delivery));
    if (!isSuspected) return go(false);
    this.#waiting.push({ delivery, go });
    if (this.#current === null) void this.#next();
  }

  /** True while this delivery is the one that all suspects behind it wait for. */
  isWatched(delivery: Delivery): boolean {
    return this.#current?.delivery === delivery;
  }

  /** The delivery goes back to its queue unharmed, by this process: when it comes again it is no suspect. */
  handedBack(delivery: Delivery): void {
    const isWorthIt = this.#clock.monotonicMs() < this.#untilMs && this.#cleared.size < CLEARED_MAX;
    if (isWorthIt && delivery.messageId !== null) this.#cleared.add(nameOf(delivery));
  }

  /** The delivery was answered or waits for a slot: it did no harm. Other deliveries are ignored. */
  left(delivery: Delivery): void {
    const current = this.#current;
    if (current?.delivery !== delivery) return;
    this.#current = null;
    this.#clear(delivery.queue, current.digest);
    void this.#next();
  }

  async #next(): Promise<void> {
    const suspect = this.#waiting.shift();
    if (suspect === undefined) return;
    const { delivery, go } = suspect;
    const digest = createHash('sha256').update(delivery.body).digest('base64url');
    this.#current = { delivery, digest };
    const tries = await this.#count(delivery.queue, digest);
    // Gone meanwhile: the broker brings it again.
    if (!delivery.isLive) return this.left(delivery);
    const isPoison = tries > this.#bounds.suspectTriesMax;
    if (isPoison) this.#log.error({ queue: delivery.queue, tries, digest }, 'poison is dead-lettered');
    go(isPoison);
    this.#clock.after(SURVIVED_MS, () => this.left(delivery), { holdsProcess: false });
  }

  async #count(queue: string, digest: string): Promise<number> {
    try {
      return await this.#counts.count(queue, digest);
    } catch (error) {
      if (error instanceof StoreError) return 0;
      throw error;
    }
  }

  #clear(queue: string, digest: string): void {
    this.#counts.clear(queue, digest).catch((error: unknown) => {
      if (!(error instanceof StoreError)) throw error;
    });
  }
}
