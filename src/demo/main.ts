import { copyFileSync, createReadStream, mkdirSync, mkdtempSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { TollgateError } from '../errors.ts';
import { withStack } from '../stack/with-stack.ts';
import { PartError } from './child.ts';
import { RATE, scenarioOf } from './default-load.ts';
import { type DemoOptions, JOBS_DEFAULT, readOptions, USAGE } from './options.ts';
import { scenarioOfTrace } from './replay.ts';
import { runDemo } from './run.ts';
import type { Scenario } from './scenario.ts';
import { renderSummary } from './summary.ts';
import { readTrace, type TraceArrival } from './trace-file.ts';
import type { World } from './world.ts';

const LINGER_MS = 2_000;

/**
 * `npm run demo`: everything there is, once, for real. Read it as a story: the load is decided, with the end of every message;
 * the four servers are started; `run.ts` puts a Tollgate together, sends the load and compares; the summary says how it went.
 */
async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  if (options === null) {
    process.stdout.write(USAGE);
    return 0;
  }
  const arrivals = options.trace === null ? null : await arrivalsOf(options.trace, options.jobs);
  if (options.json !== null) await writeReport(options.json, '');
  const load = (world: World) => loadOf(world, options, arrivals);
  const report = await withStack(async (stack) => {
    const folder = join(stack.folder, 'demo');
    mkdirSync(folder, { mode: 0o700 });
    try {
      const found = await runDemo(stack, folder, load, originOf(options), process.stderr);
      if (!found.isGood) keepLogs(folder);
      return found;
    } catch (error) {
      if (!isInterrupted) keepLogs(folder);
      throw error;
    }
  });
  process.stdout.write(`\n${renderSummary(report)}\n`);
  if (options.json !== null) await writeReport(options.json, `${JSON.stringify(report, plain, 2)}\n`);
  return report.isGood ? 0 : 1;
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** The folder goes with the servers; whoever looks for a fault wants the logs that are in it. */
function keepLogs(folder: string): void {
  const kept = mkdtempSync(join(tmpdir(), 'tollgate-demo-logs-'));
  for (const file of readdirSync(folder))
    if (file.endsWith('.log')) copyFileSync(join(folder, file), join(kept, file));
  tell(`the logs of all parts are in ${kept}`);
}

function loadOf(
  world: World,
  { jobs, seed, speed }: DemoOptions,
  arrivals: readonly TraceArrival[] | null,
): Scenario {
  return arrivals === null
    ? scenarioOf(world, jobs ?? JOBS_DEFAULT, seed)
    : scenarioOfTrace(world, arrivals, speed, seed);
}

function originOf({ trace, speed, seed }: DemoOptions): string {
  return trace === null
    ? `seed ${seed}: ${RATE} jobs/s, and a tenth of all in one burst at a quarter of the time`
    : `${trace}, ${speed} times as fast`;
}

async function arrivalsOf(file: string, jobs: number | null): Promise<TraceArrival[]> {
  const stream = createReadStream(file);
  try {
    return await readTrace(createInterface({ input: stream }), jobs ?? undefined);
  } catch (error) {
    if (error instanceof TollgateError) throw error;
    throw new TollgateError('TG_CLI_USAGE', `--trace: cannot read ${file}`, { cause: error });
  } finally {
    stream.destroy();
  }
}

/** Written empty at the start too: a path that cannot be written is found before the work is done. */
async function writeReport(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text);
  } catch (error) {
    throw new TollgateError('TG_CLI_USAGE', `--json: cannot write ${file}`, { cause: error });
  }
}

/** Amounts are below 2^53 by the ledger's own bound, so a number loses nothing. */
function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

/** What a person can act on without the stack of calls; anything else is a fault of ours, with where it came from. */
function shown(error: unknown): string {
  if (error instanceof TollgateError || error instanceof PartError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

let isInterrupted = false;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(name, () => {
    isInterrupted = true;
  });
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`demo: ${shown(error)}\n`);
  process.exitCode = error instanceof TollgateError && error.code === 'TG_CLI_USAGE' ? 2 : 1;
}
// A driver's socket that is slow to close must not keep the shell waiting.
setTimeout(() => process.exit(), LINGER_MS).unref();
