import { PRIORITIES, type Priority } from '../contracts/names.ts';
import { FairRow } from './fair-row.ts';

/**
 * Two rows, in each of which owners are served in turn and the items of one owner first in, first out. `take` serves `interactive`
 * first; while both wait, one place in `1 / batchShare` is for `batch`. The order inside a take is the order of placement, and slots
 * may be for its first jobs only: what is put back gives its places back, too, so that `batch` has its share of what was placed,
 * however many slots come free at a time. Source: design [17].
 */
export class PriorityQueue<T extends { readonly priority: Priority }> {
  readonly #rows: Record<Priority, FairRow<T>>;
  readonly #batchShare: number;
  /** Where the next take begins to count: at how many were taken and not put back. */
  #nextPlace = 0;

  constructor(batchShare: number, ownerOf: (item: T) => string) {
    this.#batchShare = batchShare;
    this.#rows = { interactive: new FairRow(ownerOf), batch: new FairRow(ownerOf) };
  }

  get size(): number {
    return this.#rows.interactive.size + this.#rows.batch.size;
  }

  push(item: T): void {
    this.#rows[item.priority].push(item);
  }

  /** An item passes by without waiting here. Should it be put back, its owner's turn counts from now. */
  note(item: T): void {
    this.#rows[item.priority].note(item);
  }

  /** Puts items back in front, keeping their order, and gives their places and their owners' turns back. */
  putBack(items: readonly T[]): void {
    this.#putInFront(items, (row, own) => row.putBack(own));
  }

  /** Puts in front, in their order, items that were taken here before and whose turns somebody else has kept since. */
  pushFirst(items: readonly T[]): void {
    this.#putInFront(items, (row, own) => row.pushFirst(own));
  }

  take(countMax: number): T[] {
    const { interactive, batch } = this.#rows;
    const wanted = Math.min(countMax, this.size);
    const firstPlace = this.#nextPlace;
    this.#nextPlace += wanted;
    if (interactive.size === 0) return batch.take(wanted);
    if (batch.size === 0) return interactive.take(wanted);
    const places = this.#places(firstPlace, wanted);
    const items = {
      interactive: interactive.take(places.filter((priority) => priority === 'interactive').length),
      batch: batch.take(places.filter((priority) => priority === 'batch').length),
    };
    const from = { interactive: 0, batch: 0 };
    return places.flatMap((priority) => items[priority].slice(from[priority], ++from[priority]));
  }

  /** Removes and returns those that match, interactive first. */
  remove(isGone: (item: T) => boolean): T[] {
    return [...this.#rows.interactive.remove(isGone), ...this.#rows.batch.remove(isGone)];
  }

  #putInFront(items: readonly T[], into: (row: FairRow<T>, own: readonly T[]) => void): void {
    this.#nextPlace = Math.max(0, this.#nextPlace - items.length);
    for (const priority of PRIORITIES)
      into(
        this.#rows[priority],
        items.filter((item) => item.priority === priority),
      );
  }

  /** Whose each of `wanted` places is, while both wait. */
  #places(firstPlace: number, wanted: number): Priority[] {
    const left = { interactive: this.#rows.interactive.size, batch: this.#rows.batch.size };
    const places: Priority[] = [];
    for (let place = firstPlace; places.length < wanted; place++) {
      const isForBatch = left.interactive === 0 || (this.#isForBatch(place) && left.batch > 0);
      const priority = isForBatch ? 'batch' : 'interactive';
      left[priority] -= 1;
      places.push(priority);
    }
    return places;
  }

  /** True for one place in `1 / batchShare`, the last of each such row. */
  #isForBatch(place: number): boolean {
    return Math.floor((place + 1) * this.#batchShare) > Math.floor(place * this.#batchShare);
  }
}
