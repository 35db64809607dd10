/**
 * Work that was begun and has not ended, so that its number can be bounded and its end waited for. None of it may reject: whoever
 * begins it handles its failures.
 */
export class UnderWay {
  readonly #works = new Set<Promise<void>>();

  get size(): number {
    return this.#works.size;
  }

  /** Takes `work` in; calls `onEnd` once it no longer counts. */
  add(work: Promise<void>, onEnd?: () => void): void {
    const counted = work.finally(() => {
      this.#works.delete(counted);
      onEnd?.();
    });
    this.#works.add(counted);
  }

  /** Resolves when one of them has ended; at least one must be under way. */
  async next(): Promise<void> {
    await Promise.race(this.#works);
  }

  /** Resolves when fewer than `count` are under way. */
  async below(count: number): Promise<void> {
    while (this.#works.size >= count) await this.next();
  }

  /** Resolves when nothing is under way, whatever is begun meanwhile included. */
  async ended(): Promise<void> {
    while (this.#works.size > 0) await Promise.all(this.#works);
  }
}
