import { SERVER_NAMES } from '../../src/stack/binaries.ts';
import type { Stack } from '../../src/stack/stack.ts';
import type { Child } from '../process/child.ts';
import type { FleetMethods } from '../world/fleet.ts';
import type { Members } from './cpu.ts';
import { readMachine } from './machine.ts';
import type { Ground } from './runs.ts';

/** What the runs of a suite share: its processes, with those of `subjects` by their names, and the servers that are ours. */
export function groundOf(
  stack: Stack,
  fleet: Child<FleetMethods>,
  subjects: readonly { readonly name: string; readonly pid: number }[],
): Ground {
  const servers = serverProcesses(stack);
  const processes: Record<string, Members> = {
    ...Object.fromEntries(subjects.map(({ name, pid }) => [name, { pid }])),
    fleet: { pid: fleet.pid },
    client: { pid: process.pid },
    ...servers.processes,
  };
  const { cores } = readMachine();
  return { fleet, processes, hasAllServers: servers.isComplete, cores };
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
