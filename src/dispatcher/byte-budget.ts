/** Bytes of unacknowledged bodies over all consumers; pools stop consuming while it is over. Source: design [18]. */
export class ByteBudget {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isOver(): boolean {
    return this.#bytes > this.#bytesMax;
  }

  add(bytes: number): void {
    this.#bytes += bytes;
  }
}
