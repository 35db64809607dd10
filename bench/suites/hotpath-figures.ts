import { isSustained } from '../measure/backlog.ts';
import type { LatencyRun, SaturatedRun } from '../measure/runs.ts';
import { pairedRatios, tellsP999 } from '../measure/statistics.ts';
import { type Figure, figure, type Target } from '../report/findings.ts';
import { columns, plain } from '../report/report.ts';
import { TARGETS } from '../report/targets.ts';
import { SUBJECTS, type SubjectName } from '../subjects/subject.ts';

export type Run = SaturatedRun | LatencyRun;

/** Every figure that these runs allow, in the order of the design's table. */
export function figuresOf(runs: readonly Run[]): Figure[] {
  return [
    ...rateFigures(runs, 'dispatch'),
    ...rateFigures(runs, 'life'),
    ...cpuFigures(runs),
    ...processFigures(runs, 'dispatch'),
    ...processFigures(runs, 'life'),
    ...latencyFigures(runs),
  ];
}

const RATIOS: Readonly<
  Record<SaturatedRun['kind'], readonly { readonly over: SubjectName; readonly target: Target | null }[]>
> = {
  dispatch: [
    { over: 'relay', target: TARGETS.dispatchOverRelay },
    { over: 'tuned relay', target: null },
    { over: 'one at a time', target: TARGETS.dispatchOverOneAtATime },
  ],
  life: [
    { over: 'relay', target: TARGETS.lifeOverRelay },
    { over: 'tuned relay', target: null },
    { over: 'one at a time', target: TARGETS.lifeOverOneAtATime },
  ],
};
/** At these rates, in jobs/s, the design asks for a latency; at the others it is shown. */
const JUDGED_RATES: readonly number[] = [500, 1_000];
/** Latencies, above all their tails, lie further apart than rates. */
const LATENCY_SPREAD_MAX = 1;
/** A backlog that grows is a multiple of what is too much; how large it is exactly says little. */
const BACKLOG_SPREAD_MAX = 3;

/** Kinds of saturated runs as the report calls them. */
export const TITLES = { dispatch: 'saturated dispatch', life: 'full life' } as const;

function rateFigures(runs: readonly Run[], kind: SaturatedRun['kind']): Figure[] {
  const ratesOf = (subject: SubjectName) => saturated(runs, kind, subject).map((run) => run.perSecond);
  const ours = ratesOf('tollgate');
  const title = TITLES[kind];
  return [
    ...SUBJECTS.filter((subject) => ratesOf(subject).length > 0).map((subject) =>
      figure(`${kind}/rate/${subject}`, `${title}, ${subject}`, '/s', ratesOf(subject)),
    ),
    ...RATIOS[kind]
      .filter(({ over }) => ratesOf(over).length > 0 && ours.length > 0)
      .map(({ over, target }) => {
        const ratios = pairedRatios(ours, ratesOf(over));
        return figure(`${kind}/${over}`, `${title}, tollgate ÷ ${over}`, '×', ratios, { target });
      }),
  ];
}

/** CPU of our process per life against the relay client's for the same messages. */
function cpuFigures(runs: readonly Run[]): Figure[] {
  const perJob = (subject: SubjectName) =>
    saturated(runs, 'life', subject).map((run) => ((run.cpuMs[subject] ?? Number.NaN) * 1_000) / run.jobs);
  const [ours, relays] = [perJob('tollgate'), perJob('relay')];
  if (ours.length === 0 || relays.length === 0) return [];
  const ratios = pairedRatios(ours, relays);
  return [
    figure('cpu/life/relay', 'CPU per life, relay client', 'µs', relays),
    figure('cpu/life/tollgate', 'CPU per life, daemon', 'µs', ours),
    figure('cpu/life', 'CPU per life, daemon ÷ relay client', '×', ratios, { target: TARGETS.cpuPerLife }),
  ];
}

/** CPU per job of every process while Tollgate works: what planners count with. */
function processFigures(runs: readonly Run[], kind: SaturatedRun['kind']): Figure[] {
  const own = saturated(runs, kind, 'tollgate');
  const processes = Object.keys(own[0]?.cpuMs ?? {}).filter((name) => SUBJECTS.every((one) => one !== name));
  return ['tollgate', ...processes]
    .filter(() => own.length > 0)
    .map((name) => {
      const values = own.map(({ cpuMs, jobs }) => ((cpuMs[name] ?? Number.NaN) * 1_000) / jobs);
      return figure(`cpu/${kind}/process/${name}`, `CPU per ${kind}, process ${name}`, 'µs', values);
    });
}

const QUANTILES = ['p50', 'p95', 'p99', 'p999'] as const;
type QuantileName = (typeof QUANTILES)[number];

function latencyFigures(runs: readonly Run[]): Figure[] {
  const all = runs.filter((run): run is LatencyRun => run.kind === 'latency' || run.kind === 'idle');
  const latencies = pacesOf(all).flatMap((perSecond) =>
    SUBJECTS.map((subject) => runsAt(all, subject, perSecond))
      .filter((own) => keptUp(own, perSecond) || own.length === 0)
      .flat(),
  );
  return [...latencyRowsOf(latencies), ...backlogFigures(all)];
}

