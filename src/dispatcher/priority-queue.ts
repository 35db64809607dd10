import type { Priority } from '../contracts/names.ts';

/**
 * Two first-in-first-out rows. `take` serves `interactive` first; while both wait, one place in `1 / batchShare` is for `batch`.
 * The order inside a take is the order of placement, and slots may be for its first jobs only: so the takes begin their count at
 * another place each, and `batch` has its share also where a single slot comes free at a time. Source: design [17].
 */
export class PriorityQueue<T extends { readonly priority: Priority }> {
  readonly #rows: Record<Priority, T[]> = { interactive: [], batch: [] };
  readonly #batchShare: number;
  /** Where the next take begins to count, while both wait. */
  #firstPlace = 0;

  constructor(batchShare: number) {
    this.#batchShare = batchShare;
  }

  get size(): number {
    return this.#rows.interactive.length + this.#rows.batch.length;
  }

  push(item: T): void {
    this.#rows[item.priority].push(item);
  }

  /** Puts items back in front, keeping their order. */
  putBack(items: readonly T[]): void {
    for (const priority of ['interactive', 'batch'] as const) {
      const back = items.filter((item) => item.priority === priority);
      if (back.length > 0) this.#rows[priority] = [...back, ...this.#rows[priority]];
    }
  }

  take(countMax: number): T[] {
    const { interactive, batch } = this.#rows;
    const wanted = Math.min(countMax, this.size);
    if (interactive.length === 0) return batch.splice(0, wanted);
    if (batch.length === 0) return interactive.splice(0, wanted);
    const taken: T[] = [];
    const from = { interactive: 0, batch: 0 };
    for (let place = this.#firstPlace++; taken.length < wanted; place++) {
      const isInteractiveOver = from.interactive === interactive.length;
      const isBatchOver = from.batch === batch.length;
      const priority =
        isInteractiveOver || (this.#isForBatch(place) && !isBatchOver) ? 'batch' : 'interactive';
      taken.push(...this.#rows[priority].slice(from[priority], ++from[priority]));
    }
    interactive.splice(0, from.interactive);
    batch.splice(0, from.batch);
    return taken;
  }

  /** True for one place in `1 / batchShare`, the last of each such row. */
  #isForBatch(place: number): boolean {
    return Math.floor((place + 1) * this.#batchShare) > Math.floor(place * this.#batchShare);
  }

  /** Removes and returns those that match, in order. */
  remove(isGone: (item: T) => boolean): T[] {
    const gone: T[] = [];
    for (const priority of ['interactive', 'batch'] as const) {
      this.#rows[priority] = this.#rows[priority].filter((item) => !isGone(item) || gone.push(item) === 0);
    }
    return gone;
  }
}
