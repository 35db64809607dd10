import { chosen, COMMON_OPTIONS, integer, parsedAs } from '../arguments.ts';
import { RUN_JOBS_MAX } from '../world/names.ts';

/** In the order in which they are measured: those that change the broker for good come last. */
export const CONDITION_NAMES = [
  'commit-5ms',
  'hot-account',
  'workers-100000',
  'snapshot-held',
  'snapshot-held-hot',
  'coordinators-2',
  'pools-1000',
] as const;
export type ConditionName = (typeof CONDITION_NAMES)[number];

/** What `npm run bench -- conditions` was asked for. */
export interface ConditionsOptions {
  readonly names: readonly ConditionName[];
  /** How often each side of a condition runs. */
  readonly pairs: number;
  /** Jobs of one run. */
  readonly jobs: number;
  /** Folder for CPU profiles of the pools' daemons; null: none. */
  readonly profile: string | null;
}

export const CONDITIONS_USAGE = `usage: npm run bench -- conditions [options]

  --json FILE     write raw runs, figures, settings and machine as JSON
  --pairs N       runs of each side, 1 to 50 (default 5)
  --jobs N        jobs of a run, 200 to ${RUN_JOBS_MAX} (default 6000)
  --quick         one pair of 4000 jobs: too few runs for a range
  --only NAMES    some of ${CONDITION_NAMES.join(', ')}, with commas between
  --profile DIR   write CPU profiles of the daemons of pools-1000 there and show where their time goes`;

const DEFAULT = { pairs: 5, jobs: 6_000 };
const QUICK = { pairs: 1, jobs: 4_000 };

/** Reads the options of the suite. Throws UsageError. */
export function conditionsOptions(argv: readonly string[]): ConditionsOptions {
  const values = parsedAs(argv, {
    ...COMMON_OPTIONS,
    only: { type: 'string' },
    profile: { type: 'string' },
  });
  const base = values.quick ? QUICK : DEFAULT;
  return {
    names: chosen(values.only, CONDITION_NAMES),
    pairs: integer('--pairs', values.pairs, 1, 50) ?? base.pairs,
    jobs: integer('--jobs', values.jobs, 200, RUN_JOBS_MAX) ?? base.jobs,
    profile: values.profile ?? null,
  };
}