/** Without the rates that a subject could not sustain; the other subject's stay, with nothing to be set against. */
function latencyRowsOf(latencies: readonly LatencyRun[]): Figure[] {
  return pacesOf(latencies).flatMap((perSecond) =>
    QUANTILES.flatMap((quantile) => {
      const of = (subject: SubjectName) =>
        runsAt(latencies, subject, perSecond)
          .filter(({ latencyMs }) => quantile !== 'p999' || tellsP999(latencyMs))
          .map(({ latencyMs }) => latencyMs[quantile]);
      return latencyRows(perSecond, quantile, of('relay'), of('tollgate'));
    }),
  );
}

/** Who could not keep up with which rate: the backlog that was left when the last job was due, still growing. */
function backlogFigures(runs: readonly LatencyRun[]): Figure[] {
  return pacesOf(runs).flatMap((perSecond) =>
    SUBJECTS.flatMap((subject) => {
      const own = runsAt(runs, subject, perSecond);
      if (own.length === 0 || keptUp(own, perSecond)) return [];
      const name = `latency at ${perSecond}/s, ${subject}: NOT SUSTAINED, backlog at the end`;
      const left = own.map(({ backlog }) => backlog.end);
      return [
        figure(`latency/${perSecond}/backlog/${subject}`, name, 'jobs', left, {
          spreadMax: BACKLOG_SPREAD_MAX,
        }),
      ];
    }),
  );
}

/** One run that fell behind may have been disturbed; half of them may not. */
function keptUp(runs: readonly LatencyRun[], perSecond: number): boolean {
  return runs.filter(({ backlog }) => !isSustained(backlog, perSecond)).length * 2 < runs.length;
}

function runsAt(runs: readonly LatencyRun[], subject: SubjectName, perSecond: number): LatencyRun[] {
  return runs.filter((run) => run.subject === subject && run.perSecond === perSecond);
}

function pacesOf(runs: readonly LatencyRun[]): number[] {
  return [...new Set(runs.map((run) => run.perSecond))].toSorted((a, b) => a - b);
}

/** Only p50 and p99 at some rates have a target; where there is none the ratio is left out. */
function latencyRows(
  perSecond: number,
  quantile: QuantileName,
  relays: readonly number[],
  ours: readonly number[],
): Figure[] {
  const label = quantile === 'p999' ? 'p99.9' : quantile;
  const name = `${perSecond === 0 ? 'latency when idle' : `latency at ${perSecond}/s`}, ${label}`;
  const id = `latency/${perSecond}/${quantile}`;
  const options = { spreadMax: LATENCY_SPREAD_MAX };
  const rows = [
    ...(relays.length > 0 ? [figure(`${id}/relay`, `${name}, relay`, 'ms', relays, options)] : []),
    ...(ours.length > 0 ? [figure(`${id}/tollgate`, `${name}, tollgate`, 'ms', ours, options)] : []),
  ];
  const isJudged = JUDGED_RATES.includes(perSecond) && (quantile === 'p50' || quantile === 'p99');
  if (!isJudged || rows.length < 2) return rows;
  const ratios = pairedRatios(ours, relays);
  return [
    ...rows,
    figure(id, `${name}, tollgate ÷ relay`, '×', ratios, { ...options, target: TARGETS.latency }),
  ];
}

/** CPU of every process per job, in microseconds, from all runs of a kind and subject together. */
export function cpuPerJobUs(
  runs: readonly Run[],
  kind: SaturatedRun['kind'],
  subject: SubjectName,
): Readonly<Record<string, number>> {
  const own = saturated(runs, kind, subject);
  const jobs = own.reduce((total, run) => total + run.jobs, 0);
  const totals: Record<string, number> = {};
  for (const { cpuMs } of own) {
    for (const [process, ms] of Object.entries(cpuMs))
      totals[process] = (totals[process] ?? 0) + (ms * 1_000) / jobs;
  }
  return totals;
}

/** CPU of every process per job, one table for each kind of run. */
export function cpuLines(runs: readonly Run[]): string[] {
  return (['dispatch', 'life'] as const).flatMap((kind) => {
    const cpu = SUBJECTS.map((subject) => cpuPerJobUs(runs, kind, subject));
    const processes = [...new Set(cpu.flatMap((one) => Object.keys(one)))];
    if (processes.length === 0) return [];
    const rows = processes.map((name) => [name, ...cpu.map((one) => plain(one[name] ?? Number.NaN))]);
    const all = ['all', ...cpu.map((one) => plain(sum(Object.values(one))))];
    return [...columns([[`CPU µs per ${TITLES[kind]}`, ...SUBJECTS], ...rows, all]), ''];
  });
}

function saturated(runs: readonly Run[], kind: SaturatedRun['kind'], subject: SubjectName): SaturatedRun[] {
  return runs.filter((run): run is SaturatedRun => run.kind === kind && run.subject === subject);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
