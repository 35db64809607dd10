import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Time, to be read only. `nowMs` is wall-clock time since 1970 (may step); `monotonicMs` only ever grows and is what every
 * interval is measured with. Nothing else in `src` calls `Date.now()`.
 */
export interface TimeSource {
  nowMs(): number;
  monotonicMs(): number;
}

/** Ends a timer; again, or after it rang, does nothing. */
export type CancelTimer = () => void;

/**
 * Time and what waits for it, handed to whoever needs them, so that tests can hold it still and the simulator decides what comes
 * next. Durations in milliseconds. `holdsProcess: false`: the process may end before.
 */
export interface Clock extends TimeSource {
  /** Calls once. */
  after(ms: number, call: () => void, options?: { readonly holdsProcess: boolean }): CancelTimer;
  /** Calls again and again, the first time after `ms`. */
  every(ms: number, call: () => void): CancelTimer;
  sleep(ms: number): Promise<void>;
  /** Calls once this turn of the event loop has ended. */
  soon(call: () => void): void;
}

/** The machine's own clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (ms, call, { holdsProcess } = { holdsProcess: true }) => {
    const timer = setTimeout(call, ms);
    if (!holdsProcess) timer.unref();
    return () => clearTimeout(timer);
  },
  every: (ms, call) => {
    const timer = setInterval(call, ms);
    return () => clearInterval(timer);
  },
  sleep: (ms) => sleep(ms),
  soon: (call) => void setImmediate(call),
};
