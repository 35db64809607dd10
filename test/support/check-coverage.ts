import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * After `npm test`: exits 1 when fewer branches than promised were taken by the tests in the rooms where money is decided.
 * Reads the report that tap leaves as `.tap/report/lcov.info`.
 */
const BRANCHES_PERCENT_MIN = 90;
const ROOMS = ['src/dispatcher', 'src/ledger'];

/** Branches of the files under `folder` in an lcov report, and how many of them were taken. */
export function branchesUnder(lcov: string, folder: string): { found: number; taken: number } {
  const sum = { found: 0, taken: 0 };
  for (const record of lcov.split('end_of_record')) {
    const file = /^SF:(.*)$/m.exec(record)?.[1] ?? '';
    if (!file.includes(`${folder}/`)) continue;
    sum.found += Number(/^BRF:(\d+)$/m.exec(record)?.[1] ?? 0);
    sum.taken += Number(/^BRH:(\d+)$/m.exec(record)?.[1] ?? 0);
  }
  return sum;
}

if (import.meta.main) {
  const file = fileURLToPath(new URL('../../.tap/report/lcov.info', import.meta.url));
  const lcov = existsSync(file) ? readFileSync(file, 'utf8') : '';
  for (const room of ROOMS) {
    const { found, taken } = branchesUnder(lcov, room);
    const percent = found === 0 ? 0 : (100 * taken) / found;
    process.stdout.write(`${room}: ${taken} of ${found} branches taken, ${percent.toFixed(1)} %\n`);
    if (percent >= BRANCHES_PERCENT_MIN) continue;
    process.stdout.write(`${room}: at least ${BRANCHES_PERCENT_MIN} % are promised\n`);
    process.exitCode = 1;
  }
}
