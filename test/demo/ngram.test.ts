import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import t from 'tap';
import { type Finish, NgramModel, type Sampling, tokenize } from '../../src/demo/ngram.ts';

const corpus = readFileSync(new URL('../../src/demo/corpus/opticks-queries.txt', import.meta.url), 'utf8');
const model = new NgramModel(corpus);
const usual: Sampling = { tokensMax: 24, temperature: 1, topP: 1, seed: 1, stop: [] };

function answer(
  prompt: string,
  sampling: Partial<Sampling> = {},
  from = model,
): { tokens: string[]; text: string; finish: Finish } {
  const tokens: string[] = [];
  const stream = from.answer(prompt, { ...usual, ...sampling });
  for (;;) {
    const next = stream.next();
    if (next.done) return { tokens, text: tokens.join(''), finish: next.value };
    tokens.push(next.value);
  }
}

const flat = (text: string) => text.replaceAll(/\s+/g, ' ');
const isWhole = (text: string) => tokenize(text).join('') === flat(text);

await t.test('tokens joined are the text, with runs of white space as one space', async (t) => {
  t.same(tokenize('Light,  said he\n is  fast.'), ['Light', ',', ' said', ' he', ' is', ' fast', '.']);
  t.doesNotThrow(() => fc.assert(fc.property(fc.string({ unit: 'grapheme' }), isWhole)));
});

await t.test('the same seed gives the same answer, also from a model trained again', async (t) => {
  const first = answer('What is Light');
  t.same(answer('What is Light'), first);
  t.same(answer('What is Light', {}, new NgramModel(corpus)), first);
  const others = [2, 3, 4, 5].map((seed) => answer('What is Light', { seed }).text);
  t.equal(new Set([first.text, ...others]).size, 5);
});

await t.test('the prompt matters to the answer', async (t) => {
  t.not(answer('What is Light').text, answer('Do not all Bodies').text);
});

await t.test('each token is one that followed the one before it in the text', async (t) => {
  const pairs = new Set<string>();
  let last = '';
  for (const token of tokenize(` ${corpus}`)) {
    pairs.add(`${last}|${token}`);
    last = token;
  }
  const { tokens } = answer('What', { tokensMax: 200, seed: 9 });
  const strange = tokens.slice(2).filter((token, i) => !pairs.has(`${tokens[i + 1]}|${token}`));
  t.same(strange, []);
});

await t.test('an answer ends at tokensMax or with its sentence, and has at least one token', async (t) => {
  const finishes = new Set<Finish>();
  for (let seed = 0; seed < 100; seed++) {
    const { tokens, text, finish } = answer('Why?', { seed, tokensMax: 30 });
    finishes.add(finish);
    if (finish === 'length' && tokens.length !== 30) t.fail(`${tokens.length} tokens: ${text}`);
    if (finish === 'stop' && !/[.?!:,]$/.test(text)) t.fail(text);
    if (tokens.length === 0) t.fail(`seed ${seed} gave nothing`);
  }
  t.same([...finishes].toSorted(), ['length', 'stop']);
});

await t.test(
  'at temperature 0 and at top_p 0 the most frequent token is taken, whatever the seed',
  async (t) => {
    t.equal(
      answer('The Rays', { temperature: 0, seed: 1 }).text,
      answer('The Rays', { temperature: 0, seed: 2 }).text,
    );
    t.equal(answer('The Rays', { topP: 0, seed: 1 }).text, answer('The Rays', { temperature: 0 }).text);
  },
);

await t.test('an answer ends before a stop text, wherever the text lies on the tokens', async (t) => {
  const whole = answer('What is Light', { tokensMax: 40, seed: 3 }).text;
  for (let from = 1; from < Math.min(whole.length - 6, 60); from++) {
    const stop = whole.slice(from, from + 6);
    const cut = answer('What is Light', { tokensMax: 40, seed: 3, stop: ['never said', stop] });
    t.same(
      { text: cut.text, finish: cut.finish },
      { text: whole.slice(0, whole.indexOf(stop)), finish: 'stop' },
    );
  }
  const uncut = answer('What is Light', { tokensMax: 40, seed: 3, stop: ['@@'] });
  t.equal(uncut.text, whole);
});
