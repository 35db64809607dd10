/** Jobs that were due and had not arrived: half-way, and when the last one was due. */
export interface Backlog {
  readonly middle: number;
  readonly end: number;
}

/** A subject that is a quarter of a second behind may only have hiccuped; one that falls further behind than that is looked at. */
const BEHIND_S_MAX = 0.25;
/** A backlog that has grown by this factor in the second half of a run would have gone on to grow. */
const GROWTH_MAX = 1.3;

/** Counts the backlog of an open loop; both lists are of the same jobs, on the same clock. A job that never came is NaN there. */
export function backlogOf(dueMs: readonly number[], arrivedMs: readonly number[]): Backlog {
  const lastMs = dueMs.at(-1) ?? Number.NaN;
  const firstMs = dueMs[0] ?? Number.NaN;
  const at = (ms: number): number =>
    dueMs.filter((due, i) => due <= ms && !((arrivedMs[i] ?? Number.NaN) <= ms)).length;
  return { middle: at((firstMs + lastMs) / 2), end: at(lastMs) };
}

/** False where the subject fell further and further behind: its latency then says how long the run was, and nothing else. */
export function isSustained({ middle, end }: Backlog, perSecond: number): boolean {
  return end <= perSecond * BEHIND_S_MAX || end <= middle * GROWTH_MAX;
}
