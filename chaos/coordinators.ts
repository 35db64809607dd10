import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Child, type Nursery } from './child.ts';
import type { DaemonInput, DaemonOrder, DaemonWord } from './daemon.ts';
import type { Armed } from './failpoints.ts';

/** As systemd would with `RestartSec=100ms`. */
const RESTART_MS = 100;
/** A drain may take `line.drainMs` and the grace of the stop. */
const DRAIN_MS_MAX = 40_000;
const START_MS_MAX = 90_000;
/** A failpoint that was disarmed may have been under way. */
const DISARM_MS = 1_000;

/** A coordinator that ended by itself while it served: nothing of a run may do that. */
export interface Crash {
  readonly coordinator: number;
  readonly how: string;
  readonly log: string;
}

/** One coordinator, started again whenever it ends, as a service manager does. */
export class Coordinator {
  readonly index: number;
  readonly logFile: string;
  readonly crashes: Crash[] = [];
  /** Starts that ended before it served: a server was away just then. */
  failedStarts = 0;
  /** Its resident memory whenever it was looked at, in MiB. */
  readonly residentMiB: number[] = [];
  readonly #flags: Readonly<Record<string, string>>;
  readonly #nursery: Nursery;
  #child: Child<DaemonInput, DaemonWord> | null = null;
  #isServing = false;
  #isWanted = true;
  /** Its end was ordered, or a kill waits inside it. */
  #isEndExpected = false;
  /** Counts what was ordered, so that an order which is over takes back its own expectation and no later one's. */
  #orders = 0;
  #running: Promise<void> = Promise.resolve();
  #onFired: ((armed: Armed) => void) | null = null;

  constructor(index: number, flags: Readonly<Record<string, string>>, nursery: Nursery) {
    this.index = index;
    this.#flags = flags;
    this.#nursery = nursery;
    this.logFile = join(nursery.folder, `coordinator-${index}.log`);
  }

  get isServing(): boolean {
    return this.#isServing;
  }

  /** Starts it, and starts it again for as long as it is wanted. Resolves when it serves. */
  async start(): Promise<void> {
    this.#running = this.#keep();
    // Heard by `stop`. When a run is ended by Ctrl-C its folder goes first, and nobody is left to hear it.
    this.#running.catch(() => undefined);
    await this.serving();
  }

  /** Resolves when it serves. Rejects when it does not come up in time. */
  async serving(): Promise<void> {
    if (!(await this.servesWithin(START_MS_MAX)))
      throw new Error(`coordinator ${this.index} does not come up: ${this.#tail()}`);
  }

  /** Waits until it serves, at most `msMax`. False if it does not. */
  async servesWithin(msMax: number): Promise<boolean> {
    const endMs = performance.now() + msMax;
    while (!this.#isServing && performance.now() < endMs) await sleep(20);
    return this.#isServing;
  }

  /** kill -9, now. Resolves when it is dead; it comes back by itself. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#expectEnd(true);
    child.signal('SIGKILL');
    await child.ended;
  }

  /** SIGTERM. Resolves when it has drained and ended, true if it ended well. */
  async drain(): Promise<boolean> {
    const child = this.#child;
    if (child === null) return true;
    this.#expectEnd(true);
    const { code } = await child.stop(DRAIN_MS_MAX);
    return code === 0;
  }

  /** SIGSTOP for `ms` milliseconds, then SIGCONT. */
  async pause(ms: number): Promise<void> {
    const child = this.#child;
    child?.signal('SIGSTOP');
    await sleep(ms);
    child?.signal('SIGCONT');
  }

  order(order: DaemonOrder): void {
    this.#child?.tell(order);
  }

  /** Arms a failpoint, as soon as it serves, and waits until it went off, at most `msMax` each; then it is disarmed. True if it went off. */
  async trigger(armed: Armed, msMax: number): Promise<boolean> {
    const isServing = await this.servesWithin(msMax);
    const child = this.#child;
    if (child === null || !isServing) return false;
    const fired = Promise.withResolvers<boolean>();
    const isKill = armed.action === 'kill';
    this.#onFired = () => fired.resolve(true);
    const order = this.#expectEnd(isKill);
    this.order({ kind: 'arm', armed });
    const died = child.ended.then(({ signal }) => isKill && signal === 'SIGKILL');
    const hasFired = await Promise.race([fired.promise, died, sleep(msMax, false, { ref: false })]);
    this.#onFired = null;
    if (!hasFired) this.order({ kind: 'arm', armed: null });
    // A kill that was under way when it was disarmed is still ours.
    if (!hasFired) setTimeout(() => this.#takeBack(order, child), DISARM_MS).unref();
    return hasFired;
  }

  #expectEnd(isExpected: boolean): number {
    this.#isEndExpected = isExpected;
    this.#orders += 1;
    return this.#orders;
  }

  #takeBack(order: number, child: Child<DaemonInput, DaemonWord>): void {
    if (order === this.#orders && this.#child === child) this.#isEndExpected = false;
  }

  /** Drains it for good. True if it ended well. */
  async stop(): Promise<boolean> {
    this.#isWanted = false;
    const isGood = await this.drain();
    await this.#running;
    return isGood;
  }

  /** Reads its resident memory. */
  sampleMemory(): void {
    const pid = this.#child?.pid;
    if (pid === undefined || !this.#isServing) return;
    try {
      const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      this.residentMiB.push(Math.round(Number(kib ?? 0) / 1_024));
    } catch {
      // It has just ended.
    }
  }

  async #keep(): Promise<void> {
    while (this.#isWanted) {
      this.#isEndExpected = false;
      const child = new Child<DaemonInput, DaemonWord>(
        './daemon.ts',
        { flags: this.#flags, armed: null },
        this.logFile,
        this.#nursery,
        (word) => {
          if (word.kind === 'serving') this.#isServing = true;
          else this.#onFired?.(word.armed);
        },
      );
      this.#child = child;
      const end = await child.ended;
      if (!this.#isServing && !this.#isEndExpected) this.failedStarts += 1;
      else if (!this.#isEndExpected)
        this.crashes.push({
          coordinator: this.index,
          how: `exit ${end.code ?? end.signal}`,
          log: this.#tail(),
        });
      this.#isServing = false;
      if (this.#isWanted) await sleep(RESTART_MS);
    }
  }

  #tail(): string {
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-8).join('\n');
  }
}
