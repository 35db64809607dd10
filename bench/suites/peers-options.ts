import { COMMON_OPTIONS, integer, parsedAs } from '../arguments.ts';
import type { Contest } from '../peers/settings.ts';
import { RUN_JOBS_MAX } from '../world/names.ts';

/** What `npm run bench -- peers` was asked for. */
export interface PeersOptions {
  /** How often each subject runs. */
  readonly pairs: number;
  /** Backlog of Tollgate's run; the peers' sizes follow from it. */
  readonly jobs: number;
  /** Every setting that was tried runs, to choose from, and no figure with a target is formed. */
  readonly isTuning: boolean;
}

export const PEERS_USAGE = `usage: npm run bench -- peers [options]

  --json FILE     write raw runs, figures, settings and machine as JSON
  --pairs N       runs of each subject, 1 to 50 (default 5)
  --jobs N        backlog of Tollgate's run, 1000 to 32000 (default 16000)
  --quick         one pair, small backlogs: too few runs for a range
  --tune          run each peer with every setting that was tried, to choose from`;

const DEFAULT = { pairs: 5, jobs: 16_000 };
const QUICK = { pairs: 1, jobs: 8_000 };

/** Reads the options of the suite. Throws UsageError. */
export function peersOptions(argv: readonly string[]): PeersOptions {
  const values = parsedAs(argv, {
    ...COMMON_OPTIONS,
    tune: { type: 'boolean' },
  });
  const base = values.quick ? QUICK : DEFAULT;
  return {
    pairs: integer('--pairs', values.pairs, 1, 50) ?? base.pairs,
    jobs: integer('--jobs', values.jobs, 1_000, RUN_JOBS_MAX) ?? base.jobs,
    isTuning: values.tune ?? false,
  };
}

/** Backlog of a peer's run: slow tasks get fewer jobs, so that each run takes seconds. */
export function backlogOf({ peer, variant, setting }: Contest, jobs: number): number {
  // It takes hundreds at a time: with fewer jobs filling and emptying its batches would be most of a run.
  const share = { 'same steps': peer === 'pg-boss' ? 1 / 4 : 1 / 8, 'lock only': 1 / 4, 'no-op': 1 }[variant];
  return setting.areLocksBatched ? jobs : Math.ceil(jobs * share);
}
