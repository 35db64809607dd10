/** First pause, in milliseconds: traces are gathered for about half as long. */
const DELAY_MS_MIN = 50;
const DELAY_MS_MAX = 1_000;

/** When to look again for a trace that is not in MongoDB yet: after 50 ms, then after twice as long each time, up to a second. */
export function askAgainDelayMs(asked: number): number {
  return Math.min(DELAY_MS_MIN * 2 ** asked, DELAY_MS_MAX);
}
