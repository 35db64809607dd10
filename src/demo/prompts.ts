import { readFileSync } from 'node:fs';
import { tokenize } from './ngram.ts';

/**
 * Longest text in tokens: at about 5 bytes each it stays far below the 1 MiB of a message, also as JSON. Measured on the
 * corpus: 5.06 bytes per token.
 */
export const PROMPT_TOKENS_MAX = 150_000;

/** Text of a stated length, cut from the demo's corpus: what a job asks is of no matter here, how long it is, is. */
export class Prompts {
  readonly #tokens: readonly string[];

  /** Reads the corpus, in the tokens that the demo's model server counts. */
  constructor() {
    const text = readFileSync(new URL('./corpus/opticks-queries.txt', import.meta.url), 'utf8');
    // The blank in front lets the last token be followed by the first.
    this.#tokens = tokenize(` ${text.trim()}`);
  }

  /** `count` tokens from token `start` on, round and round; at least one, at most `PROMPT_TOKENS_MAX`. */
  text(start: number, count: number): string {
    const all = this.#tokens;
    const length = Math.min(Math.max(count, 1), PROMPT_TOKENS_MAX);
    let text = '';
    for (let i = 0; i < length; i++) text += all[(start + i) % all.length] ?? '';
    return text.trimStart();
  }
}
