import type { AuditReport } from '../audit/types.ts';
import { creditsText } from '../credits.ts';
import { KINDS } from './scenario.ts';
import type { Difference, Tally } from './verdict.ts';

/** Where the credit of one account, or of all, went; micro-credits. */
export interface CreditFlow {
  readonly account: string;
  readonly beforeMicro: bigint;
  readonly afterMicro: bigint;
  readonly capturedMicro: bigint;
  readonly heldMicro: bigint;
}

/** Everything the demo found out. Times in milliseconds. */
export interface DemoReport {
  readonly isGood: boolean;
  readonly load: {
    readonly jobs: number;
    readonly messages: number;
    readonly publishers: number;
    readonly accounts: number;
    readonly workers: number;
    readonly slots: number;
    /** How it came about: the seed, or the file and the speed. */
    readonly origin: string;
    /** How far the generator ever was behind its schedule. */
    readonly lagMsMax: number;
  };
  readonly tallies: readonly Tally[];
  readonly differences: readonly Difference[];
  readonly dispatch: {
    readonly jobs: number;
    readonly p50Ms: number;
    readonly p95Ms: number;
    readonly p99Ms: number;
  };
  readonly coordinator: { readonly cpuMs: number };
  readonly credits: readonly CreditFlow[];
  /** What clients were told they paid, all together. */
  readonly toldMicro: bigint;
  readonly audit: AuditReport;
  readonly story: string;
  /** Processes that did not end well when they were asked to. */
  readonly uncleanEnds: readonly string[];
  readonly timings: {
    readonly downloadMs: number;
    readonly installMs: number;
    readonly startMs: number;
    readonly runMs: number;
    readonly checkMs: number;
  };
}

/** Differences that are printed. */
const DIFFERENCES_SHOWN = 20;
const LABEL_COLUMNS = 10;
const GROUP_COLUMNS = 52;
const AUDIT_COLUMNS = 3;

/** The summary: at most 60 lines of 100 columns when all is well. Pure. */
export function renderSummary(report: DemoReport): string {
  return [
    headline(report),
    '',
    ...tallyLines(report.tallies),
    ...differenceLines(report.differences),
    '',
    ...figureLines(report),
    ...creditLines(report),
    ...auditLines(report.audit),
    '',
    ...report.story.split('\n'),
    '',
    timeLine(report.timings),
    ...report.uncleanEnds.map((name) => `${name} did not end well when it was asked to.`),
    report.isGood
      ? 'Everything ended as predicted, and the books agree.'
      : 'NOT AS PREDICTED, or the audit is not clean: see above.',
  ].join('\n');
}

/** All of a flow list together. */
export function totalOf(flows: readonly CreditFlow[]): CreditFlow {
  const sum = (key: 'beforeMicro' | 'afterMicro' | 'capturedMicro' | 'heldMicro') =>
    flows.reduce((total, flow) => total + flow[key], 0n);
  return {
    account: 'all',
    beforeMicro: sum('beforeMicro'),
    afterMicro: sum('afterMicro'),
    capturedMicro: sum('capturedMicro'),
    heldMicro: sum('heldMicro'),
  };
}

/** True if nothing was lost or made: before = after + captured for each account, nothing is held, and clients were told so. */
export function areCreditsExact(flows: readonly CreditFlow[], toldMicro: bigint): boolean {
  const isExact = flows.every(
    ({ beforeMicro, afterMicro, capturedMicro, heldMicro }) =>
      heldMicro === 0n && beforeMicro === afterMicro + capturedMicro,
  );
  return isExact && totalOf(flows).capturedMicro === toldMicro;
}

