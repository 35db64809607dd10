import { BSON } from 'mongodb';
import t from 'tap';
import { ENCODERS } from '../../src/traces/documents.ts';
import { decodeSpooled, encodeSpooled } from '../../src/traces/spool.ts';
import { attempt, request } from './fixtures.ts';

await t.test('documents come out of a spool message byte for byte', async (t) => {
  const attempts = [attempt(request()), attempt(request(), { result: null })].map(ENCODERS.attempts);
  const [body, ...more] = encodeSpooled('attempts', attempts, 524_288);
  t.same(more, [], 'one message');
  const spooled = decodeSpooled(body ?? Buffer.alloc(0));
  t.equal(spooled?.section, 'attempts');
  t.same(
    spooled?.documents.map((each) => Buffer.from(BSON.serialize(each))),
    attempts.map((each) => Buffer.from(BSON.serialize(each))),
  );
});

await t.test('messages are split at the bound, and a larger document travels alone', async (t) => {
  const small = Array.from({ length: 10 }, () => request({ body: Buffer.alloc(1_000) }));
  const large = request({ body: Buffer.alloc(9_000) });
  const documents = [...small, large, request()].map(ENCODERS.requests);
  const bodies = encodeSpooled('requests', documents, 4_096);
  const sizes = bodies.map((body) => body.length);
  t.equal(sizes.filter((bytes) => bytes > 4_096).length, 1);
  const counts = bodies.map((body) => decodeSpooled(body)?.documents.length);
  t.equal(counts[sizes.findIndex((bytes) => bytes > 4_096)], 1);
  t.equal(
    counts.reduce((sum, count) => (sum ?? 0) + (count ?? 0), 0),
    12,
  );
});

await t.test('what is no spool message is told apart and never throws', async (t) => {
  const [whole = Buffer.alloc(0)] = encodeSpooled('requests', [ENCODERS.requests(request())], 524_288);
  const otherSection = Buffer.from(whole);
  otherSection[4] = 9;
  const brokenInside = Buffer.from(whole);
  brokenInside.fill(0xff, 20, 60);
  const withoutId = encodeSpooled('events', [{ kind: 'warning' }], 524_288)[0] ?? Buffer.alloc(0);
  for (const [what, body] of Object.entries({
    empty: Buffer.alloc(0),
    text: Buffer.from('{"hello":"world"}'),
    headerOnly: whole.subarray(0, 5),
    otherSection,
    brokenInside,
    withoutId,
  })) {
    t.equal(decodeSpooled(body), null, what);
  }
  for (let length = 0; length < whole.length; length += 7) {
    t.equal(decodeSpooled(whole.subarray(0, length)), null, `cut after ${length} bytes`);
  }
});
