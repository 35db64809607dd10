import t from 'tap';
import { memoryOf } from '../../chaos/memory.ts';

const many = (of: (i: number) => number) => Array.from({ length: 200 }, (_, i) => Math.round(of(i)));

await t.test(
  'memory that fills its caches and then stays is flat, also with the saw of the collector',
  async (t) => {
    const { growth, isFlat, miBByTenth } = memoryOf(many((i) => Math.min(150, 80 + i * 2) + (i % 7) * 3));
    t.ok(isFlat);
    t.ok(growth !== null && growth < 1.1);
    t.equal(miBByTenth.length, 10);
  },
);

await t.test('memory that grows all the time is not', async (t) => {
  t.match(memoryOf(many((i) => 100 + i)), { isFlat: false });
});

await t.test('too few samples prove nothing', async (t) => {
  t.same(memoryOf([]), { miBByTenth: [], growth: null, isFlat: false });
  t.match(memoryOf([100, 100, 100]), { growth: null, isFlat: false });
});
