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
  const processes: Record<string, Members> = {
    ...Object.fromEntries(subjects.map(({ name, pid }) => [name, { pid }])),
    fleet: { pid: fleet.pid },
    client: { pid: process.pid },
    ...Object.fromEntries(stack.started.map((name) => [name, { folder: `${stack.folder}/${name}` }])),
  };
  const { cores } = readMachine();
  return { fleet, processes, hasAllServers: stack.started.length === SERVER_NAMES.length, cores };
}
