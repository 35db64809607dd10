import { bearClosedOutput } from '../src/cli/closed-output.ts';
import { UsageError } from './arguments.ts';
import { BenchError, WeakSettingError } from './bench-error.ts';
import { requireStrong } from './measure/warm-up.ts';
import { endWith } from './process/endings.ts';
import { STATUS } from './process/status.ts';
import { isDisturbed } from './report/findings.ts';
import { reportLines } from './report/report.ts';
import { requireWritable, writeJson } from './report/write-json.ts';
import { all } from './suites/all.ts';
import type { Command } from './suites/command.ts';
import { compare } from './suites/compare.ts';
import { conditions } from './suites/conditions.ts';
import { faults } from './suites/faults.ts';
import { flood } from './suites/flood.ts';
import { growth } from './suites/growth.ts';
import { hotpath } from './suites/hotpath.ts';
import { limits } from './suites/limits.ts';
import { memory } from './suites/memory.ts';
import { page } from './suites/page.ts';
import { peers } from './suites/peers.ts';
import { rows } from './suites/rows.ts';
import type { Suite } from './suites/suite.ts';

/** Suites by name. */
const SUITES: Readonly<Record<string, Suite>> = {
  hotpath,
  limits,
  peers,
  conditions,
  rows,
  memory,
  growth,
  flood,
  compare,
  faults,
};

/** What else there is, by name. */
const COMMANDS: Readonly<Record<string, Command>> = { all: all(() => Object.keys(SUITES)), page };

function usage(): string {
  const names = Object.entries({ ...SUITES, ...COMMANDS }).map(
    ([name, { asks }]) => `  ${name.padEnd(12)}${asks}`,
  );
  return `usage: npm run bench -- SUITE [options]    (SUITE --help tells its options)\n\n${names.join('\n')}`;
}

/** The file that `--json FILE` or `--json=FILE` names. */
function jsonFile(argv: readonly string[]): string | null {
  const at = argv.findLastIndex((word) => word === '--json' || word.startsWith('--json='));
  const word = argv[at];
  if (word === undefined) return null;
  return word === '--json' ? (argv[at + 1] ?? null) : word.slice('--json='.length);
}

/** Runs a suite as a command: it is reported, and written where `--json` says. */
function asCommand({ asks, usage: ownUsage, run }: Suite): Command {
  return {
    asks,
    usage: ownUsage,
    run: async (argv) => {
      const file = jsonFile(argv);
      if (file !== null) requireWritable('--json', file);
      const findings = await run(argv);
      requireStrong(findings.settings);
      if (file !== null) writeJson(file, findings);
      process.stdout.write(`${reportLines(findings).join('\n')}\n`);
      return isDisturbed(findings) ? STATUS.disturbed : 0;
    },
  };
}

function commandOf(name: string | undefined): Command | undefined {
  if (name === undefined) return undefined;
  if (Object.hasOwn(COMMANDS, name)) return COMMANDS[name];
  const suite = Object.hasOwn(SUITES, name) ? SUITES[name] : undefined;
  return suite && asCommand(suite);
}

/** Resolves to the exit status. */
async function obey(command: Command, argv: readonly string[]): Promise<number> {
  try {
    return await command.run(argv);
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`${error.message}\n\n${command.usage}\n`);
      return STATUS.usage;
    }
    if (error instanceof BenchError) {
      process.stderr.write(`${error.message}\n`);
      return error instanceof WeakSettingError ? STATUS.weak : STATUS.impossible;
    }
    // A fault of ours, with where it came from.
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return STATUS.impossible;
  }
}

bearClosedOutput();
const [name, ...argv] = process.argv.slice(2);
const command = commandOf(name);
if (command === undefined) {
  const isAsked = name === '--help' || name === '-h';
  (isAsked ? process.stdout : process.stderr).write(
    `${isAsked ? '' : `no suite ${name ?? 'was named'}\n`}${usage()}\n`,
  );
  process.exitCode = isAsked ? 0 : STATUS.usage;
} else if (argv.includes('--help') || argv.includes('-h')) {
  process.stdout.write(`${command.usage}\n`);
} else {
  endWith(await obey(command, argv));
}
