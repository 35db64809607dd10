import {
  chosen,
  COMMON_OPTIONS,
  integer,
  type Part,
  PARTS,
  parsedWithWords,
  UsageError,
} from '../arguments.ts';
import { RUN_JOBS_MAX } from '../world/names.ts';

/** What `npm run bench -- compare` was asked for. */
export interface CompareOptions {
  readonly rev: string;
  readonly pairs: number;
  /** Backlog of one saturated dispatch run; a life run has half of it. */
  readonly jobs: number;
  readonly latencyS: number;
  readonly parts: readonly Part[];
}

export const COMPARE_USAGE = `usage: npm run bench -- compare REV [options]

  REV             a commit, branch or tag of this repository: what the working tree is compared with
  --pairs N       runs of each, 1 to 50 (default 8)
  --jobs N        backlog of a saturated dispatch run, 200 to ${RUN_JOBS_MAX} (default 16000)
  --only PARTS    some of ${PARTS.join(', ')}, with commas between (default dispatch,life)
  --quick         one pair, small backlogs: too few for an interval
  --json FILE     write raw runs, figures, settings and machine as JSON`;

const DEFAULT = { pairs: 8, jobs: 16_000, latencyS: 6 };
const QUICK = { pairs: 1, jobs: 8_000, latencyS: 4 };
const DEFAULT_PARTS: readonly Part[] = ['dispatch', 'life'];

/** Reads the options of the suite. Throws UsageError. */
export function compareOptions(argv: readonly string[]): CompareOptions {
  const { values, positionals } = parsedWithWords(argv, { ...COMMON_OPTIONS, only: { type: 'string' } });
  const [rev, ...more] = positionals;
  if (rev === undefined || rev === '') throw new UsageError('which commit? REV is missing');
  if (more.length > 0) throw new UsageError(`one REV, not ${positionals.length}: ${positionals.join(' ')}`);
  const base = values.quick ? QUICK : DEFAULT;
  return {
    rev,
    pairs: integer('--pairs', values.pairs, 1, 50) ?? base.pairs,
    jobs: integer('--jobs', values.jobs, 200, RUN_JOBS_MAX) ?? base.jobs,
    latencyS: base.latencyS,
    parts: values.only === undefined ? DEFAULT_PARTS : chosen(values.only, PARTS),
  };
}
