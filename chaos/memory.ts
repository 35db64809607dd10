/** What a process that lived through a whole run held in memory. */
export interface Memory {
  /** Median of each tenth of the run, in MiB. */
  readonly miBByTenth: readonly number[];
  /** The last tenth over the third: before that caches and pools fill. Null where there is too little to say. */
  readonly growth: number | null;
  readonly isFlat: boolean;
}

/** Beyond this the memory of a soak is not flat: the garbage collector alone moves it by a tenth or so. */
const GROWTH_MAX = 1.25;
const TENTHS = 10;

/** Judges samples taken at equal distances. Fewer than one per tenth say nothing, and are not flat. */
export function memoryOf(samplesMiB: readonly number[]): Memory {
  const miBByTenth: number[] = [];
  for (let tenth = 0; tenth < TENTHS; tenth++) {
    const from = Math.floor((tenth * samplesMiB.length) / TENTHS);
    const to = Math.floor(((tenth + 1) * samplesMiB.length) / TENTHS);
    const sorted = samplesMiB.slice(from, to).toSorted((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)];
    if (median !== undefined) miBByTenth.push(median);
  }
  const [, , third] = miBByTenth;
  const last = miBByTenth.at(-1);
  const isEnough = miBByTenth.length === TENTHS && third !== undefined && last !== undefined && third > 0;
  const growth = isEnough ? Number((last / third).toFixed(3)) : null;
  return { miBByTenth, growth, isFlat: growth !== null && growth <= GROWTH_MAX };
}
