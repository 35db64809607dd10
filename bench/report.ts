import {
  cpuPerJobUs,
  disturbances,
  type Figure,
  figuresOf,
  holds,
  type Run,
  type Target,
  TITLES,
} from './figures.ts';
import type { Machine } from './machine.ts';
import type { Setting } from './settings.ts';
import type { Summary } from './statistics.ts';
import { SUBJECTS } from './subject.ts';

/** All that a run of the suite has found out; its JSON form is what `--json` writes. */
export interface Findings {
  readonly suite: string;
  readonly startedAt: string;
  readonly command: string;
  readonly pairs: number;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly settings: readonly Setting[];
  readonly runs: readonly Run[];
}

/** Rows as text in columns; the first column is flush left, the others right. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const cells of rows)
    for (const [i, cell] of cells.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((cells) =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** A number with as many digits as mean something. */
export function plain(value: number): string {
  if (Number.isNaN(value)) return '–';
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** `median (min … max)`, or the one value there is. */
export function shownSummary({ n, median, min, max }: Summary): string {
  return n === 1 ? plain(median) : `${plain(median)} (${plain(min)} … ${plain(max)})`;
}

/** The report as lines of at most 110 columns. */
export function reportLines(findings: Findings): string[] {
  const { machine, versions, runs, pairs } = findings;
  const figures = figuresOf(runs);
  return [
    `Tollgate bench, suite ${findings.suite}, ${findings.startedAt}: ${findings.command}`,
    `${machine.cores} cores (${machine.cpu}), ${machine.memoryGiB} GiB, kernel ${machine.kernel}, Node ${machine.node}, commit ${machine.commit ?? 'unknown'}`,
    Object.entries(versions)
      .map(([server, version]) => `${server} ${version}`)
      .join(', '),
    'read back: fsync, synchronous_commit and full_page_writes on; w: majority, j: true, persistent engine;',
    '  quorum source, durable classic node queues, persistent messages: as strong as stated in all runs',
    '',
    ...columns([
      ['figure', pairs === 1 ? 'one run' : 'median (range)', 'now', 'holds', 'in the end', 'holds'],
      ...figures.map(rowOf),
    ]),
    '',
    ...cpuLines(runs),
    ...disturbanceLines(runs),
  ];
}

function rowOf({ name, unit, value, now, inTheEnd }: Figure): string[] {
  const judged = (target: Target | null, otherwise: string) =>
    target === null ? ['', ''] : [shownTarget(target), holds(value, target) ? 'yes' : otherwise];
  return [name, `${shownSummary(value)} ${unit}`, ...judged(now, 'NO'), ...judged(inTheEnd, 'not yet')];
}

function shownTarget(target: Target): string {
  return 'atLeast' in target ? `≥ ${plain(target.atLeast)}` : `≤ ${plain(target.atMost)}`;
}

/** CPU of every process per job, one table for each kind of run. */
function cpuLines(runs: readonly Run[]): string[] {
  return (['dispatch', 'life'] as const).flatMap((kind) => {
    const cpu = SUBJECTS.map((subject) => cpuPerJobUs(runs, kind, subject));
    const processes = [...new Set(cpu.flatMap((one) => Object.keys(one)))];
    if (processes.length === 0) return [];
    const rows = processes.map((name) => [name, ...cpu.map((one) => plain(one[name] ?? Number.NaN))]);
    const all = ['all', ...cpu.map((one) => plain(sum(Object.values(one))))];
    return [...columns([[`CPU µs per ${TITLES[kind]}`, ...SUBJECTS], ...rows, all]), ''];
  });
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function disturbanceLines(runs: readonly Run[]): string[] {
  const found = disturbances(runs);
  return found.map((line) => `DISTURBED: ${line}; measure again on a quiet machine`);
}
