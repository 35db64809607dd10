import * as fc from 'fast-check';
import t from 'tap';
import { bodyDigest, canonicalJson, digestKeyOf, jobDigest } from '../../src/contracts/canonical.ts';

const key = digestKeyOf('k'.repeat(32));

await t.test('the order of keys and white space do not change a body', async (t) => {
  const one = JSON.parse('{ "b": [1, {"y": null, "x": "é"}], "a": true }');
  const two = JSON.parse('{"a":true,"b":[1,{"x":"\\u00e9","y":null}]}');
  t.equal(canonicalJson(one), '{"a":true,"b":[1,{"x":"é","y":null}]}');
  t.same(bodyDigest(key, one), bodyDigest(key, two));
});

await t.test('the order of an array, a value or the key of the digest does', async (t) => {
  const digests = [
    bodyDigest(key, { a: [1, 2] }),
    bodyDigest(key, { a: [2, 1] }),
    bodyDigest(key, { a: ['1', 2] }),
    bodyDigest(digestKeyOf('K'.repeat(32)), { a: [1, 2] }),
  ];
  t.equal(new Set(digests.map((digest) => digest.toString('hex'))).size, digests.length);
});

function isInOrder(fields: Record<string, number>): boolean {
  const inOrder = Object.entries(fields).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return canonicalJson(fields) === JSON.stringify(Object.fromEntries(inOrder));
}

await t.test('objects of few and of many fields have them in code-unit order', async (t) => {
  const name = fc.string({ unit: 'binary' }).map((text) => `k${text}`);
  const few = fc.dictionary(name, fc.integer(), { maxKeys: 16 });
  const many = fc.dictionary(name, fc.integer(), { minKeys: 17, maxKeys: 60 });
  t.doesNotThrow(() => fc.assert(fc.property(fc.oneof(few, many), isInOrder)));
});

function isStable(value: unknown): boolean {
  const text = canonicalJson(value);
  return canonicalJson(JSON.parse(text)) === text;
}

await t.test('canonical text, read and written again, is the same text', async (t) => {
  t.doesNotThrow(() => fc.assert(fc.property(fc.jsonValue({ maxDepth: 4 }), isStable)));
});

function isDigestOfWhole(job: { input: unknown }): boolean {
  return jobDigest(key, job, canonicalJson(job.input)).equals(bodyDigest(key, job));
}

await t.test('around an input that was written before, the digest is that of the whole body', async (t) => {
  const job = fc.record({
    account: fc.string(),
    // What looks like the place of the input, as a value and in strings.
    constraints: fc.record({ subcloud: fc.constantFrom(',"input":0,', '"input":0', null) }),
    input: fc.oneof(fc.jsonValue({ maxDepth: 4 }), fc.constant(',"input":0,'), fc.constant(0)),
    model: fc.string(),
  });
  t.doesNotThrow(() => fc.assert(fc.property(job, isDigestOfWhole)));
  t.throws(() => jobDigest(key, { input: 1 }, '1'), { message: /around its input/ });
});
