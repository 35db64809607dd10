import { setTimeout as sleep } from 'node:timers/promises';
import type { JobMessage } from '../../src/contracts/job.ts';
import type { TestClient } from './client.ts';

/** A client's patience with a broker that is away, in milliseconds. */
const RESEND_MS = 200;

/**
 * Sends jobs at a fixed rate, whatever becomes of them, as a good client does: a publish that was not confirmed is sent again
 * with the same id. `submitted` is the generator's own log: the ids that the broker has confirmed.
 */
export class SteadyLoad {
  readonly submitted = new Set<string>();
  readonly #client: TestClient;
  readonly #makeJob: () => JobMessage;
  readonly #sending = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;

  constructor(client: TestClient, jobsPerSecond: number, makeJob: () => JobMessage) {
    this.#client = client;
    this.#makeJob = makeJob;
    this.#timer = setInterval(() => this.#begin(), 1_000 / jobsPerSecond);
  }

  /** Sends no new job; resolves when every job that was begun has been confirmed. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    while (this.#sending.size > 0) await Promise.all(this.#sending);
  }

  /** Sends `count` jobs besides, at once. */
  burst(count: number): void {
    for (let i = 0; i < count; i++) this.#begin();
  }

  /** Ids that have no reply yet. */
  get unanswered(): string[] {
    const answered = new Set(this.#client.replies.map(({ message }) => message.job));
    return [...this.submitted].filter((id) => !answered.has(id));
  }

  #begin(): void {
    const sending = this.#send(this.#makeJob()).finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  async #send(job: JobMessage): Promise<void> {
    while ((await this.#client.send(job)) !== 'confirmed') await sleep(RESEND_MS);
    this.submitted.add(job.id);
  }
}
