/** How much a worker remembers of what it has answered. */
export interface RecentBounds {
  readonly resultsMax: number;
  readonly bytesMax: number;
}

/**
 * The results that were confirmed lately, as they were sent, so that a dispatch that comes again is answered with the same
 * bytes and not run again. Keys are `<job>.<attempt>`. The oldest go first; one that is too large alone is not kept.
 */
export class RecentResults {
  readonly #bounds: RecentBounds;
  readonly #bodies = new Map<string, Buffer>();
  #bytes = 0;

  constructor(bounds: RecentBounds) {
    this.#bounds = bounds;
  }

  get(key: string): Buffer | undefined {
    return this.#bodies.get(key);
  }

  add(key: string, body: Buffer): void {
    if (this.#bodies.has(key)) return;
    this.#bodies.set(key, body);
    this.#bytes += body.length;
    for (const [oldest, { length }] of this.#bodies) {
      if (this.#bodies.size <= this.#bounds.resultsMax && this.#bytes <= this.#bounds.bytesMax) return;
      this.#bodies.delete(oldest);
      this.#bytes -= length;
    }
  }
}
