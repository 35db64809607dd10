import t from 'tap';
import { bars, residentMemory, residentMemoryOf } from '../../bench/measure/memory.ts';
import { growthOf, memoryFigures, memoryLines, rateOf, slopeOf } from '../../bench/suites/memory-figures.ts';

/** One sample every 5 s. */
function samplesOf(rss: readonly number[]) {
  return rss.map((mib, i) => ({
    atMs: (i + 1) * 5_000,
    rssMiB: mib,
    peakMiB: Math.max(...rss.slice(0, i + 1)) + 7,
    replies: (i + 1) * 20_000,
  }));
}

const FLAT = samplesOf([100, 150, 200, 200, 210, 200, 200, 210, 200]);
const GROWING = samplesOf([100, 110, 120, 130, 140, 150, 160, 170, 180]);

await t.test('resident memory is read from the kernel, in MiB', async (t) => {
  const status = 'VmPeak:\t  9 kB\nVmHWM:\t  524288 kB\nVmRSS:\t  262144 kB\nThreads:\t1\n';
  t.same(residentMemoryOf(status), { rssMiB: 256, peakMiB: 512 });
  const { rssMiB, peakMiB } = residentMemory(process.pid);
  t.ok(rssMiB > 10 && peakMiB > 10);
  t.throws(() => residentMemory(2 ** 22), { code: 'ENOENT' });
});

await t.test('memory that only warms up is flat, and one that grows is not', async (t) => {
  t.equal(growthOf(FLAT), 1);
  t.ok(growthOf(GROWING) > 1.05);
  t.equal(slopeOf(GROWING).toFixed(3), '120.000', '10 MiB every 5 s');
  t.equal(rateOf(GROWING), 4_000);
});

await t.test(
  'the peak between and before all samples is judged, and its name says of how long a run',
  async (t) => {
    const figures = memoryFigures(samplesOf([400, 200, 200, 200, 200, 200]));
    t.same(figures.find(({ id }) => id === 'memory/rss-max')?.values, [407]);
    t.equal(figures[0]?.name, 'peak resident memory of the daemon, 0.5 minutes');
    t.same(figures.find(({ id }) => id === 'memory/rss-max')?.target, { atMost: 300 });
    t.same(figures.find(({ id }) => id === 'memory/growth')?.target, { atMost: 1.05 });
  },
);

await t.test('a series is drawn from its least to its largest, however long it is', async (t) => {
  t.equal(bars([1, 2, 3], 60), '▁▅█');
  t.equal(bars([5, 5], 60), '▁▁');
  t.equal(bars([0, 1, 7, 0, 0, 0], 3), '▁█▁'.replace('▁█', '▂█'), 'each bar is the largest of its part');
  t.equal(memoryLines(FLAT).at(-1), '9 samples from left to right, 0.8 minutes of load');
  t.match(memoryLines(FLAT)[0], /^resident MiB  ▁\S+  100 … 210$/);
});
