import type { LatencyRun, SaturatedRun } from './runs.ts';
import { pairedRatios, spread, type Summary, summarize } from './statistics.ts';
import { SUBJECTS, type SubjectName } from './subject.ts';

/** One line of the report. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly value: Summary;
  /** What it has to reach from this version on; null: nothing yet. */
  readonly now: Target | null;
  /** What the design asks of the finished product; null: the figure is there to be compared with. */
  readonly inTheEnd: Target | null;
}

/** A bound on the median. */
export type Target = { readonly atLeast: number } | { readonly atMost: number };

export type Run = SaturatedRun | LatencyRun;

/** Runs of one series that lie further apart than this share of their median were disturbed. */
export const SPREAD_MAX = 0.35;
/** A run in which others took more than this share of the machine was disturbed. */
export const FOREIGN_SHARE_MAX = 0.1;

/** True when the median reaches the target. */
export function holds({ median }: Summary, target: Target): boolean {
  return 'atLeast' in target ? median >= target.atLeast : median <= target.atMost;
}

/** Every figure that these runs allow, the design's table (docs: bench/README.md) in its order. */
export function figuresOf(runs: readonly Run[]): Figure[] {
  return [
    ...rateFigures(runs, 'dispatch'),
    ...rateFigures(runs, 'life'),
    ...cpuFigures(runs),
    ...latencyFigures(runs),
  ];
}

const RATIOS: Readonly<
  Record<
    SaturatedRun['kind'],
    readonly { readonly over: SubjectName; readonly now: Target | null; readonly inTheEnd: Target | null }[]
  >
> = {
  dispatch: [
    { over: 'relay', now: { atLeast: 0.45 }, inTheEnd: { atLeast: 0.7 } },
    { over: 'tuned relay', now: null, inTheEnd: null },
    { over: 'one at a time', now: { atLeast: 5 }, inTheEnd: { atLeast: 7 } },
  ],
  life: [
    { over: 'relay', now: null, inTheEnd: { atLeast: 0.6 } },
    { over: 'tuned relay', now: null, inTheEnd: null },
    { over: 'one at a time', now: null, inTheEnd: { atLeast: 9 } },
  ],
};
const CPU_IN_THE_END: Target = { atMost: 1.6 };
const LATENCY_IN_THE_END: Target = { atMost: 2.5 };

/** Kinds of saturated runs as the report calls them. */
export const TITLES = { dispatch: 'saturated dispatch', life: 'full life' } as const;

function comparison(name: string, unit: string, values: readonly number[]): Figure {
  return { name, unit, value: summarize(values), now: null, inTheEnd: null };
}

function rateFigures(runs: readonly Run[], kind: SaturatedRun['kind']): Figure[] {
  const ratesOf = (subject: SubjectName) => saturated(runs, kind, subject).map((run) => run.perSecond);
  const ours = ratesOf('tollgate');
  const title = TITLES[kind];
  return [
    ...SUBJECTS.filter((subject) => ratesOf(subject).length > 0).map((subject) =>
      comparison(`${title}, ${subject}`, '/s', ratesOf(subject)),
    ),
    ...RATIOS[kind]
      .filter(({ over }) => ratesOf(over).length > 0 && ours.length > 0)
      .map(({ over, ...targets }): Figure => {
        const value = summarize(pairedRatios(ours, ratesOf(over)));
        return { name: `${title}, tollgate ÷ ${over}`, unit: '×', value, ...targets };
      }),
  ];
}

/** CPU of our process per life against the relay client's for the same messages. */
function cpuFigures(runs: readonly Run[]): Figure[] {
  const perJob = (subject: SubjectName) =>
    saturated(runs, 'life', subject).map((run) => ((run.cpuMs[subject] ?? Number.NaN) * 1_000) / run.jobs);
  const [ours, relays] = [perJob('tollgate'), perJob('relay')];
  if (ours.length === 0 || relays.length === 0) return [];
  return [
    comparison('CPU per life, relay client', 'µs', relays),
    comparison('CPU per life, daemon', 'µs', ours),
    {
      name: 'CPU per life, daemon ÷ relay client',
      unit: '×',
      value: summarize(pairedRatios(ours, relays)),
      now: null,
      inTheEnd: CPU_IN_THE_END,
    },
  ];
}

