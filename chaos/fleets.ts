import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Child, type Nursery } from './child.ts';
import type { FleetInput } from './fleet.ts';

const RESTART_MS = 500;
const STOP_MS_MAX = 15_000;

/** One process of the fleet, started again whenever it ends: its workers come back as new sessions. */
export class Fleet {
  readonly logFile: string;
  readonly #input: FleetInput;
  readonly #nursery: Nursery;
  #child: Child<FleetInput, object>;
  #isWanted = true;

  constructor(index: number, input: FleetInput, nursery: Nursery) {
    this.#input = input;
    this.#nursery = nursery;
    this.logFile = join(nursery.folder, `fleet-${index}.log`);
    this.#child = this.#spawn();
  }

  ready(): Promise<void> {
    return this.#child.ready();
  }

  /** kill -9: its workers die in the middle of their jobs. */
  async kill(): Promise<void> {
    this.#child.signal('SIGKILL');
    await this.#child.ended;
  }

  /** All its workers stall, and go on. */
  async pause(ms: number): Promise<void> {
    const child = this.#child;
    child.signal('SIGSTOP');
    await sleep(ms);
    child.signal('SIGCONT');
  }

  async stop(): Promise<void> {
    this.#isWanted = false;
    await this.#child.stop(STOP_MS_MAX);
  }

  #spawn(): Child<FleetInput, object> {
    const child = new Child<FleetInput, object>(
      './fleet.ts',
      this.#input,
      this.logFile,
      this.#nursery,
      () => undefined,
    );
    void child.ended.then(() =>
      setTimeout(() => {
        if (this.#isWanted) this.#child = this.#spawn();
      }, RESTART_MS),
    );
    return child;
  }
}
