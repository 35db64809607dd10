import { setTimeout as sleep } from 'node:timers/promises';
import { makeJobs } from './jobs.ts';
import type { Client } from './load.ts';

/** Published and not answered: enough that nobody waits for the client, and no more than a second's jobs. */
const AHEAD_JOBS = 4_000;
const CHUNK = 500;
const LOOK_MS = 2;

/** Publishes whatever comes back, so that the backlog neither runs dry nor grows. Counts on the client's replies alone. */
export class Pump {
  readonly #client: Client;
  #sent = 0;
  #isOn = true;
  readonly #ended: Promise<void>;

  constructor(client: Client) {
    this.#client = client;
    client.expectReplies(Number.POSITIVE_INFINITY);
    this.#ended = this.#run();
    // A failure is told by `stop`.
    this.#ended.catch(() => undefined);
  }

  /** Jobs published so far. */
  get sent(): number {
    return this.#sent;
  }

  /** Stops publishing; rejects where the broker did not take a job. */
  async stop(): Promise<void> {
    this.#isOn = false;
    await this.#ended;
  }

  async #run(): Promise<void> {
    while (this.#isOn) {
      const open = this.#sent - this.#client.replies.count;
      if (open > AHEAD_JOBS - CHUNK) {
        await sleep(LOOK_MS);
        continue;
      }
      const first = this.#sent;
      this.#sent += CHUNK;
      await this.#client.publish(makeJobs(CHUNK, {}, first));
    }
  }
}
