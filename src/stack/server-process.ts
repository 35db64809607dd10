import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../clock.ts';
import { StoreError } from '../errors.ts';
import { type ServerName, SERVERS } from './binaries.ts';
import { type Command, type Keeper, tail } from './keeper.ts';
import { familyOf, killAll, type Process, processOf, signal } from './processes.ts';

/** How one server is run; made once, used at every start. */
export interface ServerPlan {
  readonly name: ServerName;
  /** Program and arguments with its port and data folder, the same each time. */
  readonly command: Command;
  readonly logFile: string;
  /** What ends it quickly with its data safe. */
  readonly fastSignal: 'SIGINT' | 'SIGTERM';
  /** True once it serves clients; an error means "not yet". */
  readonly isReady: () => Promise<boolean>;
}

const POLL_MS = 50;
const STOP_MS_MAX = 30_000;

/**
 * One server as a child process: stopped → running → stopped, on the same port and data each time; `pause` holds a running
 * one still, as a hung machine would. Calls are made one after the other, by one owner.
 */
export class ServerProcess {
  readonly #plan: ServerPlan;
  readonly #keeper: Keeper;
  #child: ChildProcess | undefined;
  #leader: Process | undefined;

  constructor(plan: ServerPlan, keeper: Keeper) {
    this.#plan = plan;
    this.#keeper = keeper;
  }

  /** Starts it and waits until it serves clients, at most `timeoutMs`. Throws StoreError with the end of its log. */
  async start(timeoutMs = 60_000): Promise<void> {
    const { name, command, logFile, isReady } = this.#plan;
    const child = this.#keeper.spawn(command, logFile);
    this.#child = child;
    this.#leader = child.pid === undefined ? undefined : processOf(child.pid);
    const endMs = systemClock.monotonicMs() + timeoutMs;
    let reason = `was not ready within ${timeoutMs} ms`;
    while (systemClock.monotonicMs() < endMs) {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
        reason = `ended while starting (${child.signalCode ?? child.exitCode ?? 'not started'})`;
        break;
      }
      if (await isReady().catch(() => false)) return;
      await sleep(POLL_MS);
    }
    killAll(() => this.#family());
    throw new StoreError(name, `${SERVERS[name].title} ${reason}\n${tail(logFile)}`);
  }

  /** `fast`: the server's own quick shutdown, data safe; `kill`: SIGKILL to all its processes. Waits until it is gone. */
  async stop(how: 'fast' | 'kill'): Promise<void> {
    const leader = this.#leader;
    if (leader === undefined) return;
    const family = this.#family();
    if (how === 'kill') killAll(() => this.#family());
    else signal(leader, this.#plan.fastSignal);
    this.resume();
    const endMs = systemClock.monotonicMs() + STOP_MS_MAX;
    while (this.#isRunning() || familyOf(family).length > 0) {
      if (systemClock.monotonicMs() > endMs) {
        killAll(() => familyOf(family));
        if (!this.#isRunning()) break;
      }
      await sleep(POLL_MS / 5);
    }
    this.#leader = undefined;
  }

  /** Holds all its processes still. Connections stay open and nobody answers. */
  pause(): void {
    for (const member of this.#family()) signal(member, 'SIGSTOP');
  }

  /** Lets them go on. */
  resume(): void {
    for (const member of this.#family()) signal(member, 'SIGCONT');
  }

  #isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  #family(): readonly Process[] {
    return this.#leader === undefined ? [] : familyOf([this.#leader]);
  }
}
