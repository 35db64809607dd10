import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * Reads the TAP that `npm test` wrote and says how the tests went: `N passed, N failed[, N skipped]`, alone on the last
 * line. Exits 1 when one failed, when none passed, when the run itself failed, or when one was skipped that test/skips.json
 * does not list with its reason. Usage: count-tests.ts FILE STATUS_OF_THE_RUN
 */
export interface Totals {
  readonly passed: number;
  readonly failed: number;
  /** Those left out or only planned, each as `file > test > name`. */
  readonly skips: readonly string[];
  /** False when the run was cut off before its totals. */
  readonly isComplete: boolean;
}

/** An entry of test/skips.json. */
export interface ListedSkip {
  readonly test: string;
  readonly reason: string;
}

/** Totals of a TAP file. */
export function readTap(text: string): Totals {
  const path: string[] = [];
  const skips: string[] = [];
  let totals: string | undefined;
  for (const line of text.split('\n')) {
    const rest = line.trimStart();
    const depth = (line.length - rest.length) / 4;
    const name = /^# Subtest: (.*)$/.exec(rest)?.[1];
    if (name !== undefined) path.splice(depth, path.length, plain(name));
    const left = /^(?:not )?ok \d+ - (.*?) # (?:SKIP|TODO)\b/i.exec(rest)?.[1];
    if (left !== undefined) skips.push([...path.slice(0, depth), plain(left)].join(' > '));
    // The last line of that form at the left margin is the whole run's.
    if (line.startsWith('# { total: ')) totals = line;
  }
  const count = (word: string) => Number(new RegExp(`\\b${word}: (\\d+)`).exec(totals ?? '')?.[1] ?? 0);
  return { passed: count('pass'), failed: count('fail'), skips, isComplete: totals !== undefined };
}

/** The lines to print and the exit status. */
export function judge(
  { passed, failed, skips, isComplete }: Totals,
  runStatus: number,
  listed: readonly ListedSkip[],
): { lines: readonly string[]; exitStatus: 0 | 1 } {
  const reasons = new Map(listed.map(({ test, reason }) => [test, reason]));
  const told = skips
    .filter((test) => reasons.get(test))
    .map((test) => `skipped: ${test} (${reasons.get(test)})`);
  const faults = skips
    .filter((test) => !reasons.get(test))
    .map((test) => `skipped, but not listed with a reason in test/skips.json: ${test}`);
  if (!isComplete) faults.push('the test run did not come to its end');
  else if (passed === 0) faults.push('no test passed');
  if (runStatus !== 0 && failed === 0) faults.push(`the test run ended with status ${runStatus}`);
  const failures = Math.max(failed, Math.min(faults.length, 1));
  const skipped = skips.length > 0 ? `, ${skips.length} skipped` : '';
  return {
    lines: [...told, ...faults, `${passed} passed, ${failures} failed${skipped}`],
    exitStatus: failures > 0 ? 1 : 0,
  };
}

/** TAP escapes what would begin a comment. */
function plain(name: string): string {
  return name.replaceAll(/\\([\\#])/g, '$1');
}

if (import.meta.main) {
  const [file = '', status] = process.argv.slice(2);
  const listed: ListedSkip[] = JSON.parse(
    readFileSync(fileURLToPath(new URL('../skips.json', import.meta.url)), 'utf8'),
  );
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const { lines, exitStatus } = judge(readTap(text), Number(status), listed);
  process.stdout.write(`${lines.join('\n')}\n`);
  process.exitCode = exitStatus;
}
