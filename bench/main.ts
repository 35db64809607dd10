import { writeFileSync } from 'node:fs';
import { UsageError } from './arguments.ts';
import { BenchError } from './bench-error.ts';
import { requireStrong } from './measure/warm-up.ts';
import { isDisturbed } from './report/findings.ts';
import { reportLines } from './report/report.ts';
import { compare } from './suites/compare.ts';
import { flood } from './suites/flood.ts';
import { hotpath } from './suites/hotpath.ts';
import type { Suite } from './suites/suite.ts';

/** Suites by name. */
const SUITES: Readonly<Record<string, Suite>> = { hotpath, flood, compare };

/** Exit statuses: it could not be measured; a wrong command line; runs that were disturbed, so that no figure was shown. */
const STATUS = { impossible: 1, usage: 2, disturbed: 3 } as const;

function usage(): string {
  const names = Object.entries(SUITES).map(([name, { asks }]) => `  ${name.padEnd(12)}${asks}`);
  return `usage: npm run bench -- SUITE [options]    (SUITE --help tells its options)\n\n${names.join('\n')}`;
}

/** The file that `--json FILE` or `--json=FILE` names. */
function jsonFile(argv: readonly string[]): string | null {
  const at = argv.findLastIndex((word) => word === '--json' || word.startsWith('--json='));
  const word = argv[at];
  if (word === undefined) return null;
  return word === '--json' ? (argv[at + 1] ?? null) : word.slice('--json='.length);
}

async function run(suite: Suite, argv: readonly string[]): Promise<void> {
  const findings = await suite.run(argv);
  requireStrong(findings.settings);
  const file = jsonFile(argv);
  if (file !== null) writeFileSync(file, `${JSON.stringify(findings, null, 1)}\n`);
  process.stdout.write(`${reportLines(findings).join('\n')}\n`);
  if (isDisturbed(findings)) process.exitCode = STATUS.disturbed;
}

const [name, ...argv] = process.argv.slice(2);
const suite = name !== undefined && Object.hasOwn(SUITES, name) ? SUITES[name] : undefined;
if (suite === undefined) {
  const isAsked = name === '--help' || name === '-h';
  (isAsked ? process.stdout : process.stderr).write(
    `${isAsked ? '' : `no suite ${name ?? 'was named'}\n`}${usage()}\n`,
  );
  process.exitCode = isAsked ? 0 : STATUS.usage;
} else if (argv.includes('--help') || argv.includes('-h')) {
  process.stdout.write(`${suite.usage}\n`);
} else {
  try {
    await run(suite, argv);
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`${error.message}\n\n${suite.usage}\n`);
      process.exitCode = STATUS.usage;
    } else if (error instanceof BenchError) {
      process.stderr.write(`${error.message}\n`);
      // What was under way when it failed may still wait for what will not come.
      process.exit(STATUS.impossible);
    } else throw error;
  }
}
