/**
 * A small n-gram language model: it really predicts one token after another from what it read, and understands nothing.
 * It stands in for a real model in the demo and the tests, where weights of gigabytes have no place.
 *
 * A token is a word or a sign with the space before it. The next token is drawn from what followed the last two tokens in
 * the text it was trained on; where only one token ever followed them, from what followed the last one, because a longer
 * memory would recite the text instead of making some. A sentence ends with the token `END`, and so does an answer.
 * Source: C. E. Shannon, "A Mathematical Theory of Communication", 1948, section 3.
 */

const TOKEN = /\s?[\p{L}\p{N}'’-]+|\s?[^\s\p{L}\p{N}]|\s+/gu;
const SENTENCE_END = /^\s?[.?!]$/;

/** The id of the empty token before and after each sentence. */
const END = 0;

/** The tokens that followed a context, most frequent first, and how often each did. */
interface Followers {
  readonly ids: readonly number[];
  readonly counts: readonly number[];
}

/** How one answer is made. */
export interface Sampling {
  /** At least 1. */
  readonly tokensMax: number;
  /** 0 always takes the most frequent token; 1 draws as the text has it; above that, rarer words. */
  readonly temperature: number;
  /** Only the most frequent tokens that together have this share are drawn from; 1 is all. */
  readonly topP: number;
  /** The same seed, prompt and options give the same answer. */
  readonly seed: number;
  /** The answer ends before the first of these texts. */
  readonly stop: readonly string[];
}

/** Why an answer ended: by itself or at a stop text, or because `tokensMax` was reached. */
export type Finish = 'stop' | 'length';

/** Cuts a text into tokens; joined they are the text again, but for runs of white space, which become one space. */
export function tokenize(text: string): string[] {
  return text.replaceAll(/\s+/g, ' ').match(TOKEN) ?? [];
}

/** The model, trained once and then only read: any number of answers may be under way. */
export class NgramModel {
  readonly #tokens: string[] = [''];
  readonly #ids = new Map<string, number>([['', END]]);
  readonly #afterOne: Map<number, Followers>;
  readonly #afterTwo: Map<number, Followers>;

  /** Reads `text`, whose paragraphs are apart by an empty line. */
  constructor(text: string) {
    const one = new Counter();
    const two = new Counter();
    const sentences = text
      .split(/\n\s*\n/)
      .flatMap((paragraph) => sentencesOf(tokenize(` ${paragraph.trim()}`)));
    const encoded = sentences.map((sentence) => sentence.map((token) => this.#learn(token)));
    for (const sentence of encoded) {
      let before = END;
      let last = END;
      for (const id of [...sentence, END]) {
        one.add(last, id);
        two.add(this.#pair(before, last), id);
        before = last;
        last = id;
      }
    }
    this.#afterOne = one.followers();
    this.#afterTwo = two.followers();
  }

  /** Yields the answer token by token and returns why it ended. */
  *answer(prompt: string, sampling: Sampling): Generator<string, Finish> {
    const tokens = this.#generate(prompt, sampling);
    return yield* sampling.stop.length > 0 ? cutAtStop(tokens, sampling.stop) : tokens;
  }

  *#generate(prompt: string, sampling: Sampling): Generator<string, Finish> {
    const random = generatorOf(sampling.seed);
    const known = tokenize(` ${prompt}`)
      .slice(-2)
      .map((token) => this.#ids.get(token) ?? END);
    let [before = END, last = END] = known.length < 2 ? [END, ...known] : known;
    for (let count = 0; count < sampling.tokensMax; count++) {
      let next = draw(this.#followers(before, last), sampling, random);
      if (next === END && count > 0) return 'stop';
      // What the prompt ends with may end a sentence too; an answer has at least one token, so a new sentence begins.
      if (next === END) next = draw(this.#followers(END, END), sampling, random);
      const token = this.#tokens[next] ?? '';
      yield count === 0 ? token.trimStart() : token;
      before = last;
      last = next;
    }
    return 'length';
  }

  #followers(before: number, last: number): Followers {
    const two = this.#afterTwo.get(this.#pair(before, last));
    if (two !== undefined && two.ids.length > 1) return two;
    return this.#afterOne.get(last) ?? { ids: [END], counts: [1] };
  }

  #learn(token: string): number {
    let id = this.#ids.get(token);
    if (id === undefined) {
      id = this.#tokens.push(token) - 1;
      this.#ids.set(token, id);
    }
    return id;
  }

  /** Two ids as one number; the vocabulary is complete before the first call, and far below 2^26. */
  #pair(before: number, last: number): number {
    return before * this.#tokens.length + last;
  }
}

/** Counts what follows what while the model is trained. */
class Counter {
  readonly #counts = new Map<number, Map<number, number>>();

  add(context: number, next: number): void {
    let after = this.#counts.get(context);
    if (after === undefined) {
      after = new Map();
      this.#counts.set(context, after);
    }
    after.set(next, (after.get(next) ?? 0) + 1);
  }

  followers(): Map<number, Followers> {
    const all = new Map<number, Followers>();
    for (const [context, after] of this.#counts) {
      const sorted = [...after].toSorted(([idA, a], [idB, b]) => b - a || idA - idB);
      all.set(context, { ids: sorted.map(([id]) => id), counts: sorted.map(([, count]) => count) });
    }
    return all;
  }
}

function sentencesOf(tokens: readonly string[]): string[][] {
  const sentences: string[][] = [];
  let sentence: string[] = [];
  for (const token of tokens) {
    sentence.push(token);
    if (!SENTENCE_END.test(token)) continue;
    sentences.push(sentence);
    sentence = [];
  }
  if (sentence.length > 0) sentences.push(sentence);
  return sentences;
}

/** Draws one of `followers`. Two passes over the list and no allocation: this is the hot loop of the model server. */
function draw(followers: Followers, sampling: Sampling, random: () => number): number {
  const { ids, counts } = followers;
  if (sampling.temperature === 0 || ids.length === 1) return ids[0] ?? END;
  const power = 1 / sampling.temperature;
  const most = counts[0] ?? 1;
  // Relative to the most frequent one: at a low temperature a power of the bare count is beyond all numbers.
  const weight = (i: number) => (power === 1 ? (counts[i] ?? 0) : ((counts[i] ?? 0) / most) ** power);
  let total = 0;
  for (let i = 0; i < ids.length; i++) total += weight(i);
  let kept = 0;
  for (let i = 0; i < ids.length && (i === 0 || kept < sampling.topP * total); i++) kept += weight(i);
  let left = random() * kept;
  for (let i = 0; i < ids.length; i++) {
    left -= weight(i);
    if (left < 0) return ids[i] ?? END;
  }
  return ids[0] ?? END;
}

/** Numbers in [0, 1), the same for the same seed. Source: mulberry32 by T. Ettinger, public domain. */
export function generatorOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Ends the answer before the first stop text. A token that may be the beginning of one is held until that is known. */
function* cutAtStop(tokens: Generator<string, Finish>, stops: readonly string[]): Generator<string, Finish> {
  let held: string[] = [];
  for (;;) {
    const next = tokens.next();
    if (next.done) {
      yield* held;
      return next.value;
    }
    held.push(next.value);
    const text = held.join('');
    const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      const rest = text.slice(0, Math.min(...found));
      if (rest !== '') yield rest;
      return 'stop';
    }
    const uncertain = Math.max(...stops.map((stop) => beginningLength(text, stop)));
    let released = 0;
    while (held[0] !== undefined && released + held[0].length <= text.length - uncertain) {
      released += held[0].length;
      yield held[0];
      held = held.slice(1);
    }
  }
}

/** Length of the longest end of `text` with which `stop` begins. */
function beginningLength(text: string, stop: string): number {
  for (let length = Math.min(stop.length - 1, text.length); length > 0; length--)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
