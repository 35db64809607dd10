import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';
import { RUN_JOBS_MAX } from './world/names.ts';

/** A wrong command line; `main.ts` prints the message and exits with status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The parts of the suite that can be run alone. */
export const PARTS = ['dispatch', 'life', 'latency'] as const;
export type Part = (typeof PARTS)[number];

/** What `npm run bench -- hotpath` was asked for. */
export interface HotpathOptions {
  /** How often each subject runs. */
  readonly pairs: number;
  /** Backlog of one saturated dispatch run; the other sizes follow from it. */
  readonly jobs: number;
  /** Length of one latency run, in seconds. */
  readonly latencyS: number;
  readonly parts: readonly Part[];
  /** Folder for CPU profiles of the daemon, one per saturated run; null: none. */
  readonly profile: string | null;
  /** A recorded load to be replayed in place of all this; null: none. */
  readonly trace: string | null;
  /** How many times as fast as it was recorded; null: so that it lasts two minutes at most. */
  readonly speed: number | null;
  /** The first so many of its requests. */
  readonly traceJobsMax: number;
}

export const HOTPATH_USAGE = `usage: npm run bench -- hotpath [options]

  --json FILE     write raw runs, figures, settings and machine as JSON
  --pairs N       runs of each subject, 1 to 50 (default 5)
  --jobs N        backlog of a saturated dispatch run, 200 to ${RUN_JOBS_MAX} (default 20000)
  --quick         one pair, small backlogs: at most 2 minutes, too few runs for a range
  --only PARTS    some of ${PARTS.join(', ')}, with commas between
  --profile DIR   write CPU profiles of the daemon there and show where its time goes

  --trace FILE    instead of all this replay a recorded load (CSV TIMESTAMP,ContextTokens,GeneratedTokens), open loop
  --speed N       so many times as fast as recorded, 1 to 1000000 (default: so that it lasts two minutes at most);
                  with --jobs only the first so many requests`;

/** Most requests of one replay: all of them are made before the clock starts. */
export const TRACE_JOBS_MAX = 100_000;

const DEFAULT = { pairs: 5, jobs: 20_000, latencyS: 4 };
const QUICK = { pairs: 1, jobs: 8_000, latencyS: 3 };

/** Reads the options of the suite. Throws UsageError. */
export function hotpathOptions(argv: readonly string[]): HotpathOptions {
  const values = parsedAs(argv, {
    ...COMMON_OPTIONS,
    only: { type: 'string' },
    profile: { type: 'string' },
    trace: { type: 'string' },
    speed: { type: 'string' },
  });
  const base = values.quick ? QUICK : DEFAULT;
  const jobs = integer('--jobs', values.jobs, 200, RUN_JOBS_MAX);
  const speed = integer('--speed', values.speed, 1, 1_000_000);
  if (speed !== null && values.trace === undefined) throw new UsageError('--speed is of --trace');
  return {
    pairs: integer('--pairs', values.pairs, 1, 50) ?? base.pairs,
    jobs: jobs ?? base.jobs,
    latencyS: base.latencyS,
    parts: chosen(values.only, PARTS),
    profile: values.profile ?? null,
    trace: values.trace ?? null,
    speed,
    traceJobsMax: Math.min(jobs ?? TRACE_JOBS_MAX, TRACE_JOBS_MAX),
  };
}

/** What `npm run bench -- flood` was asked for. */
export interface FloodOptions {
  /** How often each flood rate runs. */
  readonly pairs: number;
  /** Length of one run. */
  readonly seconds: number;
}

const FLOOD_S = 6;

export const FLOOD_USAGE = `usage: npm run bench -- flood [options]

  --json FILE     write raw runs and machine as JSON
  --pairs N       runs at each flood rate, 2 to 50 (default 5)
  --seconds N     length of one run, 1 to 120 (default 6)`;

/** Reads the options of the suite. Throws UsageError. */
export function floodOptions(argv: readonly string[]): FloodOptions {
  const values = parsedAs(argv, {
    json: { type: 'string' },
    pairs: { type: 'string' },
    seconds: { type: 'string' },
  });
  return {
    pairs: integer('--pairs', values.pairs, 2, 50) ?? DEFAULT.pairs,
    seconds: integer('--seconds', values.seconds, 1, 120) ?? FLOOD_S,
  };
}

/** Options that most suites have. */
export const COMMON_OPTIONS = {
  json: { type: 'string' },
  pairs: { type: 'string' },
  jobs: { type: 'string' },
  quick: { type: 'boolean' },
} as const;

/** The values of a suite's own options. Throws UsageError for anything else. */
export function parsedAs<const T extends ParseArgsOptionsConfig>(argv: readonly string[], options: T) {
  return asUsage(() => parseArgs({ args: [...argv], allowPositionals: false, options }).values);
}

/** The same with the words that belong to no option. */
export function parsedWithWords<const T extends ParseArgsOptionsConfig>(argv: readonly string[], options: T) {
  return asUsage(() => parseArgs({ args: [...argv], allowPositionals: true, options }));
}

function asUsage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** A whole number within bounds, null where it was not given. Throws UsageError. */
export function integer(name: string, text: string | undefined, min: number, max: number): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max)
    throw new UsageError(`${name} expects a whole number from ${min} to ${max}, got ${JSON.stringify(text)}`);
  return value;
}

/** What `--only` names, with commas between, in the order of `known`; all of them where it is not given. Throws UsageError. */
export function chosen<T extends string>(text: string | undefined, known: readonly T[]): readonly T[] {
  if (text === undefined) return known;
  const wanted = text.split(',');
  const foreign = wanted.find((word) => !known.some((one) => one === word));
  if (foreign !== undefined)
    throw new UsageError(`--only knows ${known.join(', ')}, got ${JSON.stringify(foreign)}`);
  return known.filter((one) => wanted.includes(one));
}
