import { FLAWLESS, type Flaw } from './flaws.ts';
import { World } from './world.ts';

/** How one seed went. */
export interface SeedReport {
  readonly seed: number;
  readonly jobs: number;
  readonly events: number;
  readonly virtualMs: number;
  /** SHA-256 of the event log. */
  readonly digest: string;
  /** Null if every invariant held. */
  readonly broken: {
    readonly invariant: string;
    readonly what: string;
    readonly log: readonly string[];
  } | null;
}

/**
 * Plays one seed. Seeds must follow one another, never run side by side: an error that nobody awaits is taken for this seed's, as
 * it would end a real process.
 */
export async function runSeed(seed: number, jobs: number, flaw: Flaw = FLAWLESS): Promise<SeedReport> {
  const world = new World({ seed, jobs, seams: flaw });
  flaw.bend(world);
  const crashed = (error: unknown) => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    world.judge.fail('crash', text.split('\n').slice(0, 4).join(' | '));
  };
  process.on('unhandledRejection', crashed);
  process.on('uncaughtException', crashed);
  try {
    await world.play();
  } finally {
    process.off('unhandledRejection', crashed);
    process.off('uncaughtException', crashed);
  }
  const { timeline, judge } = world;
  const { broken } = judge;
  return {
    seed,
    jobs: world.ledger.jobs.size,
    events: timeline.events,
    // Whole, so that sums do not depend on their order.
    virtualMs: Math.round(timeline.nowMs),
    digest: timeline.digest(),
    broken: broken && { invariant: broken.invariant, what: broken.message, log: timeline.lines },
  };
}
