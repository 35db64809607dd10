import t from 'tap';
import type { LatencyRun, SaturatedRun } from '../../bench/measure/runs.ts';
import { quantilesOf, summarize } from '../../bench/measure/statistics.ts';
import {
  crowding,
  figure as makeFigure,
  type Findings,
  holds,
  verdictOf,
} from '../../bench/report/findings.ts';
import { columns, plain, reportLines, shownSummary } from '../../bench/report/report.ts';
import { cpuLines, cpuPerJobUs, figuresOf, type Run } from '../../bench/suites/hotpath-figures.ts';

function saturated(change: Partial<SaturatedRun>): SaturatedRun {
  return {
    kind: 'dispatch',
    subject: 'relay',
    pair: 0,
    jobs: 1_000,
    ms: 100,
    firstMs: 5,
    perSecond: 10_000,
    cpuMs: { relay: 40, tollgate: 0, rabbitmq: 60 },
    foreignShare: 0.01,
    ...change,
  };
}

function latency(change: Partial<LatencyRun>): LatencyRun {
  return {
    kind: 'latency',
    subject: 'relay',
    pair: 0,
    perSecond: 500,
    latencyMs: quantilesOf([1, 2, 4]),
    latenessMs: quantilesOf([0]),
    backlog: { middle: 0, end: 0 },
    cpuMs: {},
    foreignShare: 0.01,
    ...change,
  };
}

const RUNS: readonly Run[] = [
  saturated({}),
  saturated({ subject: 'tollgate', perSecond: 5_000, cpuMs: { relay: 0, tollgate: 80, rabbitmq: 100 } }),
  saturated({ subject: 'one at a time', jobs: 100, perSecond: 500 }),
  saturated({ pair: 1, perSecond: 8_000 }),
  saturated({
    pair: 1,
    subject: 'tollgate',
    perSecond: 4_400,
    cpuMs: { relay: 0, tollgate: 60, rabbitmq: 80 },
  }),
  saturated({ pair: 1, subject: 'one at a time', jobs: 100, perSecond: 440 }),
];

function figure(name: string, runs = RUNS) {
  const found = figuresOf(runs).find((one) => one.name === name);
  if (found === undefined) throw new Error(`no figure ${name}`);
  return found;
}

await t.test('a ratio is the median of the pairs, with its targets', async (t) => {
  const { values, target } = figure('saturated dispatch, tollgate ÷ relay');
  t.same(values, [0.5, 0.55]);
  t.same(target, { atLeast: 0.7 });
  t.same(figure('saturated dispatch, tollgate ÷ one at a time').values, [10, 10]);
});

await t.test('a target holds for the median, upwards or downwards', async (t) => {
  t.ok(holds(summarize([0.5]), { atLeast: 0.45 }));
  t.notOk(holds(summarize([0.4]), { atLeast: 0.45 }));
  t.ok(holds(summarize([1.6]), { atMost: 1.6 }));
  t.notOk(holds(summarize([1.7]), { atMost: 1.6 }));
});

await t.test('parts that did not run have no figures', async (t) => {
  t.same(figuresOf([]), []);
  t.notOk(figuresOf(RUNS).some(({ name }) => name.startsWith('full life') || name.startsWith('latency')));
  const withoutPartner = figuresOf([saturated({ subject: 'tollgate' })]);
  t.same(
    withoutPartner.map(({ name }) => name),
    [
      'saturated dispatch, tollgate',
      'CPU per dispatch, process tollgate',
      'CPU per dispatch, process rabbitmq',
    ],
  );
});

await t.test('latencies are judged by p50 and p99 at a rate, and only shown when idle', async (t) => {
  const runs = [
    latency({}),
    latency({ subject: 'tollgate', latencyMs: quantilesOf([2, 4, 8]) }),
    latency({ kind: 'idle', perSecond: 0 }),
    latency({ kind: 'idle', perSecond: 0, subject: 'tollgate' }),
  ];
  t.same(figure('latency at 500/s, p50, tollgate ÷ relay', runs).values, [2]);
  t.same(figure('latency at 500/s, p99, tollgate ÷ relay', runs).target, { atMost: 2.5 });
  const names = figuresOf(runs).map(({ name }) => name);
  t.ok(names.includes('latency when idle, p50, tollgate'));
  t.notOk(names.some((name) => name.includes('when idle') && name.includes('÷')));
});

