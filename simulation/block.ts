import { runSeed, type SeedReport } from './run.ts';

/** Seeds that one process plays one after the other. */
export interface Block {
  readonly firstSeed: number;
  readonly seeds: number;
  /** Of each seed. */
  readonly jobs: number;
}

/** What came of a block, or of several. `broken`: the first seed that broke an invariant; none of its block was played after it. */
export interface Played {
  readonly seeds: number;
  readonly jobs: number;
  readonly events: number;
  readonly virtualMs: number;
  readonly broken: SeedReport | null;
}

export const NOTHING_PLAYED: Played = { seeds: 0, jobs: 0, events: 0, virtualMs: 0, broken: null };

/** Both together. Of two broken seeds the lower one stays, whichever process was faster. */
export function sumOf(a: Played, b: Played): Played {
  const broken = [a.broken, b.broken]
    .filter((one) => one !== null)
    .toSorted((one, other) => one.seed - other.seed);
  return {
    seeds: a.seeds + b.seeds,
    jobs: a.jobs + b.jobs,
    events: a.events + b.events,
    virtualMs: a.virtualMs + b.virtualMs,
    broken: broken[0] ?? null,
  };
}

/** Cuts `seeds` seeds from `firstSeed` on into blocks of at most `blockSeedsMax`. */
export function* blocksOf(all: Block, blockSeedsMax: number): Generator<Block> {
  for (let done = 0; done < all.seeds; done += blockSeedsMax)
    yield {
      firstSeed: all.firstSeed + done,
      seeds: Math.min(blockSeedsMax, all.seeds - done),
      jobs: all.jobs,
    };
}

/** Plays a block in this process, up to the first broken seed. */
export async function playBlock({ firstSeed, seeds, jobs }: Block): Promise<Played> {
  let played = NOTHING_PLAYED;
  for (let i = 0; i < seeds && played.broken === null; i++) {
    const report = await runSeed(firstSeed + i, jobs);
    const { jobs: lives, events, virtualMs } = report;
    played = sumOf(played, { seeds: 1, jobs: lives, events, virtualMs, broken: report.broken && report });
  }
  return played;
}
