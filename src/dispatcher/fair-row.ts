/** What an owner has in the row, and its place among the owners: the smallest is served next. */
interface Line<T> {
  turn: number;
  items: T[];
}

/**
 * A row in which the items of each owner wait in order, and owners are served in turn: whoever has ten thousand in it does not stand
 * before one who has a single one. An owner's turn is over when an item of its was served: what is put back has its turn again, so
 * that takes of which nothing or little is served, however many there are, let nobody pass. An owner that comes (again) is last. With
 * one owner it is a plain first-in-first-out row. Source: deficit round robin (Shreedhar and Varghese, 1995), each item costing one.
 */
export class FairRow<T extends object> {
  readonly #ownerOf: (item: T) => string;
  readonly #lines = new Map<string, Line<T>>();
  /** The turn that an item has when it is put back. */
  readonly #turnOf = new WeakMap<T, number>();
  #nextTurn = 0;
  #size = 0;

  constructor(ownerOf: (item: T) => string) {
    this.#ownerOf = ownerOf;
  }

  get size(): number {
    return this.#size;
  }

  push(item: T): void {
    this.#lineOf(this.#ownerOf(item)).items.push(item);
    this.#size += 1;
  }

  /** An item passes by without waiting here. Should it be put back, it counts as one that was taken now. */
  note(item: T): void {
    this.#turnOf.set(item, this.#nextTurn++);
  }

  /** Puts items from elsewhere in front of their owners' others, keeping their order. */
  pushFirst(items: readonly T[]): void {
    for (const [owner, first] of Map.groupBy(items, this.#ownerOf)) this.#insertFirst(owner, first);
  }

  /** Puts items back in front of their owners' others, keeping their order, and gives their turns back. */
  putBack(items: readonly T[]): void {
    for (const [owner, back] of Map.groupBy(items, this.#ownerOf)) {
      const line = this.#insertFirst(owner, back);
      for (const item of back) line.turn = Math.min(line.turn, this.#turnOf.get(item) ?? line.turn);
    }
  }

  /** Takes at most `countMax`, one of each owner in turn. O(taken + owners · log owners). */
  take(countMax: number): T[] {
    const taken: T[] = [];
    let turns = [...this.#lines]
      .toSorted(([, a], [, b]) => a.turn - b.turn)
      .map(([owner, line]) => ({ owner, line, count: 0 }));
    const served = turns;
    while (turns.length > 0 && taken.length < countMax) {
      for (const turn of turns.slice(0, countMax - taken.length)) {
        const item = turn.line.items[turn.count];
        if (item === undefined) continue;
        taken.push(item);
        turn.count += 1;
        this.#turnOf.set(item, turn.line.turn);
        turn.line.turn = this.#nextTurn++;
      }
      turns = turns.filter(({ line, count }) => count < line.items.length);
    }
    for (const { owner, line, count } of served) this.#drop(owner, line, count);
    this.#size -= taken.length;
    return taken;
  }

  /** Removes and returns those that match, each owner's in order. */
  remove(isGone: (item: T) => boolean): T[] {
    const gone: T[] = [];
    for (const [owner, line] of this.#lines) {
      line.items = line.items.filter((item) => !isGone(item) || gone.push(item) === 0);
      if (line.items.length === 0) this.#lines.delete(owner);
    }
    this.#size -= gone.length;
    return gone;
  }

  #lineOf(owner: string): Line<T> {
    const known = this.#lines.get(owner);
    if (known !== undefined) return known;
    const line: Line<T> = { turn: this.#nextTurn++, items: [] };
    this.#lines.set(owner, line);
    return line;
  }

  #insertFirst(owner: string, items: readonly T[]): Line<T> {
    const line = this.#lineOf(owner);
    line.items = [...items, ...line.items];
    this.#size += items.length;
    return line;
  }

  #drop(owner: string, line: Line<T>, count: number): void {
    if (count === line.items.length) this.#lines.delete(owner);
    else line.items.splice(0, count);
  }
}