/** The value below which `share` of the sorted list lies, by nearest rank; 0 for none. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

function headline({ load }: DemoReport): string {
  const { jobs, messages, publishers, accounts, workers, slots } = load;
  const sent =
    jobs === messages ? `${count(jobs)} jobs` : `${count(jobs)} jobs in ${count(messages)} messages`;
  return `${sent} from ${publishers} publishers for ${accounts} accounts to ${workers} workers with ${slots} slots`;
}

function row(group: string, ...cells: string[]): string {
  return `  ${group.padEnd(GROUP_COLUMNS)}${cells.map((cell) => cell.padStart(14)).join('')}`.trimEnd();
}

function tallyLines(tallies: readonly Tally[]): string[] {
  return [
    row('each message and its end', 'predicted', 'answered', 'PostgreSQL'),
    ...tallies.map(({ group, predicted, answered, rows }) =>
      row(group, count(predicted), count(answered), rows === null ? '' : count(rows)),
    ),
  ];
}

function differenceLines(differences: readonly Difference[]): string[] {
  if (differences.length === 0) return [];
  const shown = differences.slice(0, DIFFERENCES_SHOWN).map(({ prediction, witness, expected, seen }) => {
    const what =
      prediction === null
        ? 'a reply to nothing that was sent'
        : `job ${prediction.job} (${prediction.flaw ?? KINDS[prediction.kind]}; ${prediction.account})`;
    return `  ${what}: ${witness}: predicted ${expected}, seen ${seen}`;
  });
  const more = differences.length - shown.length;
  return [
    '',
    `${count(differences.length)} differences:`,
    ...shown,
    ...(more > 0 ? [`  and ${count(more)} more`] : []),
  ];
}

function figureLines({ dispatch, load, timings, coordinator }: DemoReport): string[] {
  const seconds = timings.runMs / 1_000;
  const lag =
    load.lagMsMax < 1_000 ? '' : `; the load was up to ${(load.lagMsMax / 1_000).toFixed(1)} s late`;
  return [
    labelled('load', load.origin),
    labelled(
      'dispatch',
      `p50 ${ms(dispatch.p50Ms)}, p95 ${ms(dispatch.p95Ms)}, p99 ${ms(dispatch.p99Ms)}, receipt to confirm incl. slot waits (${count(dispatch.jobs)} traces)`,
    ),
    labelled(
      'rate',
      `${(load.messages / seconds).toFixed(0)} messages/s over ${seconds.toFixed(1)} s; the coordinator took ${(coordinator.cpuMs / load.messages).toFixed(1)} ms of CPU each${lag}`,
    ),
  ];
}

function creditLines({ credits, toldMicro }: DemoReport): string[] {
  const total = totalOf(credits);
  const width = Math.max(...credits.map(({ account }) => account.length)) + 2;
  const sign = total.beforeMicro === total.afterMicro + total.capturedMicro ? '=' : '≠';
  const flow = ({ beforeMicro, afterMicro, capturedMicro }: CreditFlow) =>
    `before ${creditsText(beforeMicro)} ${sign} after ${creditsText(afterMicro)} + captured ${creditsText(capturedMicro)}`;
  return [
    labelled('credits', `${flow(total)}; held ${creditsText(total.heldMicro)}`),
    labelled('', `clients were told that they paid ${creditsText(toldMicro)}`),
    ...credits.map((one) =>
      labelled(
        '',
        `${one.account.padEnd(width)}${creditsText(one.beforeMicro)} → ${creditsText(one.afterMicro)}`,
      ),
    ),
  ];
}

function auditLines({ verdict, invariants, ms: tookMs }: AuditReport): string[] {
  const good = invariants.filter((one) => one.verdict === 'ok').length;
  const cells = invariants.map((one) => `${one.id} ${one.verdict}`);
  const width = Math.max(...cells.map((cell) => cell.length)) + 2;
  const rows = Array.from({ length: Math.ceil(cells.length / AUDIT_COLUMNS) }, (_, i) =>
    cells
      .slice(i * AUDIT_COLUMNS, (i + 1) * AUDIT_COLUMNS)
      .map((cell) => cell.padEnd(width))
      .join('')
      .trimEnd(),
  );
  const faults = invariants
    .filter((one) => one.verdict !== 'ok')
    .flatMap(({ id, title, note, examples }) => [
      `  ${id}: ${title}${note === null ? '' : ` (${note})`}`,
      ...examples.slice(0, 3).map(({ id: subject, what }) => `    ${subject}: ${what}`),
    ]);
  return [
    labelled('audit', `${verdict}: ${good} of ${invariants.length} invariants hold (${seconds1(tookMs)})`),
    ...rows.map((cellsOfRow) => `  ${cellsOfRow}`),
    ...faults,
  ];
}

function timeLine({ downloadMs, installMs, startMs, runMs, checkMs }: DemoReport['timings']): string {
  const parts = [
    `download ${seconds1(downloadMs)}`,
    `install ${seconds1(installMs)}`,
    `start ${seconds1(startMs)}`,
    `run ${seconds1(runMs)}`,
    `comparing and audit ${seconds1(checkMs)}`,
  ];
  return labelled('time', parts.join(', '));
}

function labelled(label: string, text: string): string {
  return `${label.padEnd(LABEL_COLUMNS)}${text}`;
}

function ms(value: number): string {
  return `${value < 100 ? value.toFixed(1) : count(Math.round(value))} ms`;
}

function seconds1(value: number): string {
  return `${(value / 1_000).toFixed(1)} s`;
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}
