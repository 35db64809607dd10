import type { Arrival, Exit } from './types.ts';

/** First pause, in milliseconds: traces are gathered for about half as long. */
const DELAY_MS_MIN = 50;
const DELAY_MS_MAX = 1_000;

/**
 * Looks for a trace that is not in MongoDB yet: again after 50 ms, then after twice as long each time, up to a second. After
 * `asksMax` looks the arrival leaves as `lastly` says.
 */
export function askAgain(arrival: Arrival, asksMax: number, lastly: 'done' | 'requeued'): Exit {
  if (arrival.asked >= asksMax) return { arrival, outcome: { kind: lastly } };
  const delayMs = Math.min(DELAY_MS_MIN * 2 ** arrival.asked, DELAY_MS_MAX);
  return { arrival, outcome: { kind: 'later', delayMs } };
}
