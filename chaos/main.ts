import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TollgateError } from '../src/errors.ts';
import { withStack } from '../src/stack/with-stack.ts';
import { type ChaosOptions, REACH, readOptions, USAGE } from './options.ts';
import { lineOf, lineOfTotal, type RunReport, totalOf } from './report.ts';
import { runChaos } from './run.ts';
import { RunsFolder } from './runs-folder.ts';

const LINGER_MS = 2_000;

/** `npm run chaos`: one seed, or with `--full` one after the other; the report is one JSON and one line. */
async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  if (options === null) {
    process.stdout.write(USAGE);
    return 0;
  }
  const folder = options.resume === null ? null : new RunsFolder(options.resume);
  const first = options.seed ?? folder?.nextSeed() ?? 1;
  let report: RunReport | null = null;
  for (let run = 0; isWanted(options, folder, run); run++) {
    report = await runSeed(first + run, options);
    folder?.add(report);
    process.stdout.write(`${lineOf(report)}\n`);
    for (const example of report.verdict.examples) tell(`  ${example}`);
    for (const { how, log } of report.crashes) tell(`  a coordinator ended with ${how}:\n${log}`);
  }
  if (folder === null) {
    if (report !== null) writeJson(options.json, report);
    return report?.isGood === false ? 1 : 0;
  }
  const total = totalOf(folder.read());
  writeJson(options.json, total);
  process.stdout.write(`${lineOfTotal(total)}\n`);
  return total.isGood ? 0 : 1;
}

/** True while another run is to be done: `run` have been done by this call. */
function isWanted({ isFull, runsMax }: ChaosOptions, folder: RunsFolder | null, run: number): boolean {
  if (!isFull || folder === null) return run === 0;
  if (runsMax !== null && run >= runsMax) return false;
  const { kills, killsAtPoints, otherFaults } = totalOf(folder.read());
  return kills < REACH.kills || killsAtPoints < REACH.killsAtPoints || otherFaults < REACH.otherFaults;
}

/** One run on servers of its own: what a fault did to a server ends with it. */
async function runSeed(seed: number, options: ChaosOptions): Promise<RunReport> {
  tell(`seed ${seed}, ${options.minutes} minutes`);
  return await withStack(
    async (stack) => {
      const folder = join(stack.folder, 'chaos');
      try {
        const report = await runChaos(stack, folder, { ...options, seed }, tell);
        if (!report.isGood || options.isKept) keep(folder, seed, report);
        return report;
      } catch (error) {
        keep(folder, seed, null);
        throw error;
      }
    },
    // A server that is somebody else's must not be killed.
    { environment: {} },
  );
}

/** The folder goes with the servers; whoever looks for a fault wants the logs that are in it. */
function keep(folder: string, seed: number, report: RunReport | null): void {
  const kept = mkdtempSync(join(tmpdir(), `tollgate-chaos-${seed}-`));
  cpSync(folder, kept, { recursive: true });
  if (report !== null) writeFileSync(join(kept, 'report.json'), JSON.stringify(report, null, 2));
  tell(`the logs of all parts are in ${kept}`);
}

function writeJson(file: string | null, report: object): void {
  if (file !== null) writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** What a person can act on without the stack of calls; anything else is a fault of ours, with where it came from. */
function shown(error: unknown): string {
  if (error instanceof TollgateError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`chaos: ${shown(error)}\n`);
  process.exitCode = error instanceof TollgateError && error.code === 'TG_CLI_USAGE' ? 2 : 1;
}
// A driver's socket that is slow to close must not keep the shell waiting.
setTimeout(() => process.exit(), LINGER_MS).unref();
