import { within } from '../measure/clock.ts';

/**
 * Calls what removes something, one after the other, also when one of them throws, and waits `msMax` at most for all of them.
 * Resolves to the reasons why something may be left; never rejects.
 */
export async function runAll(endings: readonly (() => unknown)[], msMax: number): Promise<string[]> {
  const reasons: string[] = [];
  const ended = (async () => {
    for (const end of endings)
      try {
        await end();
      } catch (error) {
        reasons.push(error instanceof Error ? error.message : String(error));
      }
  })();
  await within(ended, msMax, 'the removal').catch(() =>
    reasons.push(`not all was removed within ${msMax / 1_000} s`),
  );
  return [...reasons];
}

/** Ends the process when its standard output is written, whatever is still under way: a driver, perhaps, that looks for its server. */
export function endWith(status: number): void {
  process.stdout.write('', () => process.exit(status));
}
