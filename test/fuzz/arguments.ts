import { parseArgs } from 'node:util';

/** What `npm run fuzz` was asked for. */
export interface FuzzOptions {
  readonly seed: number;
  /** Inputs handled in this process. */
  readonly inputs: number;
  /** Inputs sent to a real coordinator; 0: no server is started. */
  readonly real: number;
  /** Makes this one input of the seed again and says what comes of it; null: all of them. */
  readonly only: number | null;
  /** Where the report goes as JSON; null: nowhere. */
  readonly json: string | null;
}

/** Printed by `--help` and behind a wrong command line. */
export const USAGE = `usage: npm run fuzz -- [options]

  --seed N      the same seed makes the same inputs (default 1)
  --inputs N    inputs for admission, verification and fleet intake, in this process (default 100000)
  --real N      inputs sent to a real coordinator on real servers (default 2000; 0: none, and no server is needed)
  --only I      make input I of the seed again, and say what comes of it
  --json FILE   write the report as JSON`;

const INPUTS_MAX = 1_000_000_000;

/** Reads the command line. Throws an Error whose message says what is wrong with it. */
export function fuzzOptions(argv: readonly string[]): FuzzOptions {
  const { values } = parseArgs({
    args: [...argv],
    allowPositionals: false,
    options: {
      seed: { type: 'string', default: '1' },
      inputs: { type: 'string', default: '100000' },
      real: { type: 'string', default: '2000' },
      only: { type: 'string' },
      json: { type: 'string' },
    },
  });
  return {
    seed: whole('--seed', values.seed),
    inputs: whole('--inputs', values.inputs),
    real: whole('--real', values.real),
    only: values.only === undefined ? null : whole('--only', values.only),
    json: values.json ?? null,
  };
}

function whole(name: string, text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > INPUTS_MAX)
    throw new Error(`${name} expects a whole number up to ${INPUTS_MAX}, got ${JSON.stringify(text)}`);
  return value;
}
