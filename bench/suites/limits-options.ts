import { COMMON_OPTIONS, integer, parsedAs } from '../arguments.ts';

/** What `npm run bench -- limits` was asked for. */
export interface LimitsOptions {
  /** How often each limit is measured. */
  readonly pairs: number;
  /** Least time under the clock of one measurement, in milliseconds. */
  readonly windowMs: number;
  /** Backlog of one run of the relay. */
  readonly jobs: number;
}

export const LIMITS_USAGE = `usage: npm run bench -- limits [options]

  --json FILE     write figures, settings and machine as JSON
  --pairs N       measurements of each limit, 1 to 50 (default 5)
  --jobs N        backlog of a run of the relay, 200 to 200000 (default 20000)
  --quick         one short measurement of each: too few for a range`;

const DEFAULT = { pairs: 5, windowMs: 600, jobs: 20_000 };
const QUICK = { pairs: 1, windowMs: 250, jobs: 8_000 };

/** Reads the options of the suite. Throws UsageError. */
export function limitsOptions(argv: readonly string[]): LimitsOptions {
  const values = parsedAs(argv, COMMON_OPTIONS);
  const base = values.quick ? QUICK : DEFAULT;
  return {
    pairs: integer('--pairs', values.pairs, 1, 50) ?? base.pairs,
    windowMs: base.windowMs,
    jobs: integer('--jobs', values.jobs, 200, 200_000) ?? base.jobs,
  };
}
