import { SERVER_NAMES } from '../../src/stack/binaries.ts';
import { stackEnvironment } from '../../src/stack/environment.ts';
import type { Stack } from '../../src/stack/stack.ts';
import { withStack } from '../../src/stack/with-stack.ts';
import type { Teardown } from '../../test/support/servers.ts';
import type { Members } from '../measure/cpu.ts';
import { type Owner, ownerOf } from '../process/owner.ts';
import type { Findings } from '../report/findings.ts';

/** One question that the bench answers. */
export interface Suite {
  /** The question, in half a line. */
  readonly asks: string;
  readonly usage: string;
  /** Reads its own arguments; throws UsageError for a wrong one. `main.ts` reports what it found, and writes it for `--json`. */
  readonly run: (argv: readonly string[]) => Promise<Findings>;
}

/** What a suite works with. Everything made in it is undone, last first, when the suite ends. */
export interface Bench {
  readonly t: Teardown;
  readonly stack: Stack;
  readonly owner: Owner;
}

/** Runs `measure` on servers that are found, installed or started as for `npm test`. */
export function withBench<T>(measure: (bench: Bench) => Promise<T>): Promise<T> {
  return withStack(async (stack) => {
    Object.assign(process.env, stackEnvironment(stack.urls));
    const endings: (() => unknown)[] = [];
    try {
      return await measure({ t: { after: (end) => endings.push(end) }, stack, owner: ownerOf(stack) });
    } finally {
      for (const end of endings.toReversed()) await end();
    }
  });
}

/** The servers' processes, whose CPU is told apart; `isComplete`: all are ours, so that nothing that is used is unknown. */
export function serverProcesses(stack: Stack): {
  readonly processes: Readonly<Record<string, Members>>;
  readonly isComplete: boolean;
} {
  const own = stack.started;
  return {
    processes: Object.fromEntries(own.map((name) => [name, { folder: `${stack.folder}/${name}` }])),
    isComplete: own.length === SERVER_NAMES.length,
  };
}

/** Progress, a line at a time: standard output is the report's. */
export function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
