import type { Priority } from '../contracts/names.ts';

/**
 * Two first-in-first-out rows. `take` serves `interactive` first and keeps `batchShare` of every take for `batch` while both
 * wait, spread evenly, so that neither starves and the order inside a take is already the order of placement (design [17]).
 */
export class PriorityQueue<T extends { readonly priority: Priority }> {
  readonly #rows: Record<Priority, T[]> = { interactive: [], batch: [] };
  readonly #batchShare: number;

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
    const kept = Math.min(batch.length, Math.ceil(wanted * this.#batchShare));
    const first = interactive.splice(0, wanted - kept);
    const second = batch.splice(0, wanted - first.length);
    return spread(first, second);
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

/** Spreads `few` evenly behind the first of `many`. */
function spread<T>(many: readonly T[], few: readonly T[]): T[] {
  if (few.length === 0) return [...many];
  const step = Math.max(1, Math.ceil(many.length / few.length));
  const out = few.flatMap((item, i) => [...many.slice(i * step, (i + 1) * step), item]);
  return [...out, ...many.slice(few.length * step)];
}