await t.test('a p99.9 that would be the largest is not shown', async (t) => {
  for (const { count, values } of [
    { count: 999, values: [] },
    { count: 1_000, values: [998] },
  ]) {
    const latencyMs = quantilesOf(Array.from({ length: count }, (_, n) => n));
    const figures = figuresOf([latency({ latencyMs })]).filter(({ id }) => id.includes('/p999/'));
    t.same(
      figures.flatMap((one) => one.values),
      values,
    );
  }
});

await t.test('CPU per job is summed over the runs of a subject', async (t) => {
  t.same(cpuPerJobUs(RUNS, 'dispatch', 'tollgate'), { relay: 0, tollgate: 70, rabbitmq: 90 });
  t.same(cpuPerJobUs(RUNS, 'life', 'tollgate'), {});
});

await t.test('a figure whose values lie too far apart is not shown', async (t) => {
  t.match(verdictOf(makeFigure('a', 'a', '×', [1, 1, 2, 2])), { spread: 2 / 3 });
  t.match(verdictOf(makeFigure('a', 'a', '×', [1, 1, 2, 2], { spreadMax: 1 })), { summary: { median: 1.5 } });
  t.match(verdictOf(makeFigure('a', 'a', '×', [1, 9])), { summary: { median: 5 } }, 'two say nothing of it');
});

await t.test('other processes that took too much of the machine are told', async (t) => {
  t.same(crowding(RUNS), []);
  t.same(crowding([...RUNS, saturated({ foreignShare: 0.3 })]), [], 'medians bear one run of seven');
  const [line, ...others] = crowding([
    ...RUNS,
    saturated({ foreignShare: 0.3 }),
    saturated({ foreignShare: 0.2 }),
  ]);
  t.match(line, /other processes took more than 10 % of the machine in 2 of 8 runs \(at most 30 %\)/);
  t.same(others, []);
  t.same(crowding([saturated({ foreignShare: null })]), [], 'unknown is not too much');
});

await t.test('columns line up, the first to the left and the others to the right', async (t) => {
  t.same(
    columns([
      ['a', '1', ''],
      ['bbb', '22', 'x'],
    ]),
    ['a     1', 'bbb  22  x'],
  );
  t.same(columns([]), []);
});

await t.test('a number shows the digits that mean something', async (t) => {
  t.equal(plain(0.456), '0.46');
  t.equal(plain(45.67), '45.7');
  t.equal(plain(12_345.6), '12,346');
  t.equal(plain(Number.NaN), '–');
  t.equal(shownSummary(summarize([1, 2, 3])), '2.00 (1.00 … 3.00)');
  t.equal(shownSummary(summarize([2])), '2.00', 'one run has no range');
});

const FINDINGS: Findings = {
  suite: 'hotpath',
  startedAt: '2026-01-01T00:00:00.000Z',
  command: 'npm run bench -- hotpath',
  machine: { cpu: 'CPU', cores: 2, memoryGiB: 24, kernel: '6.1', node: '24.0.0', commit: null },
  versions: { postgres: '15.1' },
  settings: [],
  figures: [...figuresOf(RUNS), makeFigure('x', 'a restless figure', '/s', [1, 1, 9, 9])],
  notes: cpuLines(RUNS),
  disturbances: [],
  runs: RUNS,
};

await t.test('the report says where it was measured and what holds', async (t) => {
  const text = reportLines(FINDINGS).join('\n');
  t.match(text, '2 cores (CPU), 24 GiB, kernel 6.1, Node 24.0.0, commit unknown');
  t.match(text, /tollgate ÷ relay +0\.53 \(0\.50 … 0\.55\) × +≥ 0\.70 +NO/);
  t.match(text, /tollgate ÷ one at a time +10\.0 \(10\.0 … 10\.0\) × +≥ 7\.00 +yes/);
  t.match(text, /CPU µs per saturated dispatch +relay +tuned relay +tollgate +one at a time/);
  t.match(text, /a restless figure +DISTURBED: spread 160 %/);
});

await t.test('disturbed runs have no figures', async (t) => {
  const text = reportLines({ ...FINDINGS, disturbances: ['others took the machine'] }).join('\n');
  t.match(text, /^DISTURBED: others took the machine/m);
  t.notMatch(text, /tollgate ÷ relay/);
});
