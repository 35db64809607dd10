import { readFileSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { familyOf, isAlive, isListed, killAll, type Process, signal } from './processes.ts';

/**
 * The reaper: a process of its own, in a session of its own, that ends a stack when its owner does, however that ends. It is
 * told on its standard input which processes belong to the stack; the owner holds the other end of that pipe. When the pipe
 * closes, because the owner said so or because it was killed, the reaper ends them all, removes the folder and exits.
 * Run as: node reaper.ts <folder>, then one JSON line per process: {"pid", "startedAt", "lastSignal"}.
 */
interface Ward extends Pick<Process, 'pid' | 'startedAt'> {
  /** SIGQUIT gives PostgreSQL the moment it needs to free its shared memory; the others lose nothing by SIGKILL. */
  readonly lastSignal: NodeJS.Signals;
}

const QUIT_MS_MAX = 5_000;
const KILL_MS_MAX = 10_000;
const COLLECT_MS_MAX = 2_000;

const folder = process.argv[2];
if (folder === undefined) throw new Error('usage: reaper <folder>');

// Whoever signals a whole group means the owner; the reaper learns of its end by the pipe.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => {});

const wards: Ward[] = [];
for await (const line of createInterface({ input: process.stdin })) {
  const ward: Ward = JSON.parse(line);
  wards.push(ward);
}

for (const ward of wards.filter(({ lastSignal }) => lastSignal !== 'SIGKILL')) {
  signal(ward, ward.lastSignal);
  for (const member of familyOf([ward])) signal(member, 'SIGCONT');
}
const killed = [...killAll(() => familyOfWards('SIGKILL'))];
await gone(() => wards.filter(isAlive), QUIT_MS_MAX);
killed.push(...killAll(() => familyOfWards()));
await gone(() => familyOfWards(), KILL_MS_MAX);
rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
// Orphans stay in the process list until the first process of the machine collects them.
await gone(() => killed.filter(isListed), COLLECT_MS_MAX);

/** The wards with that last signal, or all wards and every orphan in the folder, with their families. */
function familyOfWards(lastSignal?: NodeJS.Signals): readonly Process[] {
  const family =
    lastSignal === undefined
      ? familyOf(wards, folder)
      : familyOf(wards.filter((ward) => ward.lastSignal === lastSignal));
  return family.filter(({ pid }) => !isReaper(pid));
}

/** This one, and those of stacks that a ward started: each ends its own stack and removes its own folder. */
function isReaper(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')[1] === process.argv[1];
  } catch {
    return false;
  }
}

async function gone(find: () => readonly unknown[], atMostMs: number): Promise<void> {
  for (let waitedMs = 0; waitedMs < atMostMs && find().length > 0; waitedMs += 20) await sleep(20);
}
