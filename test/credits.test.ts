import * as fc from 'fast-check';
import t from 'tap';
import { creditsFromText, creditsText } from '../src/credits.ts';

await t.test('credits become micro-credits exactly', async (t) => {
  const cases: [string, bigint][] = [
    ['0', 0n],
    ['12', 12_000_000n],
    ['12.5', 12_500_000n],
    ['0.000001', 1n],
    ['0.1', 100_000n],
    ['9007199254.740991', 9_007_199_254_740_991n],
  ];
  for (const [text, micro] of cases) t.equal(creditsFromText(text), micro, text);
});

await t.test('what is no plain decimal is refused', async (t) => {
  for (const text of [
    '',
    '.5',
    '5.',
    '-1',
    '+1',
    '1e3',
    '1,5',
    '0x10',
    '1.1234567',
    ' 1',
    'NaN',
    '1'.repeat(13),
  ])
    t.equal(creditsFromText(text), null, JSON.stringify(text));
});

await t.test('micro-credits are shown with two to six decimals', async (t) => {
  t.equal(creditsText(12_500_000n), '12.50');
  t.equal(creditsText(1n), '0.000001');
  t.equal(creditsText(0n), '0.00');
  t.equal(creditsText(-1_250_000n), '-1.25');
  t.equal(creditsText(100_120_000n), '100.12');
});

await t.test('what is shown reads back as the same amount', async (t) => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 53n - 1n), (micro) => creditsFromText(creditsText(micro)) === micro),
  );
  t.pass();
});
