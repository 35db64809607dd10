/** Median and range of a few runs. */
export interface Summary {
  readonly n: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Latencies of one run, in milliseconds. */
export interface Quantiles {
  readonly n: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** Of fewer latencies the 99.9th percentile is the largest one. */
const P999_SAMPLES_MIN = 1_000;

/** True where there are latencies enough for the 99.9th percentile to be another one than the largest. */
export function tellsP999({ n }: Pick<Quantiles, 'n'>): boolean {
  return n >= P999_SAMPLES_MIN;
}

/** The value below which a share of `sorted` lies, by the nearest rank; NaN of nothing. */
export function quantile(sorted: Float64Array | readonly number[], share: number): number {
  const rank = Math.max(1, Math.ceil(share * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

/** Median (of an even number: the mean of the two in the middle) and range. Throws on nothing: there is no such figure. */
export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const [min] = sorted;
  const max = sorted.at(-1);
  if (min === undefined || max === undefined) throw new RangeError('no values to summarize');
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] ?? min;
  const high = sorted[Math.floor(middle)] ?? max;
  return { n: sorted.length, median: (low + high) / 2, min, max };
}

/** Quantiles of latencies in milliseconds. */
export function quantilesOf(values: readonly number[]): Quantiles {
  const sorted = Float64Array.from(values).toSorted();
  return {
    n: sorted.length,
    p50: quantile(sorted, 0.5),
    p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
    p999: quantile(sorted, 0.999),
    max: quantile(sorted, 1),
  };
}

/**
 * How far the middle half of a series lies apart, as a share of its median (quartiles by linear interpolation): one run that went
 * wrong does not move it.
 */
export function quartileSpread(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => {
    const place = share * (sorted.length - 1);
    const low = sorted[Math.floor(place)] ?? Number.NaN;
    const high = sorted[Math.ceil(place)] ?? Number.NaN;
    return low + (high - low) * (place - Math.floor(place));
  };
  return (at(0.75) - at(0.25)) / at(0.5);
}

/**
 * Divides run by run: what one pair measured within a minute is compared, not medians of minutes apart, because the machine
 * drifts more than the two differ. Throws unless both have the same number of runs.
 */
export function pairedRatios(over: readonly number[], under: readonly number[]): number[] {
  if (over.length !== under.length) throw new RangeError(`${over.length} runs against ${under.length}`);
  return over.map((value, i) => value / (under[i] ?? Number.NaN));
}

/** Who runs when: `names` in order for the first pair, backwards for the second, and so on (A B B A). */
export function alternating<T>(names: readonly T[], pair: number): readonly T[] {
  return pair % 2 === 0 ? names : names.toReversed();
}

/** A mean with its 95 % interval; both ends are NaN where there are too few runs to tell. */
export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** Student's t at 0.975 for 1 to 30 degrees of freedom; beyond, the normal quantile is close enough. */
const T_975 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
  2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const Z_975 = 1.96;

/** The geometric mean of ratios and its 95 % interval, by Student's t of their logarithms: a half weighs as much as a double. */
export function ratioInterval(ratios: readonly number[]): Interval {
  const logs = ratios.map(Math.log);
  const n = logs.length;
  const mean = logs.reduce((sum, log) => sum + log, 0) / n;
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (n - 1);
  const half = (T_975[n - 2] ?? Z_975) * Math.sqrt(variance / n);
  return { mean: Math.exp(mean), low: Math.exp(mean - half), high: Math.exp(mean + half) };
}
