import { verify } from 'node:crypto';
import t from 'tap';
import type { DispatchMessage } from '../../../src/contracts/dispatch.ts';
import { BODY_BYTES_MAX, parserOf } from '../../../src/contracts/parse.ts';
import { ResultMessage } from '../../../src/contracts/result.ts';
import { flushBytes, resultDigest } from '../../../src/contracts/signed-bytes.ts';
import { newUuidV7 } from '../../../src/ids.ts';
import { ChatAnswer } from '../../../src/workers/agent/chat-answer.ts';
import { generateNodeKey, publicKeyFromRaw, rawPublicKey } from '../../../src/workers/agent/keys.ts';
import type { ChatOutcome } from '../../../src/workers/agent/model-client.ts';
import { failureOf, resultOf, signResults, staleSessionResult } from '../../../src/workers/agent/result.ts';

const parseResult = parserOf(ResultMessage);
const key = generateNodeKey();
const publicKey = publicKeyFromRaw(rawPublicKey(key));

function dispatch(fields: Partial<DispatchMessage> = {}): DispatchMessage {
  return {
    v: 1,
    job: newUuidV7(),
    attempt: 1,
    node: 'node-1',
    session: 5,
    model: 'tiny',
    model_version: 2,
    kind: 'chat',
    input: { messages: [{ role: 'user', content: 'Grüße' }] },
    limits: { input_tokens_max: 10, output_tokens_max: 10 },
    start_ms: 1_000,
    remaining_ms: 1_000,
    first_token_ms: 60_000,
    ...fields,
  };
}

/** An answer of these chunks, without a word on usage. */
function answered(chunks: readonly string[]): ChatOutcome {
  const answer = new ChatAnswer();
  for (const [i, content] of chunks.entries())
    answer.take(JSON.stringify({ choices: [{ delta: { content } }] }), i);
  return { kind: 'answered', answer, firstTokenMs: 0, totalMs: chunks.length };
}

/** The signed message as it travels, read by the coordinator's own parser. */
function travelled(outcome: ChatOutcome): ResultMessage {
  const [signed] = signResults([resultOf(dispatch(), outcome, 3.4, null)], key);
  const parsed = parseResult(Buffer.from(JSON.stringify(signed)));
  if (!parsed.ok) throw new Error(`${parsed.fault.field}: ${parsed.fault.message}`);
  return parsed.value;
}

await t.test(
  'without the server’s usage, tokens are chunks and the input is estimated from its bytes',
  async (t) => {
    t.match(travelled(answered(['a', 'b', 'c'])), {
      status: 'completed',
      output: { text: 'abc', finish_reason: 'stop' },
      // "Grüße" is seven bytes.
      usage: { input_tokens: 2, output_tokens: 3 },
      timing: { queued_ms: 3, first_token_ms: 0, total_ms: 3 },
      tokens: { ends: [1, 2, 3], at_ms: [0, 1, 2] },
      error: null,
    });
  },
);

await t.test('a result that would be too large loses its token times first, then its text', async (t) => {
  const manyTokens = travelled(answered(Array.from({ length: 150_000 }, () => 'abc')));
  t.equal(manyTokens.tokens, null);
  t.equal(manyTokens.output?.text.length, 450_000);
  const control = travelled(answered(['\u0001'.repeat(400_000)]));
  t.match(control, { status: 'failed', output: null, error: { code: 'output_too_large' } });
  const justFits = travelled(answered(['é'.repeat(500_000)]));
  t.equal(justFits.status, 'completed');
  t.ok(Buffer.byteLength(JSON.stringify(justFits)) <= BODY_BYTES_MAX);
});

await t.test('the list of tokens is bounded, and the last one then holds the rest', async (t) => {
  const result = resultOf(dispatch(), answered(Array.from({ length: 200_003 }, () => '.')), 0, null);
  // Too many to travel; what is counted is what was collected.
  t.equal(result.usage.output_tokens, 200_000);
  t.equal(result.output?.text.length, 200_003);
});

await t.test('an earlier session is answered in its own name', async (t) => {
  t.match(staleSessionResult(dispatch({ session: 4 })), {
    session: 4,
    status: 'failed',
    error: { code: 'TG_WORKER_STALE_SESSION' },
  });
});

await t.test('up to sixteen results of one session share a signature', async (t) => {
  const sessions = [...Array.from({ length: 20 }, () => 5), 4, 5];
  const results = sessions.map((session) => failureOf(dispatch({ session }), 'model_error', 'no'));
  const signed = signResults(results, key);
  t.same(
    signed.map((result) => result.flush.digests.length),
    [...Array.from({ length: 16 }, () => 16), 4, 4, 4, 4, 1, 1],
  );
  for (const [i, { digest, flush, ...result }] of signed.entries()) {
    t.same(result, results[i]);
    t.equal(digest, resultDigest(result).toString('hex'));
    t.ok(flush.digests.includes(digest));
    const bytes = flushBytes(result.node, result.session, flush.digests);
    t.ok(verify(null, bytes, publicKey, Buffer.from(flush.signature, 'base64')));
  }
  t.same(signResults([], key), []);
});
