import { stackEnvironment } from '../../src/stack/environment.ts';
import type { Stack } from '../../src/stack/stack.ts';
import { withStack } from '../../src/stack/with-stack.ts';
import type { Teardown } from '../../test/support/servers.ts';
import { UsageError } from '../arguments.ts';
import { BenchError } from '../bench-error.ts';
import { serverProcesses } from '../measure/ground.ts';
import { readMachine } from '../measure/machine.ts';
import { requireRoom } from '../measure/requirements.ts';
import { runAll } from '../process/endings.ts';
import { type Owner, ownerOf } from '../process/owner.ts';
import { explained, requireGiven, watchServers } from '../process/reachable.ts';
import type { Findings } from '../report/findings.ts';

/** One question that the bench answers. */
export interface Suite {
  /** The question, in half a line. */
  readonly asks: string;
  readonly usage: string;
  /** Reads its own arguments; throws UsageError for a wrong one. `main.ts` reports what it found, and writes it for `--json`. */
  readonly run: (argv: readonly string[]) => Promise<Findings>;
}

/** What a suite works with. What was made on servers that are not ours is undone, last first, when the suite ends. */
export interface Bench {
  readonly t: Teardown;
  readonly stack: Stack;
  readonly owner: Owner;
}

/** The first ones say enough. */
const WARNINGS_SHOWN = 5;
/** To take back what was made on servers that are not ours: a broker needs half a minute for a thousand queues. */
const UNDO_MS_MAX = 180_000;
/** After a failure: a server that is gone must not hold us up. */
const UNDO_FAILED_MS_MAX = 20_000;

/**
 * Runs `measure` on servers that are found, installed or started as for `npm test`. Throws BenchError, before anything is
 * started, where the machine is too small or a server that was named is not there; and at once when a server or a process of
 * the bench goes away in the middle. What was measured is never lost by what cannot be removed afterwards. Drivers may still try
 * to reach servers that have ended: the caller ends the process.
 */
export async function withBench<T>(measure: (bench: Bench) => Promise<T>): Promise<T> {
  requireRoom();
  await requireGiven(process.env);
  return withStack(async (stack, asked) => {
    const environment = stackEnvironment(stack.urls);
    Object.assign(process.env, environment);
    const failed = Promise.withResolvers<never>();
    const fail = (error: unknown): void => failed.reject(error);
    // A driver that loses its server may say so where nobody listens, and goes on doing so until we exit.
    process.on('uncaughtException', fail);
    const unwatch = watchServers(environment, fail);
    const endings: (() => unknown)[] = [];
    const bench = {
      t: { after: (end: () => unknown) => endings.push(end) },
      stack,
      owner: ownerOf(stack, asked, fail),
    };
    try {
      const found = await Promise.race([measure(bench), failed.promise]);
      unwatch();
      for (const reason of await undo(stack, endings, UNDO_MS_MAX)) tell(`left on the servers: ${reason}`);
      return found;
    } catch (error) {
      if (error instanceof UsageError) throw error;
      const reason = await explained(error, environment);
      await undo(stack, endings, UNDO_FAILED_MS_MAX);
      throw reason;
    } finally {
      unwatch();
    }
  });
}

/**
 * Takes back from given servers what was made on them, as far as they let us; servers of our own end with all that was made in
 * them. Takes `msMax` at most. Resolves to why something was left.
 */
async function undo(stack: Stack, endings: readonly (() => unknown)[], msMax: number): Promise<string[]> {
  return serverProcesses(stack).isComplete ? [] : await runAll(endings.toReversed(), msMax);
}

/** What every suite's findings begin with. */
export function headOf(
  suite: string,
  argv: readonly string[],
  startedAt: string,
): Pick<Findings, 'suite' | 'startedAt' | 'command' | 'machine'> {
  const command = [`npm run bench -- ${suite}`, ...argv].join(' ');
  return { suite, startedAt, command, machine: readMachine() };
}

/** Throws BenchError where a daemon said something with level `warn` or above: a batch handed back makes a run worthless. */
export function requireQuiet(warnings: readonly string[]): void {
  if (warnings.length === 0) return;
  throw new BenchError(
    `the daemon warned, so nothing is reported:\n${warnings.slice(0, WARNINGS_SHOWN).join('\n')}`,
  );
}

/** Progress, a line at a time: standard output is the report's. */
export function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
