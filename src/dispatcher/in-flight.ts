import type { Arrival } from './types.ts';

/**
 * Job ids between admit and their last stage. A second delivery of an id (a client's duplicate, a redelivery that overtook its
 * own batch) is parked here and let in when the first is through, so that the jobs of all batches under way are distinct.
 * Source: design [1].
 */
export class InFlight {
  readonly #owners = new Map<string, Arrival>();
  readonly #parked = new Map<string, Arrival[]>();

  get size(): number {
    return this.#owners.size;
  }

  /** True if `arrival` now owns its id; otherwise it has been parked. */
  claim(arrival: Arrival): boolean {
    const id = arrival.jobId;
    if (id === null) return true;
    if (!this.#owners.has(id)) {
      this.#owners.set(id, arrival);
      return true;
    }
    this.#parked.set(id, [...(this.#parked.get(id) ?? []), arrival]);
    return false;
  }

  isParked(arrival: Arrival): boolean {
    const id = arrival.jobId;
    return id !== null && (this.#parked.get(id)?.includes(arrival) ?? false);
  }

  /** `arrival` is through: frees its id if it owned it, and returns those that waited for it. */
  free(arrival: Arrival): readonly Arrival[] {
    const id = arrival.jobId;
    if (id === null || this.#owners.get(id) !== arrival) return [];
    this.#owners.delete(id);
    const parked = this.#parked.get(id) ?? [];
    this.#parked.delete(id);
    return parked;
  }

  /** Takes out all that are parked. */
  drain(): Arrival[] {
    const all = [...this.#parked.values()].flat();
    this.#parked.clear();
    return all;
  }
}
