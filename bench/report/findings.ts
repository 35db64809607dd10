import type { Machine } from '../measure/machine.ts';
import type { Setting } from '../measure/settings.ts';
import { type Quantiles, quartileSpread, type Summary, summarize } from '../measure/statistics.ts';

/** A bound on the median of a figure. */
export type Target = { readonly atLeast: number } | { readonly atMost: number };

/** One line of a report. */
export interface Figure {
  /** What other programs find it by, as `dispatch/relay`: it stays the same when the name is put better. */
  readonly id: string;
  readonly name: string;
  readonly unit: string;
  /** One of each run, or of each pair of runs, in the order of the runs. */
  readonly values: readonly number[];
  /** What is asked of it; null: it is there to be compared with. */
  readonly target: Target | null;
  /** The middle half of the values may lie this share of their median apart; beyond, the figure is not shown. */
  readonly spreadMax: number;
}

/** All that one call of a suite has found out; `--json` writes it, the report shows it. */
export interface Findings {
  readonly suite: string;
  readonly startedAt: string;
  readonly command: string;
  readonly machine: Machine;
  /** By server, as the servers tell them. */
  readonly versions: Readonly<Record<string, string>>;
  /** What the servers said of their durability: the bench stops when one is weaker than it has to be. */
  readonly settings: readonly Setting[];
  readonly figures: readonly Figure[];
  /** Lines under the table: what a person reads and no program does. */
  readonly notes: readonly string[];
  /** What made all of these runs worthless, a line each. */
  readonly disturbances: readonly string[];
  /** Raw, as the suite has them. */
  readonly runs: readonly unknown[];
}

/** Quartiles that lie further apart than this share of the median: the machine was not quiet. */
export const SPREAD_MAX = 0.35;
/** Fewer values say nothing of their spread. */
const SPREAD_VALUES_MIN = 4;
/** A run in which others took more than this share of the machine was disturbed. */
export const FOREIGN_SHARE_MAX = 0.1;
/** Of the runs, this share may be disturbed: medians bear it. */
const DISTURBED_RUNS_SHARE_MAX = 0.2;

/** Makes a figure; what is not given is the usual. */
export function figure(
  id: string,
  name: string,
  unit: string,
  values: readonly number[],
  { target = null, spreadMax = SPREAD_MAX }: Partial<Pick<Figure, 'target' | 'spreadMax'>> = {},
): Figure {
  return { id, name, unit, values, target, spreadMax };
}

/** True when the median reaches the target. */
export function holds({ median }: Summary, target: Target): boolean {
  return 'atLeast' in target ? median >= target.atLeast : median <= target.atMost;
}

/** What may be said of a figure: its summary, or by how much its values lie too far apart for one. */
export function verdictOf({
  values,
  spreadMax,
}: Figure): { readonly summary: Summary } | { readonly spread: number } {
  const spread = quartileSpread(values);
  return values.length >= SPREAD_VALUES_MIN && spread > spreadMax
    ? { spread }
    : { summary: summarize(values) };
}

/** What others did to these runs, a line each; empty: nothing that we know of. A null share is not known. */
export function crowding(runs: readonly { readonly foreignShare: number | null }[]): string[] {
  const shares = runs.flatMap(({ foreignShare }) => (foreignShare === null ? [] : [foreignShare]));
  const crowded = shares.filter((share) => share > FOREIGN_SHARE_MAX);
  if (crowded.length <= shares.length * DISTURBED_RUNS_SHARE_MAX) return [];
  return [crowdedLine(crowded, shares.length)];
}

function crowdedLine(crowded: readonly number[], of: number): string {
  const most = percent(Math.max(...crowded));
  return `other processes took more than ${percent(FOREIGN_SHARE_MAX)} of the machine in ${crowded.length} of ${of} runs (at most ${most})`;
}

/** A generator this late at its median was kept from its work; it looks at the clock every millisecond. */
const LATE_MS_MAX = 5;

/** Runs at a fixed rate whose generator could not keep it, as a line; empty: it could. */
export function lateness(runs: readonly { readonly latenessMs?: Pick<Quantiles, 'p50'> }[]): string[] {
  const late = runs.flatMap(({ latenessMs }) => (latenessMs === undefined ? [] : [latenessMs.p50]));
  const tooLate = late.filter((ms) => ms > LATE_MS_MAX);
  if (tooLate.length <= late.length * DISTURBED_RUNS_SHARE_MAX) return [];
  return [
    `the load generator itself was more than ${LATE_MS_MAX} ms late at its median in ${tooLate.length} of ${late.length} runs at a fixed rate`,
  ];
}

/** What tells a disturbed run from another. */
interface Observed {
  readonly foreignShare: number | null;
  readonly latenessMs?: Pick<Quantiles, 'p50'>;
}

/**
 * All that is known to have made these runs worthless, a line each. `seriesOf` names the runs whose median is one figure: a series is
 * worthless, too, when more than half of its own runs were disturbed, however many others were not.
 */
export function disturbancesOf<Run extends Observed>(
  runs: readonly Run[],
  seriesOf: (run: Run) => string = () => '',
): string[] {
  const found = [...crowding(runs), ...lateness(runs)];
  if (found.length > 0) return found;
  const series = Map.groupBy(runs, seriesOf);
  return [...series].flatMap(([name, own]) => seriesLines(name, own));
}

function seriesLines(name: string, runs: readonly Observed[]): string[] {
  const crowded = runs.flatMap(({ foreignShare }) =>
    (foreignShare ?? 0) > FOREIGN_SHARE_MAX ? [foreignShare ?? 0] : [],
  );
  const late = runs.filter(({ latenessMs }) => (latenessMs?.p50 ?? 0) > LATE_MS_MAX);
  return [
    ...(crowded.length * 2 > runs.length ? [`${name}: ${crowdedLine(crowded, runs.length)}`] : []),
    ...(late.length * 2 > runs.length
      ? [`${name}: the load generator itself was late in ${late.length} of ${runs.length} runs`]
      : []),
  ];
}

/** True where all of it was disturbed, or a figure that is to be judged: the values of that one lie too far apart. */
export function isDisturbed({ disturbances, figures }: Pick<Findings, 'disturbances' | 'figures'>): boolean {
  return disturbances.length > 0 || figures.some((one) => one.target !== null && 'spread' in verdictOf(one));
}

/** A share as people read it. */
export function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
