import t from 'tap';
import {
  areCreditsExact,
  type DemoReport,
  quantile,
  renderSummary,
  totalOf,
} from '../../src/demo/summary.ts';
import type { Difference } from '../../src/demo/verdict.ts';

const FLOW = {
  account: 'acme',
  beforeMicro: 3_000_000n,
  afterMicro: 1_250_000n,
  capturedMicro: 1_750_000n,
  heldMicro: 0n,
};

const REPORT: DemoReport = {
  isGood: true,
  load: {
    jobs: 2_100,
    messages: 2_154,
    publishers: 4,
    accounts: 4,
    workers: 8,
    slots: 64,
    origin: 'made from seed 1',
    lagMsMax: 12,
  },
  tallies: [{ group: 'succeeded', predicted: 2_017, answered: 2_017, rows: 2_017 }],
  differences: [],
  dispatch: { jobs: 2_025, p50Ms: 16.41, p95Ms: 40, p99Ms: 1_480.06 },
  coordinator: { cpuMs: 4_308 },
  credits: [FLOW],
  toldMicro: FLOW.capturedMicro,
  audit: {
    verdict: 'ok',
    ms: 300,
    invariants: Array.from({ length: 23 }, (_, i) => ({
      id: 'credits.balanced' as const,
      title: `invariant ${i}`,
      verdict: 'ok' as const,
      checked: 1,
      broken: 0,
      examples: [],
      note: null,
      ms: 1,
    })),
  },
  story: Array.from({ length: 22 }, () => 'a line of the story').join('\n'),
  uncleanEnds: [],
  timings: { downloadMs: 0, installMs: 0, startMs: 5_300, runMs: 14_200, checkMs: 1_300 },
};

const DIFFERENCE: Difference = { prediction: null, witness: 'reply', expected: 'nothing', seen: 'succeeded' };

await t.test('a good run is told in at most 60 lines of 100 columns', async (t) => {
  const lines = renderSummary(REPORT).split('\n');
  t.ok(lines.length <= 60, `${lines.length} lines`);
  t.same(
    lines.filter((line) => line.length > 100),
    [],
  );
  t.match(lines.at(-1), /^Everything ended as predicted/);
});

await t.test('it names figures as a person reads them', async (t) => {
  const text = renderSummary(REPORT);
  t.match(text, /2,100 jobs in 2,154 messages from 4 publishers/);
  t.match(text, /p50 16\.4 ms, p95 40\.0 ms, p99 1,480 ms/);
  t.match(text, /before 3\.00 = after 1\.25 \+ captured 1\.75; held 0\.00/);
  t.match(text, /clients were told that they paid 1\.75/);
  t.match(text, /152 messages\/s over 14\.2 s; the coordinator took 2\.0 ms of CPU each/);
  t.match(text, /download 0\.0 s, install 0\.0 s, start 5\.3 s, run 14\.2 s/);
  t.notMatch(text, /late/);
});

await t.test('the first 20 differences are printed, and how many more there are', async (t) => {
  const text = renderSummary({
    ...REPORT,
    isGood: false,
    differences: Array.from({ length: 25 }, () => DIFFERENCE),
  });
  t.match(text, /25 differences:/);
  t.equal(text.match(/a reply to nothing that was sent/g)?.length, 20);
  t.match(text, /and 5 more/);
  t.match(text, /NOT AS PREDICTED/);
});

await t.test(
  'a broken invariant is told with its offenders, and a part that ended badly by name',
  async (t) => {
    const [first] = REPORT.audit.invariants;
    const invariants = first
      ? [{ ...first, verdict: 'broken' as const, examples: [{ id: 'job-1', what: 'is odd' }] }]
      : [];
    const audit = { verdict: 'broken' as const, ms: 1, invariants };
    const text = renderSummary({ ...REPORT, isGood: false, audit, uncleanEnds: ['fleet'] });
    t.match(text, /broken: 0 of 1 invariants hold/);
    t.match(text, /job-1: is odd/);
    t.match(text, /fleet did not end well/);
  },
);

await t.test('a load that fell behind says so', async (t) => {
  t.match(renderSummary({ ...REPORT, load: { ...REPORT.load, lagMsMax: 2_345 } }), /up to 2\.3 s late/);
});

await t.test('credits are exact or they are not: to one millionth', async (t) => {
  t.ok(areCreditsExact([FLOW], FLOW.capturedMicro));
  t.notOk(areCreditsExact([FLOW], FLOW.capturedMicro + 1n), 'clients were told another sum');
  t.notOk(areCreditsExact([{ ...FLOW, afterMicro: FLOW.afterMicro + 1n }], FLOW.capturedMicro));
  t.notOk(
    areCreditsExact([{ ...FLOW, heldMicro: 1n, afterMicro: FLOW.afterMicro - 1n }], FLOW.capturedMicro),
  );
  const moved = [
    { ...FLOW, afterMicro: FLOW.afterMicro + 1n },
    { ...FLOW, afterMicro: FLOW.afterMicro - 1n },
  ];
  t.equal(totalOf(moved).afterMicro, 2n * FLOW.afterMicro);
  t.notOk(areCreditsExact(moved, 2n * FLOW.capturedMicro), 'two wrongs make no right');
});

await t.test('a quantile is the nearest rank', async (t) => {
  const hundred = Array.from({ length: 100 }, (_, i) => i + 1);
  t.same(
    [0.5, 0.95, 0.99, 1].map((share) => quantile(hundred, share)),
    [50, 95, 99, 100],
  );
  t.equal(quantile([], 0.5), 0);
});
