import { bars, type ResidentMemory } from '../measure/memory.ts';
import { summarize } from '../measure/statistics.ts';
import { type Figure, figure } from '../report/findings.ts';
import { plain } from '../report/report.ts';
import { TARGETS } from '../report/targets.ts';

/** The daemon at one moment. */
export interface MemorySample extends ResidentMemory {
  /** Since the load began. */
  readonly atMs: number;
  /** Lives that were complete by then. */
  readonly replies: number;
}

const MINUTE_MS = 60_000;
const COLUMNS = 60;

/**
 * The figures of one long run. The first third is warm-up for all but the peak, which is the kernel's own: nothing between two
 * samples is missed, and what came before the first one counts.
 */
export function memoryFigures(samples: readonly MemorySample[]): Figure[] {
  const peakMiB = samples.at(-1)?.peakMiB ?? Number.NaN;
  const [, middle, last] = thirdsOf(samples);
  const late = [...middle, ...last];
  return [
    figure('memory/rss-max', `peak resident memory of the daemon, ${lengthOf(samples)}`, 'MiB', [peakMiB], {
      target: TARGETS.memoryMiB,
    }),
    figure('memory/growth', 'its median in the last third ÷ in the middle third', '×', [growthOf(samples)], {
      target: TARGETS.memoryGrowth,
    }),
    figure('memory/slope', 'its slope after the first third', 'MiB/min', [slopeOf(late)]),
    figure('memory/rate', 'full lives meanwhile, after the first third', '/s', [rateOf(late)]),
  ];
}

/** Median of the last third divided by that of the middle one. */
export function growthOf(samples: readonly MemorySample[]): number {
  const [, middle, last] = thirdsOf(samples);
  return summarize(rssOf(last)).median / summarize(rssOf(middle)).median;
}

/** By least squares, in MiB a minute. */
export function slopeOf(samples: readonly MemorySample[]): number {
  const minutes = samples.map(({ atMs }) => atMs / MINUTE_MS);
  const [meanMinute, meanRss] = [mean(minutes), mean(rssOf(samples))];
  const along = samples.map(({ rssMiB }, i) => ((minutes[i] ?? 0) - meanMinute) * (rssMiB - meanRss));
  const square = minutes.map((minute) => (minute - meanMinute) ** 2);
  return mean(along) / mean(square);
}

/** Lives a second between the first and the last sample. */
export function rateOf(samples: readonly MemorySample[]): number {
  const [first] = samples;
  const last = samples.at(-1);
  if (first === undefined || last === undefined) return Number.NaN;
  return ((last.replies - first.replies) * 1_000) / (last.atMs - first.atMs);
}

/** Memory and rate over time, a line of bars each. */
export function memoryLines(samples: readonly MemorySample[]): string[] {
  const rates = samples.slice(1).map((sample, i) => rateOf([samples[i] ?? sample, sample]));
  return [
    line('resident MiB', rssOf(samples)),
    line('lives/s', rates),
    `${samples.length} samples from left to right, ${lengthOf(samples)} of load`,
  ];
}

/** How long the load was there until the last sample. */
function lengthOf(samples: readonly MemorySample[]): string {
  const minutes = (samples.at(-1)?.atMs ?? 0) / MINUTE_MS;
  return `${minutes.toLocaleString('en', { maximumFractionDigits: 1 })} minutes`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function line(name: string, values: readonly number[]): string {
  return `${name.padEnd(12)}  ${bars(values, COLUMNS)}  ${plain(Math.min(...values))} … ${plain(Math.max(...values))}`;
}

function thirdsOf(samples: readonly MemorySample[]): [MemorySample[], MemorySample[], MemorySample[]] {
  const third = Math.floor(samples.length / 3);
  return [samples.slice(0, third), samples.slice(third, third * 2), samples.slice(third * 2)];
}

function rssOf(samples: readonly MemorySample[]): number[] {
  return samples.map(({ rssMiB }) => rssMiB);
}
