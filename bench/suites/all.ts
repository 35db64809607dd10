import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chosen, parsedAs } from '../arguments.ts';
import { BenchError, WeakSettingError } from '../bench-error.ts';
import { machineMs } from '../measure/clock.ts';
import { readMachine } from '../measure/machine.ts';
import { requireRoom } from '../measure/requirements.ts';
import { requireStrong } from '../measure/warm-up.ts';
import { OWN_ROOT } from '../process/checkout.ts';
import { requireGiven } from '../process/reachable.ts';
import { STATUS } from '../process/status.ts';
import { isDisturbed } from '../report/findings.ts';
import { readFindings, readWhole } from '../report/read-json.ts';
import { readRemarks } from '../report/remarks.ts';
import { ALL_MINUTES_MAX, FILES_OF_ALL, SUITES_OF_ALL } from '../report/wanted.ts';
import {
  distinctSettings,
  isComplete,
  type Outcome,
  rowsOf,
  type Whole,
  wholeLines,
} from '../report/whole.ts';
import { requireWritable, writeJson } from '../report/write-json.ts';
import type { Command } from './command.ts';
import { tell } from './suite.ts';

const USAGE = `usage: npm run bench -- all [options]

  --json FILE     write every figure with its target and whether it holds
  --only SUITES   some of ${SUITES_OF_ALL.map(({ suite }) => suite).join(', ')}, with commas between
  --keep FILE     keep what an earlier --json FILE has measured; only what it lacks runs, or what --only names
  --quick         small runs of each: to see that all of it works, and nothing else`;

/** No suite may hold up the others: the longest takes 9 minutes. */
const SUITE_MS_MAX = 15 * 60_000;
const ALL_MS_MAX = ALL_MINUTES_MAX * 60_000;
/** A suite that was told to end has this long to remove its servers; then it is killed, and they end by themselves. */
const END_MS_MAX = 30_000;

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const PRELOAD = pathToFileURL(join(OWN_ROOT, 'scripts/launched.mjs')).href;
const RESULTS = join(OWN_ROOT, 'bench/results');

/** What `all` was asked for. */
export interface AllOptions {
  readonly json: string | null;
  readonly isQuick: boolean;
  /** To be run, in the order of `SUITES_OF_ALL`. */
  readonly suites: readonly string[];
  /** Of an earlier call, of suites that are not run. */
  readonly kept: readonly Outcome[];
}

/** Reads the options. Throws UsageError; BenchError for a file to keep that is none. */
export function allOptions(argv: readonly string[]): AllOptions {
  const known = SUITES_OF_ALL.map(({ suite }) => suite);
  const values = parsedAs(argv, {
    json: { type: 'string' },
    only: { type: 'string' },
    keep: { type: 'string' },
    quick: { type: 'boolean' },
  });
  const earlier = values.keep === undefined ? [] : measuredIn(values.keep);
  const suites = chosen(values.only, known).filter(
    (suite) => values.only !== undefined || !earlier.some((one) => one.suite === suite),
  );
  return {
    json: values.json ?? null,
    isQuick: values.quick ?? false,
    suites,
    kept: earlier.filter(({ suite }) => !suites.includes(suite)),
  };
}

/**
 * Every number of the design: runs the suites one after the other, each in a process and on servers of its own, reads the dated
 * result files of what takes longer, and puts all of it into one table. `registered`: names of the suites that there are.
 */
export function all(registered: () => readonly string[]): Command {
  return {
    asks: 'every figure of the design, with its target and whether it holds',
    usage: USAGE,
    run: async (argv) => {
      const options = allOptions(argv);
      if (options.json !== null) requireWritable('--json', options.json);
      requireRoom();
      await requireGiven(process.env);
      const { whole, weak } = await measureAll(options, argv, registered());
      if (options.json !== null) writeJson(options.json, whole);
      process.stdout.write(`${wholeLines(whole).join('\n')}\n`);
      if (weak !== null) throw weak;
      return isComplete(whole) ? 0 : STATUS.disturbed;
    },
  };
}

/** What the suites that ran found, undisturbed; files are read again. Every row tells its own date and commit. */
function measuredIn(file: string): Outcome[] {
  const whole = readWhole(file);
  if (whole === null) throw new BenchError(`${file}: there is no such file`);
  if (whole.command.includes('--quick'))
    throw new BenchError(`${file} is of small runs: nothing of it is kept`);
  return whole.outcomes.filter(
    (one) => !one.isFile && one.state === 'measured' && !isDisturbed(one.findings),
  );
}

