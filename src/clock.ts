/**
 * Time, handed to whoever needs it, so that tests and the simulator can hold it still.
 * `nowMs` is wall-clock time since 1970 (may step); `monotonicMs` only ever grows and is what
 * every interval is measured with. Nothing else in `src` calls `Date.now()`.
 */
export interface Clock {
  nowMs(): number;
  monotonicMs(): number;
}

/** The machine's own clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
