/**
 * The ends of batches that need no place among the batches in flight: replies, traces and acknowledgements, which wait for
 * RabbitMQ and MongoDB while the next batch already reserves and locks. At most `endsMax` run at a time, so that a slow MongoDB
 * still slows the intake down instead of piling batches up.
 */
export class BatchEnds {
  readonly #endsMax: number;
  readonly #running = new Set<Promise<void>>();

  constructor(endsMax: number) {
    this.#endsMax = endsMax;
  }

  /** Takes over `end`, which handles its own failures; resolves when there is room for another. */
  async take(end: Promise<void>): Promise<void> {
    const running = end.finally(() => this.#running.delete(running));
    this.#running.add(running);
    while (this.#running.size >= this.#endsMax) await Promise.race(this.#running);
  }

  /** Resolves when all have ended. */
  async close(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
