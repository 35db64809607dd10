/**
 * Text to fill prompts with: words of a small vocabulary in an order without a pattern, always the same. One sentence over and over
 * would be nothing to a store that compresses; this comes down to about a half, as prose does.
 */

const VOCABULARY = 2_048;
/** Prompts begin at one of so many places, one after the other, so that two in a row are not the same text. */
const STARTS = 65_536;
/** Has no divisor in common with `STARTS`: all of them have their turn. */
const STRIDE = 4_099;

const CONSONANTS = 'bcdfghklmnprstvw';
const VOWELS = 'aeiou';

/** Numbers from 0 to below 1 without a pattern: Park and Miller's generator. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (state * 48_271) % 2_147_483_647;
    yield state / 2_147_483_647;
  }
}

const random = numbers(1);
const WORDS = Array.from({ length: VOCABULARY }, () => word(2 + Math.floor(random.next().value * 3)));

function word(syllables: number): string {
  return Array.from({ length: syllables }, () => letterOf(CONSONANTS) + letterOf(VOWELS)).join('');
}

function letterOf(letters: string): string {
  return letters[Math.floor(random.next().value * letters.length)] ?? '';
}

let text = '';
let start = 0;

/** So many bytes of it, from another place each time. */
export function proseOf(bytes: number): string {
  if (text.length < bytes + STARTS) {
    const more: string[] = [text];
    for (let length = text.length; length < bytes + STARTS; length += more.at(-1)?.length ?? 0)
      more.push(`${WORDS[Math.floor(random.next().value * VOCABULARY)] ?? ''} `);
    text = more.join('');
  }
  start = (start + STRIDE) % STARTS;
  return text.slice(start, start + bytes);
}
