import { writeFileSync } from 'node:fs';
import { stackEnvironment } from '../../src/stack/environment.ts';
import { withStack } from '../../src/stack/with-stack.ts';
import type { Teardown } from '../support/servers.ts';
import { type FuzzOptions, fuzzOptions, USAGE } from './arguments.ts';
import { findingOf, fuzzInProcess, Inputs, Target, type Verdict } from './in-process.ts';
import { fuzzReal, type RealReport } from './real.ts';
import { lineOf } from './report.ts';

/**
 * `npm run fuzz -- [--seed N] [--inputs N] [--real N] [--only I] [--json FILE]`: broken and forged messages for everything that reads
 * what strangers send. One line says what came of them; exits 1 if anything was not as it must be.
 */
async function run(options: FuzzOptions): Promise<number> {
  const inProcess = await fuzzInProcess(options.seed, options.inputs);
  const real = options.real === 0 ? null : await onServers((t) => fuzzReal(t, options.seed, options.real));
  const report = { inProcess, real };
  if (options.json !== null) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  for (const finding of inProcess.findings) process.stdout.write(`${JSON.stringify(finding)}\n`);
  for (const finding of real?.findings ?? []) process.stdout.write(`${finding}\n`);
  process.stdout.write(`${lineOf(report)}\n`);
  return inProcess.findings.length + (real?.findings.length ?? 0) === 0 ? 0 : 1;
}

/** Starts the servers, lets `work` have a place on them, and cleans up after it. */
function onServers(work: (t: Teardown) => Promise<RealReport>): Promise<RealReport> {
  return withStack(async (stack) => {
    Object.assign(process.env, stackEnvironment(stack.urls));
    const cleanUps: (() => unknown)[] = [];
    try {
      return await work({ after: (cleanUp) => cleanUps.push(cleanUp) });
    } finally {
      for (const cleanUp of cleanUps.toReversed()) await cleanUp();
    }
  });
}

/** Says what becomes of one input. */
async function showOne(seed: number, index: number): Promise<number> {
  const inputs = new Inputs(seed);
  const input = inputs.make(index);
  const verdict = await new Target(inputs.directory)
    .judge(input)
    .catch((error: unknown): Verdict => ({ kind: 'accepted', fault: String(error) }));
  const finding = findingOf(input, verdict);
  const { body, original, ...rest } = input;
  const shown = { ...rest, body: body.toString('latin1'), original, verdict, finding };
  process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
  return finding === null ? 0 : 1;
}

const argv = process.argv.slice(2);
if (argv.includes('--help') || argv.includes('-h')) {
  process.stdout.write(`${USAGE}\n`);
} else {
  let options: FuzzOptions | null = null;
  try {
    options = fuzzOptions(argv);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}\n`);
    process.exitCode = 2;
  }
  if (options !== null)
    process.exitCode = await (options.only === null ? run(options) : showOne(options.seed, options.only));
}
