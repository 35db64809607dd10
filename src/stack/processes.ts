import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * Processes as `/proc` shows them. A pid alone names nothing for long, since the kernel uses it again; a pid and its start
 * time name one process for good. Linux only, as all of `src/stack`.
 */
export interface Process {
  readonly pid: number;
  readonly ppid: number;
  /** Session: a server started in one of its own keeps its children there, unless they ask for another. */
  readonly sid: number;
  /** Clock ticks since boot, as text. */
  readonly startedAt: string;
}

/** The process of this pid as it is now; undefined when it is gone or has ended and only waits to be collected. */
export function processOf(pid: number): Process | undefined {
  const entry = entryOf(pid);
  return entry === undefined || entry.hasEnded ? undefined : entry;
}

/** True until its parent has collected it too, and the process list no longer shows it. */
export function isListed(process: Pick<Process, 'pid' | 'startedAt'>): boolean {
  return entryOf(process.pid)?.startedAt === process.startedAt;
}

function entryOf(pid: number): (Process & { readonly hasEnded: boolean }) | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name stands in parentheses and may hold anything, blanks and parentheses too. Source: proc(5).
    const [state = '', ppid, , sid, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return {
      pid,
      ppid: Number(ppid),
      sid: Number(sid),
      startedAt: rest[15] ?? '',
      hasEnded: state === 'Z' || state === 'X',
    };
  } catch {
    return undefined;
  }
}

/** True while this very process lives, not another of the same pid. */
export function isAlive(process: Pick<Process, 'pid' | 'startedAt'>): boolean {
  return processOf(process.pid)?.startedAt === process.startedAt;
}

/** All processes that live now. */
export function allProcesses(): readonly Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => processOf(Number(name)))
    .filter((found) => found !== undefined);
}

/**
 * Those of `roots` that live, all their descendants, everything in their sessions, and, where `folder` is given, every
 * process that works inside it: this finds what was orphaned when its parent died first.
 */
export function familyOf(
  roots: readonly Pick<Process, 'pid' | 'startedAt'>[],
  folder?: string,
): readonly Process[] {
  const all = allProcesses();
  const family = new Map<number, Process>();
  const alive = roots.filter(isAlive).map((root) => root.pid);
  for (const candidate of all) {
    const isRoot = alive.includes(candidate.pid) || alive.includes(candidate.sid);
    if (isRoot || (folder !== undefined && worksIn(candidate.pid, folder)))
      family.set(candidate.pid, candidate);
  }
  // One pass per generation.
  for (let before = -1; before !== family.size; ) {
    before = family.size;
    for (const candidate of all) if (family.has(candidate.ppid)) family.set(candidate.pid, candidate);
  }
  return [...family.values()];
}

/** Sends a signal to this very process; false when it is gone. */
export function signal(target: Pick<Process, 'pid' | 'startedAt'>, name: NodeJS.Signals): boolean {
  if (!isAlive(target)) return false;
  try {
    return process.kill(target.pid, name);
  } catch {
    return false;
  }
}

/**
 * Kills all that `find` finds. They are held first, until a look finds nobody new: a process that is being killed may start
 * another one meanwhile, which would then have no parent to be found by. Returns those it killed.
 */
export function killAll(find: () => readonly Process[]): readonly Process[] {
  const held = new Map<string, Process>();
  for (let before = -1; before !== held.size; ) {
    before = held.size;
    for (const found of find()) {
      const key = `${found.pid} ${found.startedAt}`;
      if (!held.has(key) && signal(found, 'SIGSTOP')) held.set(key, found);
    }
  }
  for (const found of held.values()) signal(found, 'SIGKILL');
  return [...held.values()];
}

function worksIn(pid: number, folder: string): boolean {
  try {
    const path = readlinkSync(`/proc/${pid}/cwd`);
    return path === folder || path.startsWith(`${folder}/`);
  } catch {
    // Gone, or of another user and not ours to look at.
    return false;
  }
}
