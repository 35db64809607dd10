import { setTimeout as sleep } from 'node:timers/promises';

/** How long `until` waits and how often it looks. */
export interface UntilOptions {
  /** Default 10,000. */
  readonly timeoutMs?: number;
  /** Pause between two looks, default 20. */
  readonly everyMs?: number;
}

/**
 * Waits until `condition` answers with something truthy and returns that value. A look that throws counts as "not yet".
 * Throws after `timeoutMs` with `what` (a noun phrase, "the job to settle") and the last error as `cause`.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  what: string,
  { timeoutMs = 10_000, everyMs = 20 }: UntilOptions = {},
): Promise<NonNullable<T>> {
  const endMs = performance.now() + timeoutMs;
  let cause: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= endMs) throw new Error(`waited ${timeoutMs} ms for ${what}`, { cause });
    await sleep(everyMs);
  }
}
