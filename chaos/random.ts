import { generatorOf } from '../src/demo/ngram.ts';

/** A source of decisions that is the same for the same seed. */
export class Random {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = generatorOf(seed);
  }

  /** In [0, 1). */
  share(): number {
    return this.#next();
  }

  /** A whole number, both bounds included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.#next() * (most - least + 1));
  }

  /** One of them. Throws for none. */
  pick<T>(choices: readonly T[]): T {
    const choice = choices[Math.floor(this.#next() * choices.length)];
    if (choice === undefined) throw new Error('there is nothing to choose from');
    return choice;
  }

  /** One of them, each as often as its weight says. Throws for none. */
  weighted<T extends { readonly weight: number }>(choices: readonly T[]): T {
    let left = this.#next() * choices.reduce((sum, { weight }) => sum + weight, 0);
    for (const choice of choices) {
      left -= choice.weight;
      if (left < 0) return choice;
    }
    return this.pick(choices);
  }
}
