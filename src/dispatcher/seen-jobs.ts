import type { Clock } from '../clock.ts';
import type { Priority } from '../contracts/names.ts';

/** Jobs remembered; the oldest go first. About 2 MB when full. */
const SEEN_MAX = 10_000;

interface Seen {
  readonly pool: string;
  readonly priority: Priority;
  readonly atMs: number;
}

/**
 * Jobs that went back to their queue because nobody had a slot, and when: RabbitMQ finds no message by its id, so without this
 * nobody could say what such a job waits for. Only for explaining; nothing is decided by it.
 */
export class SeenJobs {
  readonly #clock: Clock;
  readonly #seen = new Map<string, Seen>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A job goes back to the queue of `pool` now. */
  note(jobId: string | null, pool: string, priority: Priority): void {
    if (jobId === null) return;
    this.#seen.delete(jobId);
    this.#seen.set(jobId, { pool, priority, atMs: this.#clock.monotonicMs() });
    if (this.#seen.size <= SEEN_MAX) return;
    const [oldest] = this.#seen.keys();
    if (oldest !== undefined) this.#seen.delete(oldest);
  }

  /** The pool that the job was last handed back to, and how long ago in milliseconds. */
  find(jobId: string): { readonly pool: string; readonly priority: Priority; readonly agoMs: number } | null {
    const seen = this.#seen.get(jobId);
    if (seen === undefined) return null;
    const { pool, priority, atMs } = seen;
    return { pool, priority, agoMs: Math.round(this.#clock.monotonicMs() - atMs) };
  }
}
