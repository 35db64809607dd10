import { parseArgs } from 'node:util';
import { TollgateError } from '../src/errors.ts';

/** What was asked for. */
export interface ChaosOptions {
  /** Null: with `resume`, the one after the highest there; else 1. */
  readonly seed: number | null;
  readonly minutes: number;
  readonly jobsPerSecond: number;
  readonly everyMs: number;
  /** File for the report. */
  readonly json: string | null;
  /** Folder where reports of runs are kept and added up. */
  readonly resume: string | null;
  /** Keep the logs of all parts also when everything was good. */
  readonly isKept: boolean;
  /** Seeds one after the other until the counts of `REACH` are there. */
  readonly isFull: boolean;
  /** One coordinator is never ended, and its memory is judged. */
  readonly isSoak: boolean;
  /** Each coordinator has faults of its own, and so has all the rest, at the same time. */
  readonly isOverlapping: boolean;
  /** Runs of this call, with `isFull`; null: as many as it takes. */
  readonly runsMax: number | null;
}

/** How much `npm run chaos:full` does before it stops by itself. */
export const REACH = { kills: 2_000, killsAtPoints: 600, otherFaults: 1_000 } as const;

/** Where `chaos:full` keeps its runs unless it is told. */
const RUNS_FOLDER = 'chaos-runs';

/** Text of `--help`. */
export const USAGE = `npm run chaos [-- options]

Starts real PostgreSQL, Redis, RabbitMQ and MongoDB, coordinators, a fleet with workers that misbehave, and a load; kills and
damages them by a schedule that the seed decides; then holds everything against the logs of the load and of the workers.

  --seed N      another schedule (default 1; with --resume, the next)
  --minutes M   how long faults come, 0.1 to 600 (default 5)
  --rate N      jobs per second, 1 to 500 (default 30)
  --every S     mean seconds between two faults, 0.1 to 600 (default 2)
  --overlap     faults come at the same time: each of three coordinators has its own, and servers, links and workers have theirs,
                ten times more seldom; --every is 0.5 unless given
  --soak        one of two coordinators is never ended, and its memory must stay flat; --minutes is 60 and --every 20 unless given
  --json FILE   write the report there too
  --resume DIR  keep the report in DIR, and add up all that are there
  --keep        keep the logs of all parts, also when everything was good
  --full        seed after seed, with --overlap, until ${REACH.kills} kills, ${REACH.killsAtPoints} of them at failpoints, and ${REACH.otherFaults} other faults; in ${RUNS_FOLDER} unless
                --resume names another folder. It may be ended at any time and goes on where it was.
  --runs N      with --full: no more than so many runs now

Exit status: 0 if every column that must be zero is, else 1; 2 for wrong options; 130 after Ctrl-C.
`;

/** Reads the command line; null asks for help. Throws TG_CLI_USAGE. */
export function readOptions(args: readonly string[]): ChaosOptions | null {
  const values = parsed(args);
  if (values.help === true) return null;
  const isFull = values.full === true;
  const isSoak = values.soak === true;
  const isOverlapping = values.overlap === true || isFull;
  if (isSoak && isFull) usage('--soak is one long run, --full are many');
  if (isSoak && isOverlapping) usage('--soak spares one coordinator, --overlap strikes all');
  if (values.runs !== undefined && !isFull) usage('--runs is for --full');
  if (values.seed !== undefined && isFull) usage('--full chooses the seeds itself');
  return {
    seed: number('--seed', values.seed, 0, 4_294_967_295),
    minutes: number('--minutes', values.minutes, 0.1, 600) ?? (isSoak ? 60 : 5),
    jobsPerSecond: number('--rate', values.rate, 1, 500) ?? 30,
    everyMs: (number('--every', values.every, 0.1, 600) ?? defaultEveryS({ isSoak, isOverlapping })) * 1_000,
    json: values.json ?? null,
    resume: values.resume ?? (isFull ? RUNS_FOLDER : null),
    isKept: values.keep === true,
    isFull,
    isSoak,
    isOverlapping,
    runsMax: number('--runs', values.runs, 1, 100_000),
  };
}

function defaultEveryS({ isSoak, isOverlapping }: Pick<ChaosOptions, 'isSoak' | 'isOverlapping'>): number {
  if (isSoak) return 20;
  return isOverlapping ? 0.5 : 2;
}

function parsed(args: readonly string[]) {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const options = {
    seed: text,
    minutes: text,
    rate: text,
    every: text,
    json: text,
    resume: text,
    full: flag,
    soak: flag,
    overlap: flag,
    keep: flag,
    runs: text,
    help: { type: 'boolean', short: 'h' },
  } as const;
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
}

function number(option: string, text: string | undefined, min: number, max: number): number | null {
  if (text === undefined) return null;
  const value = /^\d{1,10}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max))
    usage(`${option} expects a number from ${min} to ${max}, got ${JSON.stringify(text)}`);
  return value;
}

function usage(message: string): never {
  throw new TollgateError('TG_CLI_USAGE', message);
}
