import t from 'tap';
import { cpuPerJobUs, disturbances, figuresOf, holds, type Run } from '../../bench/figures.ts';
import { columns, type Findings, plain, reportLines, shownSummary } from '../../bench/report.ts';
import type { LatencyRun, SaturatedRun } from '../../bench/runs.ts';
import { quantilesOf, summarize } from '../../bench/statistics.ts';

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
  const { value, now, inTheEnd } = figure('saturated dispatch, tollgate ÷ relay');
  t.equal(value.min, 0.5);
  t.equal(value.max, 0.55);
  t.same(now, { atLeast: 0.45 });
  t.same(inTheEnd, { atLeast: 0.7 });
  t.equal(figure('saturated dispatch, tollgate ÷ one at a time').value.median, 10);
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
    ['saturated dispatch, tollgate'],
  );
});

await t.test('latencies are judged by p50 and p99 at a rate, and only shown when idle', async (t) => {
  const runs = [
    latency({}),
    latency({ subject: 'tollgate', latencyMs: quantilesOf([2, 4, 8]) }),
    latency({ kind: 'idle', perSecond: 0 }),
    latency({ kind: 'idle', perSecond: 0, subject: 'tollgate' }),
  ];
  t.equal(figure('latency at 500/s, p50, tollgate ÷ relay', runs).value.median, 2);
  t.same(figure('latency at 500/s, p99, tollgate ÷ relay', runs).inTheEnd, { atMost: 2.5 });
  const names = figuresOf(runs).map(({ name }) => name);
  t.ok(names.includes('latency when idle, p50, tollgate'));
  t.notOk(names.some((name) => name.includes('when idle') && name.includes('÷')));
});

await t.test('CPU per job is summed over the runs of a subject', async (t) => {
  t.same(cpuPerJobUs(RUNS, 'dispatch', 'tollgate'), { relay: 0, tollgate: 70, rabbitmq: 90 });
  t.same(cpuPerJobUs(RUNS, 'life', 'tollgate'), {});
});

await t.test('a quiet machine disturbs nothing', async (t) => {
  t.same(disturbances(RUNS), []);
});

await t.test('a series that lies too far apart is named', async (t) => {
  const [line, ...others] = disturbances([...RUNS, saturated({ pair: 2, perSecond: 4_000 })]);
  t.match(line, /saturated dispatch, relay: its runs lie 75 % of their median apart \(bound 35 %\)/);
  t.same(others, []);
});

await t.test('other processes that took too much of the machine are told', async (t) => {
  const [line, ...others] = disturbances([...RUNS, saturated({ foreignShare: 0.3 })]);
  t.match(line, /other processes took more than 10 % of the machine in 1 of 7 runs \(at most 30 %\)/);
  t.same(others, []);
  t.same(disturbances([saturated({ foreignShare: null })]), [], 'unknown is not too much');
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

await t.test('the report says where it was measured, what holds, and what disturbed it', async (t) => {
  const findings: Findings = {
    suite: 'hotpath',
    startedAt: '2026-01-01T00:00:00.000Z',
    command: 'npm run bench -- hotpath',
    pairs: 2,
    machine: { cpu: 'CPU', cores: 2, memoryGiB: 24, kernel: '6.1', node: '24.0.0', commit: null },
    versions: { postgres: '15.1' },
    settings: [],
    runs: [...RUNS, saturated({ kind: 'life', foreignShare: 0.5 })],
  };
  const text = reportLines(findings).join('\n');
  t.match(text, '2 cores (CPU), 24 GiB, kernel 6.1, Node 24.0.0, commit unknown');
  t.match(text, /tollgate ÷ relay +0\.53 \(0\.50 … 0\.55\) × +≥ 0\.45 +yes +≥ 0\.70 +not yet/);
  t.match(text, /CPU µs per saturated dispatch +relay +tuned relay +tollgate +one at a time/);
  t.match(text, /^DISTURBED: other processes/m);
});
