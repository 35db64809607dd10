import { chosen, COMMON_OPTIONS, integer, parsedAs } from '../arguments.ts';
import { RUN_JOBS_MAX } from '../world/names.ts';
import { AXES, type Axis } from './growth-figures.ts';

/** What `npm run bench -- growth` was asked for. */
export interface GrowthOptions {
  readonly axes: readonly Axis[];
  /** How often each value of an axis runs. */
  readonly runs: number;
  /** Jobs of one run; fewer where they are large, more where each of many accounts has to pay. */
  readonly jobs: number;
}

export const GROWTH_USAGE = `usage: npm run bench -- growth [options]

  --json FILE     write raw runs, figures, settings and machine as JSON
  --pairs N       runs of each value, 1 to 50 (default 4)
  --jobs N        jobs of a run, 200 to ${RUN_JOBS_MAX} (default 5000)
  --quick         one run of 2000 jobs each
  --only AXES     some of ${AXES.join(', ')}, with commas between`;

/** With fewer runs nothing could be said of how far apart they lie. */
const DEFAULT = { runs: 4, jobs: 5_000 };
const QUICK = { runs: 1, jobs: 2_000 };

/** Reads the options of the suite. Throws UsageError. */
export function growthOptions(argv: readonly string[]): GrowthOptions {
  const values = parsedAs(argv, {
    ...COMMON_OPTIONS,
    only: { type: 'string' },
  });
  const base = values.quick ? QUICK : DEFAULT;
  return {
    axes: chosen(values.only, AXES),
    runs: integer('--pairs', values.pairs, 1, 50) ?? base.runs,
    jobs: integer('--jobs', values.jobs, 200, RUN_JOBS_MAX) ?? base.jobs,
  };
}