function latencyFigures(runs: readonly Run[]): Figure[] {
  const latencies = runs.filter((run): run is LatencyRun => run.kind === 'latency' || run.kind === 'idle');
  const rates = [...new Set(latencies.map((run) => run.perSecond))].toSorted((a, b) => a - b);
  return rates.flatMap((perSecond) =>
    (['p50', 'p95', 'p99'] as const).flatMap((quantile) => {
      const of = (subject: SubjectName) =>
        latencies
          .filter((run) => run.subject === subject && run.perSecond === perSecond)
          .map((run) => run.latencyMs[quantile]);
      return latencyRows(perSecond, quantile, of('relay'), of('tollgate'));
    }),
  );
}

/** Of a single job on an idle system, and of p95, there is no target: the ratio is left out. */
function latencyRows(
  perSecond: number,
  quantile: 'p50' | 'p95' | 'p99',
  relays: readonly number[],
  ours: readonly number[],
): Figure[] {
  if (ours.length === 0 || relays.length === 0) return [];
  const name = `${perSecond === 0 ? 'latency when idle' : `latency at ${perSecond}/s`}, ${quantile}`;
  const values = [comparison(`${name}, relay`, 'ms', relays), comparison(`${name}, tollgate`, 'ms', ours)];
  if (perSecond === 0 || quantile === 'p95') return values;
  const value = summarize(pairedRatios(ours, relays));
  const ratio = { name: `${name}, tollgate ÷ relay`, unit: '×', value };
  return [...values, { ...ratio, now: null, inTheEnd: LATENCY_IN_THE_END }];
}

/** CPU of every process per job, in microseconds, from all runs of a kind and subject together. */
export function cpuPerJobUs(
  runs: readonly Run[],
  kind: SaturatedRun['kind'],
  subject: SubjectName,
): Readonly<Record<string, number>> {
  const own = saturated(runs, kind, subject);
  const jobs = own.reduce((sum, run) => sum + run.jobs, 0);
  const sums: Record<string, number> = {};
  for (const { cpuMs } of own) {
    for (const [process, ms] of Object.entries(cpuMs))
      sums[process] = (sums[process] ?? 0) + (ms * 1_000) / jobs;
  }
  return sums;
}

/** What may have disturbed these runs, one line each; empty: nothing that we know of. */
export function disturbances(runs: readonly Run[]): string[] {
  const found: string[] = [];
  const crowded = runs.filter((run) => (run.foreignShare ?? 0) > FOREIGN_SHARE_MAX);
  if (crowded.length > 0) {
    const most = Math.max(...crowded.map((run) => run.foreignShare ?? 0));
    found.push(
      `other processes took more than ${percent(FOREIGN_SHARE_MAX)} of the machine in ${crowded.length} of ${runs.length} runs (at most ${percent(most)})`,
    );
  }
  for (const kind of ['dispatch', 'life'] as const) {
    for (const subject of SUBJECTS) {
      const rates = saturated(runs, kind, subject).map((run) => run.perSecond);
      if (rates.length < 2) continue;
      const share = spread(summarize(rates));
      if (share > SPREAD_MAX) {
        found.push(
          `${TITLES[kind]}, ${subject}: its runs lie ${percent(share)} of their median apart (bound ${percent(SPREAD_MAX)})`,
        );
      }
    }
  }
  return found;
}

function saturated(runs: readonly Run[], kind: SaturatedRun['kind'], subject: SubjectName): SaturatedRun[] {
  return runs.filter((run): run is SaturatedRun => run.kind === kind && run.subject === subject);
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
