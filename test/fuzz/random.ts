/** A seeded source of choices (mulberry32): the same seed and index make the same input, whatever came before it. */
export class Random {
  #state: number;

  constructor(seed: number, index = 0) {
    // Neighbouring indexes must not give neighbouring states.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35);
    this.next();
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** A whole number from `min` to `max`, both included. */
  int(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of them. Throws if there is none. */
  pick<T>(choices: readonly T[]): T {
    const at = Math.floor(this.next() * choices.length);
    for (const [i, choice] of choices.entries()) if (i === at) return choice;
    throw new Error('nothing to choose from');
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = this.int(0, 255);
    return bytes;
  }

  /** A UUIDv7 of the moment `atMs`. */
  uuidV7(atMs: number): string {
    const hex = () =>
      Math.floor(this.next() * 4_294_967_296)
        .toString(16)
        .padStart(8, '0');
    const time = atMs.toString(16).padStart(12, '0');
    const [a, b, c] = [hex(), hex(), hex()];
    const variant = '89ab'[this.int(0, 3)];
    return `${time.slice(0, 8)}-${time.slice(8)}-7${a.slice(0, 3)}-${variant}${a.slice(3, 6)}-${b}${c.slice(0, 4)}`;
  }
}
