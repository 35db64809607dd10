import type { Machine } from '../measure/machine.ts';
import type { Setting } from '../measure/settings.ts';
import type { Summary } from '../measure/statistics.ts';
import { type Findings, holds, percent, type Target, verdictOf } from './findings.ts';
import { columns, plain, shownSummary, shownTarget } from './report.ts';
import { FILES_OF_ALL, type Wanted, WANTED } from './wanted.ts';

/** What became of one suite, or of one result file, named as its suite. */
export type Outcome = { readonly suite: string; readonly isFile: boolean } & (
  | { readonly state: 'measured'; readonly durationMs: number | null; readonly findings: Findings }
  | { readonly state: 'failed'; readonly durationMs: number | null; readonly message: string }
  /** The suite is not registered, or the file is not there. */
  | { readonly state: 'absent' }
);

/** One number of the design with what was found. */
export interface Row {
  readonly id: string;
  readonly what: string;
  readonly target: Target | null;
  readonly unit: string;
  /** Null: there is no figure, and `problem` says why. */
  readonly summary: Summary | null;
  readonly holds: boolean | null;
  readonly problem: string | null;
  /** When it was measured, by which commit; null without a figure. */
  readonly startedAt: string | null;
  readonly commit: string | null;
}

/** All that `all --json` writes. The suites' raw runs are left out: each suite writes its own with `--json`. */
export interface Whole {
  readonly version: 1;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly command: string;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly settings: readonly Setting[];
  readonly rows: readonly Row[];
  /** By id: what was tried for a figure that falls short, and what holds it back. */
  readonly remarks: Readonly<Record<string, string>>;
  readonly outcomes: readonly Outcome[];
}

/** Every number of the design, in its order, from what was found. */
export function rowsOf(outcomes: readonly Outcome[]): Row[] {
  return WANTED.map((wanted) => rowOf(wanted, outcomes));
}

function rowOf(wanted: Wanted, outcomes: readonly Outcome[]): Row {
  const { id, what, target, suite } = wanted;
  const outcome = outcomes.find((one) => one.suite === suite);
  const none = (problem: string): Row => ({
    id,
    what,
    target,
    unit: '',
    summary: null,
    holds: null,
    problem,
    startedAt: null,
    commit: null,
  });
  if (outcome === undefined) return none(`left out: run npm run bench -- ${suite}`);
  if (outcome.state === 'absent') return none(absenceOf(suite));
  if (outcome.state === 'failed') return none(`FAILED: ${outcome.message}`);
  const { findings } = outcome;
  const [disturbance] = findings.disturbances;
  if (disturbance !== undefined) return none(`DISTURBED: ${disturbance}`);
  const figure = findings.figures.find((one) => one.id === id);
  if (figure === undefined || figure.values.length === 0) return none(`not measured by ${suite}`);
  const verdict = verdictOf(figure);
  if ('spread' in verdict) return none(`DISTURBED: spread ${percent(verdict.spread)}`);
  const judgedBy = target ?? figure.target;
  const { summary } = verdict;
  return {
    ...none(''),
    target: judgedBy,
    unit: figure.unit,
    summary,
    holds: judgedBy === null ? null : holds(summary, judgedBy),
    problem: null,
    startedAt: findings.startedAt,
    commit: findings.machine.commit,
  };
}

function absenceOf(suite: string): string {
  const command = FILES_OF_ALL[suite];
  return command === undefined
    ? `not measured: there is no suite ${suite} yet`
    : `not measured here: run ${command}`;
}

/** True when every number has a figure and every suite ran through; whether the figures hold is another matter. */
export function isComplete({ rows, outcomes }: Pick<Whole, 'rows' | 'outcomes'>): boolean {
  return (
    rows.every(({ summary }) => summary !== null) &&
    outcomes.every((one) => one.state === 'measured' && one.findings.disturbances.length === 0)
  );
}

/** Settings that are the same in all suites, once. */
export function distinctSettings(outcomes: readonly Outcome[]): Setting[] {
  const seen = new Map<string, Setting>();
  for (const outcome of outcomes)
    if (outcome.state === 'measured')
      for (const setting of outcome.findings.settings)
        seen.set(JSON.stringify([setting.server, setting.name, setting.value]), setting);
  return [...seen.values()];
}

/** The value of a row as people read it; why there is none otherwise. */
export function shownValue({ summary, unit, problem }: Row): string {
  return summary === null ? (problem ?? '') : `${shownSummary(summary)} ${unit}`.trim();
}

/** Whether it holds, in a word. */
export function shownHolds({ holds: isHeld }: Row): string {
  return isHeld === null ? '' : isHeld ? 'yes' : 'NO';
}

/** Rows that fall short. */
export function shortRows(rows: readonly Row[]): Row[] {
  return rows.filter((row) => row.holds === false);
}

/** The table as lines, with what holds back the figures that fall short, and how the suites went. */
export function wholeLines(whole: Whole): string[] {
  const { machine, versions, rows, remarks, outcomes } = whole;
  // What is no figure stands behind the table: a sentence in a column would make it unreadable.
  const withFigure = rows.map((row) => [
    row.what,
    row.target === null ? '' : shownTarget(row.target),
    row.summary === null ? 'none' : shownValue(row),
    shownHolds(row),
  ]);
  const without = rows.filter(({ summary }) => summary === null);
  const short = shortRows(rows);
  return [
    `Tollgate bench, all, ${whole.startedAt}: ${whole.command}`,
    `${machine.cores} cores (${machine.cpu}), ${machine.memoryGiB} GiB, kernel ${machine.kernel}, Node ${machine.node}, commit ${machine.commit ?? 'unknown'}`,
    Object.entries(versions)
      .map(([server, version]) => `${server} ${version}`)
      .join(', '),
    '',
    ...columns([['what', 'target', 'median (range)', 'holds'], ...withFigure]),
    ...section(
      'no figure:',
      without.map(({ what, problem }) => `${what}: ${problem ?? ''}`),
    ),
    ...section(
      'falls short:',
      short.map(
        ({ id, what }) => `${what}: ${remarks[id] ?? 'nothing is noted in bench/results/remarks.json'}`,
      ),
    ),
    ...section(
      'suites:',
      outcomes.map((outcome) => outcomeLine(outcome)),
    ),
    '',
    `took ${plain(whole.durationMs / 60_000)} minutes`,
  ];
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${line}`)];
}

function outcomeLine(outcome: Outcome): string {
  const { suite, isFile } = outcome;
  const name = isFile ? `bench/results/${suite}.json` : suite;
  if (outcome.state === 'absent') return `${name}: ${isFile ? 'not there' : 'no such suite yet'}`;
  const took = outcome.durationMs === null ? '' : `, ${(outcome.durationMs / 60_000).toFixed(1)} minutes`;
  if (outcome.state === 'failed') return `${name}: FAILED${took}: ${outcome.message}`;
  const { startedAt, disturbances } = outcome.findings;
  const state = disturbances.length > 0 ? `DISTURBED: ${disturbances.join('; ')}` : 'measured';
  return `${name}: ${state}, ${startedAt}${took}`;
}
