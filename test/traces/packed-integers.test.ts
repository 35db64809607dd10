import * as fc from 'fast-check';
import t from 'tap';
import { packIntegers, unpackIntegers } from '../../src/traces/packed-integers.ts';

await t.test('a list comes back as it was, rising or not', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 0x7fff_ffff })), (values) => {
      t.same(unpackIntegers(packIntegers(values)), values);
    }),
    { numRuns: 200 },
  );
  t.end();
});

await t.test('the ends of 128 short tokens take 128 bytes', (t) => {
  const ends = Array.from({ length: 128 }, (_, i) => (i + 1) * 5);
  t.equal(packIntegers(ends).length, 128);
  t.end();
});

await t.test('numbers that no token can have are written as the greatest and stay small', (t) => {
  const bytes = packIntegers([0, 1e300, 3, Number.MAX_SAFE_INTEGER]);
  t.ok(bytes.length <= 4 * 5);
  t.same(unpackIntegers(bytes), [0, 0x7fff_ffff, 3, 0x7fff_ffff]);
  t.end();
});

await t.test('an empty list takes no bytes', (t) => {
  t.equal(packIntegers([]).length, 0);
  t.same(unpackIntegers(Buffer.alloc(0)), []);
  t.end();
});
