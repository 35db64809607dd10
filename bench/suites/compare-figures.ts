import type { LatencyRun, SaturatedRun } from '../measure/runs.ts';
import { type Interval, pairedRatios, ratioInterval } from '../measure/statistics.ts';
import { type Figure, figure } from '../report/findings.ts';
import { columns, plain } from '../report/report.ts';
import { TITLES } from './hotpath-figures.ts';

/** The commit that was named, and the working tree. */
export const SIDES = ['old', 'new'] as const;
export type Side = (typeof SIDES)[number];

/** One run of one of the two. */
export type CompareRun = (SaturatedRun | LatencyRun) & { readonly side: Side };

/** One thing that is compared: a value of each run, old and new, pair by pair. */
interface Series {
  readonly id: string;
  readonly name: string;
  readonly unit: string;
  /** Whether more of it is better. */
  readonly isMoreBetter: boolean;
  readonly old: readonly number[];
  readonly new: readonly number[];
}

/** Latencies, above all their tails, lie further apart than rates. */
const LATENCY_SPREAD_MAX = 1;

/** Three figures of each series: old, new, and new ÷ old within each pair. */
export function compareFigures(runs: readonly CompareRun[]): Figure[] {
  return seriesOf(runs).flatMap((series) => {
    const options = series.unit === 'ms' ? { spreadMax: LATENCY_SPREAD_MAX } : {};
    const { id, name, unit } = series;
    const ratios = pairedRatios(series.new, series.old);
    return [
      figure(`${id}/old`, `${name}, old`, unit, series.old, options),
      figure(`${id}/new`, `${name}, new`, unit, series.new, options),
      figure(id, `${name}, new ÷ old`, '×', ratios, options),
    ];
  });
}

/** What the ratios say: mean, 95 % interval, and whether it leaves 1 out. */
export function compareLines(runs: readonly CompareRun[]): string[] {
  const rows = seriesOf(runs).map((series) => {
    const interval = ratioInterval(pairedRatios(series.new, series.old));
    const { mean, low, high } = interval;
    return [series.name, plain(mean), `[${plain(low)}, ${plain(high)}]`, said(interval, series.isMoreBetter)];
  });
  return columns([['new ÷ old', 'mean', '95 % interval', ''], ...rows]);
}

/** A 95 % interval of a ratio in words. */
export function said({ low, high }: Interval, isMoreBetter: boolean): string {
  if (Number.isNaN(low) || Number.isNaN(high)) return 'too few pairs to tell';
  if (low <= 1 && high >= 1) return 'includes 1: no difference shown';
  return `excludes 1: the new one is ${low > 1 === isMoreBetter ? 'better' : 'WORSE'}`;
}

function seriesOf(runs: readonly CompareRun[]): Series[] {
  return [
    ...(['dispatch', 'life'] as const).flatMap((kind) => saturatedSeries(runs, kind)),
    ...latencySeries(runs),
  ];
}

function perSecondOf({ perSecond }: SaturatedRun): number {
  return perSecond;
}

/** The daemon's, per job. */
function cpuUsOf({ cpuMs, jobs }: SaturatedRun): number {
  return ((cpuMs['tollgate'] ?? Number.NaN) * 1_000) / jobs;
}

function saturatedSeries(runs: readonly CompareRun[], kind: SaturatedRun['kind']): Series[] {
  const own = runs.filter((run): run is SaturatedRun & { side: Side } => run.kind === kind);
  if (own.length === 0) return [];
  const of = (side: Side, value: (run: SaturatedRun) => number) =>
    inPairs(own.filter((run) => run.side === side)).map(value);
  return [
    {
      id: `compare/${kind}/rate`,
      name: TITLES[kind],
      unit: '/s',
      isMoreBetter: true,
      old: of('old', perSecondOf),
      new: of('new', perSecondOf),
    },
    {
      id: `compare/${kind}/cpu`,
      name: `CPU of the daemon, ${TITLES[kind]}`,
      unit: 'µs/job',
      isMoreBetter: false,
      old: of('old', cpuUsOf),
      new: of('new', cpuUsOf),
    },
  ];
}

function latencySeries(runs: readonly CompareRun[]): Series[] {
  const own = runs.filter((run): run is LatencyRun & { side: Side } => run.kind === 'latency');
  const rates = [...new Set(own.map((run) => run.perSecond))].toSorted((a, b) => a - b);
  return rates.flatMap((perSecond) =>
    (['p50', 'p99'] as const).map((quantile) => {
      const of = (side: Side) =>
        inPairs(own.filter((run) => run.side === side && run.perSecond === perSecond)).map(
          (run) => run.latencyMs[quantile],
        );
      return {
        id: `compare/latency/${perSecond}/${quantile}`,
        name: `latency at ${perSecond}/s, ${quantile}`,
        unit: 'ms',
        isMoreBetter: false,
        old: of('old'),
        new: of('new'),
      };
    }),
  );
}

/** In every second pair the two come in the opposite order: by pair they belong together again. */
function inPairs<R extends { readonly pair: number }>(runs: readonly R[]): R[] {
  return runs.toSorted((a, b) => a.pair - b.pair);
}
