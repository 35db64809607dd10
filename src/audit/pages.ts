import { setTimeout as sleep } from 'node:timers/promises';
import type { TimeSource } from '../clock.ts';

/** Before every key: no UUIDv7 is that small. */
export const FIRST_UUID = '00000000-0000-0000-0000-000000000000';

/**
 * All rows of a keyed query, page by page: `ask` is given the last row of the page before, null at first. Each page is a
 * statement and a snapshot of its own, so the walk as a whole is of no one moment.
 */
export async function* pagesOf<Row>(
  pageRows: number,
  ask: (after: Row | null) => Promise<Row[]>,
): AsyncGenerator<readonly Row[]> {
  for (let after: Row | null = null; ; ) {
    const page = await ask(after);
    if (page.length > 0) yield page;
    if (page.length < pageRows) return;
    after = page.at(-1) ?? null;
  }
}

/** First pause before suspects are looked at again, in milliseconds; each further one is twice as long. */
const FIRST_PAUSE_MS = 250;

/**
 * Looks at suspects again, with growing pauses, until none is left or `forMs` have passed. `ask` answers those that still are;
 * so does this. What was only in flight is cleared by the first looks, and a clean system costs nothing.
 */
export async function askAgain<Suspect>(
  suspects: readonly Suspect[],
  forMs: number,
  clock: TimeSource,
  ask: (suspects: readonly Suspect[]) => Promise<readonly Suspect[]>,
): Promise<readonly Suspect[]> {
  const endMs = clock.monotonicMs() + forMs;
  let left = suspects;
  for (let pauseMs = FIRST_PAUSE_MS; left.length > 0; pauseMs *= 2) {
    const remainingMs = endMs - clock.monotonicMs();
    if (remainingMs <= 0) break;
    await sleep(Math.min(pauseMs, remainingMs));
    left = await ask(left);
  }
  return left;
}
