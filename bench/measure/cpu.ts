import { readFileSync } from 'node:fs';
import { familyOf, processOf } from '../../src/stack/processes.ts';

/** Kernel ticks per second in /proc; fixed by the kernel's interface on every architecture that Node 24 runs on. */
const TICKS_PER_S = 100;

/** Milliseconds of CPU, user and system, by process name. */
export type CpuMs = Readonly<Record<string, number>>;

/** CPU time of the whole machine, in milliseconds. `stolen`: taken by the hypervisor for others. */
export interface MachineCpu {
  readonly busyMs: number;
  readonly stolenMs: number;
}

/** Which processes belong to a name: one with what it started, or everything that works inside a folder. */
export type Members = { readonly pid: number } | { readonly folder: string };

/** CPU time used so far by each of `groups`, the children they have waited for included. */
export function readCpu(groups: Readonly<Record<string, Members>>): CpuMs {
  return Object.fromEntries(
    Object.entries(groups).map(([name, members]) => [
      name,
      pidsOf(members).reduce((sum, pid) => sum + cpuMs(pid), 0),
    ]),
  );
}

/** What was used between two readings. */
export function cpuBetween(before: CpuMs, after: CpuMs): CpuMs {
  return Object.fromEntries(Object.entries(after).map(([name, ms]) => [name, ms - (before[name] ?? 0)]));
}

/** All CPU time that this machine has spent so far. */
export function readMachineCpu(): MachineCpu {
  return machineCpuOf(readFileSync('/proc/stat', 'utf8'));
}

/** Reads the first line of /proc/stat: user nice system idle iowait irq softirq steal. Source: proc(5). */
export function machineCpuOf(stat: string): MachineCpu {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = stat
    .slice(0, stat.indexOf('\n'))
    .split(/\s+/)
    .slice(1)
    .map((ticks) => (Number(ticks) * 1_000) / TICKS_PER_S);
  return { busyMs: user + nice + system + irq + softirq, stolenMs: steal };
}

/** Reads a process's own and its collected children's time from the text of /proc/PID/stat. Source: proc(5). */
export function cpuMsOf(stat: string): number {
  // The name stands in parentheses and may hold anything, blanks and parentheses too.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return (ticks * 1_000) / TICKS_PER_S;
}

function pidsOf(members: Members): number[] {
  if ('folder' in members) return familyOf([], members.folder).map(({ pid }) => pid);
  const root = processOf(members.pid);
  return root === undefined ? [] : [root.pid];
}

function cpuMs(pid: number): number {
  try {
    return cpuMsOf(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return 0;
  }
}
