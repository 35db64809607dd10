import t from 'tap';
import {
  alternating,
  pairedRatios,
  ratioInterval,
  quantile,
  quantilesOf,
  quartileSpread,
  summarize,
} from '../../bench/measure/statistics.ts';

await t.test('the median of an even number of runs lies between the two in the middle', async (t) => {
  t.same(summarize([5, 1, 3]), { n: 3, median: 3, min: 1, max: 5 });
  t.same(summarize([4, 1, 3, 2]), { n: 4, median: 2.5, min: 1, max: 4 });
  t.same(summarize([7]), { n: 1, median: 7, min: 7, max: 7 });
});

await t.test('nothing has no median', async (t) => {
  t.throws(() => summarize([]), RangeError);
});

await t.test('a quantile is a value that was measured', async (t) => {
  const sorted = Array.from({ length: 100 }, (_, i) => i + 1);
  t.equal(quantile(sorted, 0.5), 50);
  t.equal(quantile(sorted, 0.99), 99);
  t.equal(quantile(sorted, 0.999), 100);
  t.equal(quantile(sorted, 0), 1);
  t.equal(quantile([42], 0.5), 42);
  t.ok(Number.isNaN(quantile([], 0.5)));
});

await t.test('quantiles sort by size, not by text', async (t) => {
  t.same(quantilesOf([100, 9, 20]), { n: 3, p50: 20, p95: 100, p99: 100, p999: 100, max: 100 });
});

await t.test('a ratio compares the runs of one pair', async (t) => {
  t.same(pairedRatios([10, 30], [20, 10]), [0.5, 3]);
  t.throws(() => pairedRatios([1], [1, 2]), RangeError, 'a run without its partner is no pair');
});

await t.test('the spread is that of the middle half, as a share of the median', async (t) => {
  t.equal(quartileSpread([8, 9, 10, 11, 12]), 0.2);
  t.equal(quartileSpread([8, 9, 10, 11, 1_200]), 0.2, 'one run that went wrong does not move it');
  t.equal(quartileSpread([10]), 0);
  t.ok(Number.isNaN(quartileSpread([])));
});

await t.test('every second pair runs in the opposite order', async (t) => {
  t.same(alternating(['a', 'b', 'c'], 0), ['a', 'b', 'c']);
  t.same(alternating(['a', 'b', 'c'], 1), ['c', 'b', 'a']);
  t.same(alternating(['a', 'b', 'c'], 2), ['a', 'b', 'c']);
});

await t.test('the interval of ratios is that of Student, over logarithms', async (t) => {
  const { mean, low, high } = ratioInterval([1, 2, 4]);
  t.equal(mean.toFixed(6), '2.000000', 'the geometric mean');
  // The logarithms to base 2 are 0, 1, 2: mean 1, standard deviation 1, t of 2 degrees of freedom 4.303.
  t.equal(Math.log2(high).toFixed(3), (1 + 4.303 / Math.sqrt(3)).toFixed(3));
  t.equal((low * high).toFixed(6), '4.000000', 'as far down as up');
  t.ok(Number.isNaN(ratioInterval([2]).low), 'one run says nothing of it');
});