/** `weak`: why the last suite that ran was stopped, and those after it never begun; what was found before it is in `whole`. */
async function measureAll(
  { suites, isQuick, kept }: AllOptions,
  argv: readonly string[],
  registered: readonly string[],
): Promise<{ readonly whole: Whole; readonly weak: WeakSettingError | null }> {
  const startedAt = new Date().toISOString();
  const startMs = machineMs();
  const outcomes: Outcome[] = [...kept];
  let weak: WeakSettingError | null = null;
  for (const { suite, given = [], quick } of SUITES_OF_ALL.filter((one) => suites.includes(one.suite))) {
    tell(registered.includes(suite) ? `suite ${suite}` : `suite ${suite}: skipped, there is none yet`);
    // The last moments are for the ending of one that has to be told to.
    const leftMs = ALL_MS_MAX - END_MS_MAX - (machineMs() - startMs);
    const outcome: Outcome | WeakSettingError = registered.includes(suite)
      ? await runSuite(suite, [...given, ...(isQuick ? quick : [])], Math.min(SUITE_MS_MAX, leftMs))
      : { suite, isFile: false, state: 'absent' };
    if (outcome instanceof WeakSettingError) {
      weak = outcome;
      outcomes.push({ suite, isFile: false, state: 'failed', durationMs: null, message: weak.message });
      break;
    }
    outcomes.push(outcome);
  }
  for (const suite of Object.keys(FILES_OF_ALL)) outcomes.push(readResults(suite));
  const settings = distinctSettings(outcomes);
  requireStrong(settings);
  const versions = outcomes.flatMap((one) => (one.state === 'measured' ? [one.findings.versions] : []));
  const whole: Whole = {
    version: 1,
    startedAt,
    durationMs: machineMs() - startMs,
    command: ['npm run bench -- all', ...argv].join(' '),
    machine: readMachine(),
    versions: versions[0] ?? {},
    settings,
    rows: rowsOf(outcomes),
    remarks: readRemarks(),
    outcomes,
  };
  return { whole, weak };
}

/** What a suite that takes too long for `all` has left in its file. */
function readResults(suite: string): Outcome {
  const common = { suite, isFile: true };
  try {
    const findings = readFindings(join(RESULTS, `${suite}.json`), suite);
    if (findings === null) return { ...common, state: 'absent' };
    return { ...common, state: 'measured', durationMs: null, findings: { ...findings, runs: [] } };
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    return { ...common, state: 'failed', durationMs: null, message: error.message };
  }
}

/** Runs one suite as a person would, for `msMax` at most. Every failure is its outcome, but for a weak setting. */
async function runSuite(
  suite: string,
  argv: readonly string[],
  msMax: number,
): Promise<Outcome | WeakSettingError> {
  if (msMax <= 0) {
    const message = `no time was left: all takes ${ALL_MINUTES_MAX} minutes at most`;
    return { suite, isFile: false, state: 'failed', durationMs: 0, message };
  }
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-bench-all-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  // Also when we are asked to end.
  process.once('exit', remove);
  const file = join(folder, `${suite}.json`);
  const startMs = machineMs();
  try {
    const { status, lastWords, isLate } = await run(suite, [...argv, '--json', file], msMax);
    const durationMs = machineMs() - startMs;
    const common = { suite, isFile: false, durationMs };
    const said = lastWords.slice(-2).join(' ');
    if (isLate) {
      const message = `it took longer than ${(msMax / 60_000).toFixed(1)} minutes and was ended`;
      return { ...common, state: 'failed', message };
    }
    if (status === STATUS.weak) return new WeakSettingError(lastWords.join('\n'));
    if (status !== 0 && status !== STATUS.disturbed)
      return { ...common, state: 'failed', message: `status ${status}: ${said}` };
    const findings = readFindings(file, suite);
    if (findings === null) return { ...common, state: 'failed', message: `it wrote no figures: ${said}` };
    return { ...common, state: 'measured', findings: { ...findings, runs: [] } };
  } finally {
    process.off('exit', remove);
    remove();
  }
}

const LAST_WORDS = 12;
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs `bench/main.ts`, and ends it after `msMax` (`isLate`); signals are handed on. Resolves to its status and the last that it said.
 */
async function run(
  suite: string,
  argv: readonly string[],
  msMax: number,
): Promise<{
  readonly status: number | string;
  readonly lastWords: readonly string[];
  readonly isLate: boolean;
}> {
  // The channel ends it when we are gone, however that happened.
  const child = spawn(process.execPath, ['--import', PRELOAD, MAIN, suite, ...argv], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const words: string[] = [];
  if (child.stderr)
    createInterface({ input: child.stderr }).on('line', (line) => {
      tell(`  ${line}`);
      words.push(line);
      if (words.length > LAST_WORDS) words.shift();
    });
  let isLate = false;
  const undo = handSignalsOn(child);
  const timer = setTimeout(() => {
    isLate = true;
    end(child, 'SIGTERM');
  }, msMax);
  await once(child, 'close');
  clearTimeout(timer);
  undo();
  return { status: child.exitCode ?? child.signalCode ?? 'unknown', lastWords: words, isLate };
}

/** Asked to end, we end as soon as the suite has removed what it made. */
function handSignalsOn(child: ChildProcess): () => void {
  const undos = ENDING.map((name) => {
    const handOn = (): void => {
      child.once('close', () => process.exit(128 + constants.signals[name]));
      end(child, name);
    };
    process.once(name, handOn);
    return () => process.off(name, handOn);
  });
  return () => {
    for (const undo of undos) undo();
  };
}

/** Asks it to end, and sees to it. */
function end(child: ChildProcess, name: (typeof ENDING)[number]): void {
  child.kill(name);
  setTimeout(() => child.kill('SIGKILL'), END_MS_MAX).unref();
}
