import type { Summary } from '../measure/statistics.ts';
import { type Figure, type Findings, holds, percent, type Target, verdictOf } from './findings.ts';

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

/** What stands where there is no figure. */
export const NO_FIGURE = '–';

/** A number with as many digits as mean something. */
export function plain(value: number): string {
  if (Number.isNaN(value)) return NO_FIGURE;
  if (value === 0) return '0';
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** `median (min … max)`, or the one value there is. */
export function shownSummary({ n, median, min, max }: Summary): string {
  return n === 1 ? plain(median) : `${plain(median)} (${plain(min)} … ${plain(max)})`;
}

/** A bound as people read it. */
export function shownTarget(target: Target): string {
  return 'atLeast' in target ? `≥ ${plain(target.atLeast)}` : `≤ ${plain(target.atMost)}`;
}

const READ_BACK = [
  'read back: fsync, synchronous_commit and full_page_writes on; w: majority, j: true, persistent engine;',
  '  quorum source, durable classic node queues, persistent jobs and results: as strong as stated in all runs',
];

/** The report as lines. Where the runs were disturbed it says so and shows no figure. */
export function reportLines(findings: Findings): string[] {
  const { machine, versions, settings, figures, notes, disturbances } = findings;
  const head = [
    `Tollgate bench, suite ${findings.suite}, ${findings.startedAt}: ${findings.command}`,
    `${machine.cores} cores (${machine.cpu}), ${machine.memoryGiB} GiB, kernel ${machine.kernel}, Node ${machine.node}, commit ${machine.commit ?? 'unknown'}`,
    Object.entries(versions)
      .map(([server, version]) => `${server} ${version}`)
      .join(', '),
    ...(settings.length > 0 ? READ_BACK : []),
    '',
  ];
  if (disturbances.length > 0) {
    const lines = disturbances.map((line) => `DISTURBED: ${line}`);
    return [...head, ...lines, 'No figure is shown: measure again on a quiet machine.'];
  }
  const rows = [['figure', 'median (range)', 'target', 'holds'], ...figures.map(rowOf)];
  return [...head, ...columns(rows), '', ...notes];
}

function rowOf(one: Figure): string[] {
  const target = one.target === null ? '' : shownTarget(one.target);
  const verdict = verdictOf(one);
  if ('spread' in verdict) return [one.name, `DISTURBED: spread ${percent(verdict.spread)}`, target, ''];
  const { summary } = verdict;
  const judged = one.target === null ? '' : holds(summary, one.target) ? 'yes' : 'NO';
  return [one.name, `${shownSummary(summary)} ${one.unit}`, target, judged];
}
