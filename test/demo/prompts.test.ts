import t from 'tap';
import { BODY_BYTES_MAX } from '../../src/contracts/parse.ts';
import { tokenize } from '../../src/demo/ngram.ts';
import { PROMPT_TOKENS_MAX, Prompts } from '../../src/demo/prompts.ts';

const prompts = new Prompts();

await t.test('a prompt has as many tokens as asked for, also around the end of the corpus', async (t) => {
  for (const [start, count] of [
    [0, 1],
    [17, 12],
    [20_450, 40],
    [999_999, 7_437],
  ] as const)
    t.equal(tokenize(prompts.text(start, count)).length, count);
});

await t.test('the longest one fits into a message as JSON', async (t) => {
  const longest = prompts.text(0, 10 * PROMPT_TOKENS_MAX);
  t.equal(tokenize(longest).length, PROMPT_TOKENS_MAX);
  t.ok(Buffer.byteLength(JSON.stringify(longest)) < 0.8 * BODY_BYTES_MAX);
});
