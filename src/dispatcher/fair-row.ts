/**
 * A row in which the items of each owner wait in order, and owners are served in turn: whoever has ten thousand in it does not stand
 * before one who has a single one. Each take begins with the owner after the one with whom the take before began, so that turns go
 * round also where most of a take comes back unserved. With one owner it is a plain first-in-first-out row.
 */
export class FairRow<T> {
  readonly #ownerOf: (item: T) => string;
  readonly #lines = new Map<string, T[]>();
  #size = 0;
  /** The owner with whom the last take began. */
  #last: string | null = null;

  constructor(ownerOf: (item: T) => string) {
    this.#ownerOf = ownerOf;
  }

  get size(): number {
    return this.#size;
  }

  push(item: T): void {
    const owner = this.#ownerOf(item);
    const line = this.#lines.get(owner);
    if (line === undefined) this.#lines.set(owner, [item]);
    else line.push(item);
    this.#size += 1;
  }

  /** Puts items back in front of their owners' others, keeping their order. */
  putBack(items: readonly T[]): void {
    for (const [owner, back] of Map.groupBy(items, this.#ownerOf)) {
      this.#lines.set(owner, [...back, ...(this.#lines.get(owner) ?? [])]);
      this.#size += back.length;
    }
  }

  /** Takes at most `countMax`, one of each owner in turn. O(taken + owners). */
  take(countMax: number): T[] {
    const owners = this.#inTurn();
    this.#last = owners[0] ?? null;
    const wanted = Math.min(countMax, this.#size);
    const taken: T[] = [];
    let turns = owners.map((owner) => ({ owner, line: this.#lines.get(owner) ?? [], count: 0 }));
    const served = turns;
    while (taken.length < wanted) {
      for (const turn of turns) {
        const item = turn.line[turn.count];
        if (item === undefined) continue;
        taken.push(item);
        turn.count += 1;
        if (taken.length === wanted) break;
      }
      turns = turns.filter(({ line, count }) => count < line.length);
    }
    for (const { owner, line, count } of served) this.#drop(owner, line, count);
    this.#size -= taken.length;
    return taken;
  }

  /** Removes and returns those that match, each owner's in order. */
  remove(isGone: (item: T) => boolean): T[] {
    const gone: T[] = [];
    for (const [owner, line] of this.#lines) {
      const kept = line.filter((item) => !isGone(item) || gone.push(item) === 0);
      if (kept.length > 0) this.#lines.set(owner, kept);
      else this.#lines.delete(owner);
    }
    this.#size -= gone.length;
    return gone;
  }

  #drop(owner: string, line: T[], count: number): void {
    if (count === line.length) this.#lines.delete(owner);
    else line.splice(0, count);
  }

  /** Owners that wait, from the one after the last take's first. */
  #inTurn(): string[] {
    const owners = [...this.#lines.keys()];
    const at = this.#last === null ? -1 : owners.indexOf(this.#last);
    return at < 0 ? owners : [...owners.slice(at + 1), ...owners.slice(0, at + 1)];
  }
}
