import type { Clock } from '../clock.ts';
import { StoreError } from '../errors.ts';

/** How long and how often a stage repeats a call to a server that is away. All in milliseconds. */
export interface Patience {
  readonly clock: Clock;
  readonly forMs: number;
  readonly delayMsMax: number;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** False as soon as nobody waits for the answer any more: every delivery of the batch is gone, or we stop. */
  readonly isWanted: () => boolean;
  /** Told about each failure. */
  readonly onFailure: (error: StoreError) => void;
}

const DELAY_MS_MIN = 20;

/**
 * Calls until it succeeds, with a growing pause between the tries. Only a StoreError is repeated: every call made through
 * here is idempotent by its ids, so "unknown" is answered by asking again (design [4]). Throws the last StoreError when
 * patience ends.
 */
export async function persist<T>(call: () => Promise<T>, patience: Patience): Promise<T> {
  const untilMs = patience.clock.monotonicMs() + patience.forMs;
  for (let delayMs = DELAY_MS_MIN; ; delayMs = Math.min(delayMs * 2, patience.delayMsMax)) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      patience.onFailure(error);
      const jitteredMs = delayMs * (0.5 + patience.random() / 2);
      if (!patience.isWanted() || patience.clock.monotonicMs() + jitteredMs > untilMs) throw error;
      await patience.clock.sleep(jitteredMs);
      if (!patience.isWanted()) throw error;
    }
  }
}
