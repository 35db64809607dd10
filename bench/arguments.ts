import { parseArgs } from 'node:util';

/** A wrong command line; `main.ts` prints the message and exits with status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The parts of the suite that can be run alone. */
export const PARTS = ['dispatch', 'life', 'latency'] as const;
export type Part = (typeof PARTS)[number];

/** What `npm run bench -- hotpath` was asked for. */
export interface HotpathOptions {
  /** Where the raw runs and the figures go as JSON; null: nowhere. */
  readonly json: string | null;
  /** How often each subject runs. */
  readonly pairs: number;
  /** Backlog of one saturated dispatch run; the other sizes follow from it. */
  readonly jobs: number;
  /** Length of one latency run, in seconds. */
  readonly latencyS: number;
  readonly parts: readonly Part[];
  /** Folder for CPU profiles of the daemon, one per saturated run; null: none. */
  readonly profile: string | null;
}

export const HOTPATH_USAGE = `usage: npm run bench -- hotpath [options]

  --json FILE     write raw runs, figures, settings and machine as JSON
  --pairs N       runs of each subject, 1 to 50 (default 5)
  --jobs N        backlog of a saturated dispatch run, 200 to 200000 (default 20000)
  --quick         one pair, small backlogs: at most 2 minutes, too few runs for a range
  --only PARTS    some of ${PARTS.join(', ')}, with commas between
  --profile DIR   write CPU profiles of the daemon there and show where its time goes`;

const DEFAULT = { pairs: 5, jobs: 20_000, latencyS: 6 };
const QUICK = { pairs: 1, jobs: 8_000, latencyS: 4 };

/** Reads the options of the suite. Throws UsageError. */
export function hotpathOptions(argv: readonly string[]): HotpathOptions {
  const { values } = parsed(argv);
  const base = values.quick ? QUICK : DEFAULT;
  return {
    json: values.json ?? null,
    pairs: integer('--pairs', values.pairs, 1, 50) ?? base.pairs,
    jobs: integer('--jobs', values.jobs, 200, 200_000) ?? base.jobs,
    latencyS: base.latencyS,
    parts: values.only === undefined ? PARTS : partsOf(values.only),
    profile: values.profile ?? null,
  };
}

/** What `npm run bench -- flood` was asked for. */
export interface FloodOptions {
  readonly json: string | null;
  /** How often each flood rate runs. */
  readonly pairs: number;
  /** Length of one run. */
  readonly seconds: number;
}

export const FLOOD_USAGE = `usage: npm run bench -- flood [options]

  --json FILE     write raw runs and machine as JSON
  --pairs N       runs at each flood rate, 2 to 50 (default 5)
  --seconds N     length of one run, 1 to 120 (default 6)`;

/** Reads the options of the suite. Throws UsageError. */
export function floodOptions(argv: readonly string[]): FloodOptions {
  const { values } = parsed(argv);
  return {
    json: values.json ?? null,
    pairs: integer('--pairs', values.pairs, 2, 50) ?? DEFAULT.pairs,
    seconds: integer('--seconds', values.seconds, 1, 120) ?? DEFAULT.latencyS,
  };
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: false,
      options: {
        json: { type: 'string' },
        pairs: { type: 'string' },
        jobs: { type: 'string' },
        quick: { type: 'boolean' },
        only: { type: 'string' },
        seconds: { type: 'string' },
        profile: { type: 'string' },
      },
    });
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

/** Parts with commas between, in their own order. Throws UsageError. */
export function partsOf(text: string): Part[] {
  const wanted = text.split(',');
  const foreign = wanted.find((word) => !PARTS.some((part) => part === word));
  if (foreign !== undefined)
    throw new UsageError(`--only knows ${PARTS.join(', ')}, got ${JSON.stringify(foreign)}`);
  return PARTS.filter((part) => wanted.includes(part));
}
