import { generateKeyPairSync, sign, verify } from 'node:crypto';
import * as fc from 'fast-check';
import t from 'tap';
import { parserOf } from '../../src/contracts/parse.ts';
import { ResultMessage } from '../../src/contracts/result.ts';
import { flushBytes, helloBytes, resultDigest, signatureBytes } from '../../src/contracts/signed-bytes.ts';

type Hello = Parameters<typeof helloBytes>[0];
type Unsigned = Omit<ResultMessage, 'digest' | 'flush'>;

const completed: Unsigned = {
  v: 1,
  job: '0198c2d4-7e1a-7b3c-8d5e-6f708192a3b4',
  attempt: 1,
  node: 'node-7',
  session: 1_763_690_400_123,
  model_version: 3,
  status: 'completed',
  output: { text: 'Grüße, 世界 🚀', finish_reason: 'stop' },
  usage: { input_tokens: 11, output_tokens: 2 },
  timing: { queued_ms: 1, first_token_ms: 20, total_ms: 250 },
  tokens: null,
  gpu: null,
  evaluation: null,
  error: null,
};

const failed: Unsigned = {
  ...completed,
  job: '0198c2d4-7e1a-7b3c-8d5e-6f708192a3b5',
  attempt: 100,
  node: 'n',
  session: Number.MAX_SAFE_INTEGER,
  model_version: 4_294_967_295,
  status: 'failed',
  output: null,
  usage: { input_tokens: 0, output_tokens: 0 },
  timing: { queued_ms: 0, first_token_ms: null, total_ms: 86_400_000 },
  error: { code: 'stream_broken', message: 'not part of the digest' },
};

/** Made by another implementation of the layouts (Python's hashlib and struct), not by the code under test. */
const GOLDEN = {
  completed: '25c865afbc41af838783b7a50a052736407119af6a1a6d36692ef089922f45f1',
  failed: '92d001a0808420fc6d7d9d00179e508bd035170a6aaf1f43bd4b68649e22faa2',
  flush:
    '746f6c6c676174652e666c7573682e763100066e6f64652d370000019aa423c97b0002' +
    '25c865afbc41af838783b7a50a052736407119af6a1a6d36692ef089922f45f1' +
    '92d001a0808420fc6d7d9d00179e508bd035170a6aaf1f43bd4b68649e22faa2',
  hello:
    '746f6c6c676174652e68656c6c6f2e763100066e6f64652d370000019aa423c97b00000008' +
    '00020c6c6c616d612d332e312d38620474696e79',
};

await t.test('the layouts are those of the golden vectors', async (t) => {
  t.equal(resultDigest(completed).toString('hex'), GOLDEN.completed);
  t.equal(resultDigest(failed).toString('hex'), GOLDEN.failed);
  t.equal(
    flushBytes('node-7', completed.session, [GOLDEN.completed, GOLDEN.failed]).toString('hex'),
    GOLDEN.flush,
  );
  const hello = {
    node: 'node-7',
    session: completed.session,
    slots_total: 8,
    pools: ['llama-3.1-8b', 'tiny'],
  };
  t.equal(helloBytes(hello).toString('hex'), GOLDEN.hello);
});

await t.test('each field that is charged or fenced changes the digest', async (t) => {
  const changes: Partial<Unsigned>[] = [
    { job: failed.job },
    { attempt: 2 },
    { node: 'node-8' },
    { session: completed.session + 1 },
    { model_version: 4 },
    { status: 'failed' },
    { output: { text: 'Grüße, 世界 🚁', finish_reason: 'stop' } },
    { usage: { input_tokens: 12, output_tokens: 2 } },
    { usage: { input_tokens: 11, output_tokens: 3 } },
    { timing: { queued_ms: 1, first_token_ms: 20, total_ms: 251 } },
  ];
  const digests = changes.map((change) => resultDigest({ ...completed, ...change }).toString('hex'));
  t.equal(new Set([GOLDEN.completed, ...digests]).size, changes.length + 1);
});

/** Different hellos have different bytes, and the same hello the same. */
function tellsApart(a: Hello, b: Hello): boolean {
  return helloBytes(a).equals(helloBytes(b)) === (JSON.stringify(a) === JSON.stringify(b));
}

await t.test('a result that the parser accepts has a digest, however large its numbers', async (t) => {
  const parse = parserOf(ResultMessage);
  const proof = { digest: GOLDEN.failed, flush: { digests: [GOLDEN.failed], signature: '' } };
  const text = JSON.stringify({ ...completed, ...proof });
  let accepted = 0;
  for (const [field] of text.matchAll(/"\w+":\d+/g))
    for (const value of [
      '0',
      '1',
      '4294967295',
      '4294967296',
      '9007199254740991',
      '9007199254740992',
      '1e300',
    ]) {
      const parsed = parse(Buffer.from(text.replace(field, field.replace(/\d+$/, value))));
      if (!parsed.ok) continue;
      accepted++;
      t.doesNotThrow(() => resultDigest(parsed.value), `${field} as ${value}`);
    }
  t.ok(accepted > 10);
});

await t.test('no two hellos have the same bytes', async (t) => {
  const hello = fc.record({
    node: fc.stringMatching(/^[a-z0-9]{1,8}$/),
    session: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    slots_total: fc.integer({ min: 1, max: 4_096 }),
    pools: fc.array(fc.stringMatching(/^[a-z0-9.-]{1,8}$/), { maxLength: 4 }),
  });
  t.doesNotThrow(() => fc.assert(fc.property(hello, hello, tellsApart)));
});

await t.test('a signature over a flush holds for these digests in this order only', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const digests = [GOLDEN.completed, GOLDEN.failed];
  const signature = sign(null, flushBytes('node-7', 5, digests), privateKey);
  t.ok(verify(null, flushBytes('node-7', 5, digests), publicKey, signature));
  t.notOk(verify(null, flushBytes('node-7', 5, digests.toReversed()), publicKey, signature));
  t.notOk(verify(null, flushBytes('node-7', 6, digests), publicKey, signature));
  t.notOk(verify(null, flushBytes('node-8', 5, digests), publicKey, signature));
});

await t.test('a signature has one text', (t) => {
  const bytes = Buffer.alloc(64, 7);
  const text = bytes.toString('base64');
  t.same(signatureBytes(text), bytes);
  const others = [
    text.replace('w==', 'x=='),
    text.slice(0, -2),
    `${text}\n`,
    text.replaceAll('+', '-'),
    `${text}AAAA`,
    '',
  ];
  for (const other of others.filter((one) => one !== text))
    t.equal(signatureBytes(other), null, other.slice(-8));
  t.end();
});
