import { parseArgs } from 'node:util';
import { TollgateError } from '../errors.ts';
import { JOBS_MAX, JOBS_MIN } from './default-load.ts';
import { ARRIVALS_MAX } from './trace-file.ts';

/** What was asked for. */
export interface DemoOptions {
  /** Jobs of the default load, or most arrivals of a trace; null: `JOBS_DEFAULT`, or all. */
  readonly jobs: number | null;
  readonly seed: number;
  /** File for the report. */
  readonly json: string | null;
  /** A recorded load to replay instead of the default one. */
  readonly trace: string | null;
  /** How many times faster than it was recorded. */
  readonly speed: number;
}

/** The default load. */
export const JOBS_DEFAULT = 2_100;

const SPEED_MAX = 100_000;
const SEED_MAX = 4_294_967_295;

/** Text of `--help`. */
export const USAGE = `npm run demo [-- options]

Starts real PostgreSQL, Redis, RabbitMQ and MongoDB, one coordinator, eight workers and a small model server, sends a load
whose every end is written down beforehand, and compares.

  --jobs N      jobs to send, ${JOBS_MIN} to ${JOBS_MAX} (default ${JOBS_DEFAULT}); of a trace, at most so many
  --seed N      another load; the same seed sends the same
  --trace FILE  replay a CSV with TIMESTAMP,ContextTokens,GeneratedTokens, as bench/data has one
  --speed N     replay it N times faster (default 1)
  --json FILE   write the report there too

Exit status: 0 if everything ended as predicted and the audit is clean, else 1; 2 for wrong options; 130 after Ctrl-C.
`;

function usage(message: string): never {
  throw new TollgateError('TG_CLI_USAGE', message);
}

/** Reads the command line; null asks for help. Throws TG_CLI_USAGE. */
export function readOptions(args: readonly string[]): DemoOptions | null {
  const values = parsed(args);
  if (values.help === true) return null;
  const trace = values.trace ?? null;
  if (trace === null && values.speed !== undefined) usage('--speed is for --trace');
  const [jobsMin, jobsMax] = trace === null ? [JOBS_MIN, JOBS_MAX] : [1, ARRIVALS_MAX];
  return {
    jobs: values.jobs === undefined ? null : number('--jobs', values.jobs, jobsMin, jobsMax),
    seed: values.seed === undefined ? 1 : number('--seed', values.seed, 0, SEED_MAX),
    json: values.json ?? null,
    trace,
    speed: values.speed === undefined ? 1 : number('--speed', values.speed, 1, SPEED_MAX),
  };
}

function parsed(args: readonly string[]) {
  const text = { type: 'string' } as const;
  const options = {
    jobs: text,
    seed: text,
    json: text,
    trace: text,
    speed: text,
    help: { type: 'boolean', short: 'h' },
  } as const;
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
}

function number(option: string, text: string, min: number, max: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max))
    usage(`${option} expects a whole number from ${min} to ${max}, got ${JSON.stringify(text)}`);
  return value;
}
