import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ASSUMED, type Costs, demandOf, limitsOf } from '../../bench/page/arithmetic.ts';
import { costsOf, verdictOnCores } from '../../bench/page/capacity.ts';
import { figuresById, summaryOf, valuesBetween } from '../../bench/page/figures.ts';
import { niceTicks, picture, shortNumber } from '../../bench/page/svg.ts';
import { filled, markdownTable } from '../../bench/page/template.ts';
import { figure, type Figure, type Findings } from '../../bench/report/findings.ts';
import { readWhole } from '../../bench/report/read-json.ts';
import { type Outcome, rowsOf, type Whole } from '../../bench/report/whole.ts';
import { readRemarks } from '../../bench/report/remarks.ts';
import { pagesOf } from '../../bench/suites/page.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MACHINE = { cpu: 'CPU', cores: 2, memoryGiB: 24, kernel: '6.1', node: '24.0.0', commit: 'abc' };

function outcome(suite: string, figures: readonly Figure[], change: Partial<Findings> = {}): Outcome {
  const findings: Findings = {
    suite,
    startedAt: '2026-01-02T00:00:00.000Z',
    command: '',
    machine: MACHINE,
    versions: { postgres: '15.1' },
    settings: [],
    figures,
    notes: [],
    disturbances: [],
    runs: [],
    ...change,
  };
  return { suite, isFile: false, state: 'measured', durationMs: 1, findings };
}

function wholeOf(outcomes: readonly Outcome[]): Whole {
  return {
    version: 1,
    startedAt: '2026-01-02T00:00:00.000Z',
    durationMs: 1,
    command: 'npm run bench -- all',
    machine: MACHINE,
    versions: { postgres: '15.1' },
    settings: [],
    rows: rowsOf(outcomes),
    remarks: { 'dispatch/relay': 'The broker holds it back.' },
    outcomes,
  };
}

const cpu = { tollgate: 100, rabbitmq: 200, postgres: 50, redis: 5, mongodb: 40 };
const FIXTURE = wholeOf([
  outcome('hotpath', [
    figure('dispatch/relay', 'a', '×', [0.5, 0.6]),
    figure('dispatch/rate/relay', 'a', '/s', [10_000]),
    figure('dispatch/rate/tollgate', 'a', '/s', [6_000, 7_000]),
    ...Object.entries(cpu).map(([name, us]) => figure(`cpu/life/process/${name}`, 'a', 'µs', [us])),
    ...[500, 1_000].flatMap((rate) =>
      ['relay', 'tollgate'].flatMap((who) =>
        ['p50', 'p99'].map((quantile) => figure(`latency/${rate}/${quantile}/${who}`, 'a', 'ms', [3])),
      ),
    ),
  ]),
  outcome('growth', [
    figure('growth/payload/1024/rate', 'a', '/s', [7_000]),
    figure('growth/payload/16384/rate', 'a', '/s', [1, 1, 9, 9]),
    figure('growth/payload/1024/bytes-postgres', 'a', 'B', [900]),
    figure('growth/payload/1024/bytes-mongo', 'a', 'B', [2_000]),
  ]),
  outcome('rows', [
    figure('conditions/rows-5000000/without', 'a', '/s', [7_000]),
    figure('conditions/rows-5000000/with', 'a', '/s', [6_000]),
    figure('conditions/rows-5000000', 'a', '×', [0.86]),
  ]),
  outcome('conditions', [figure('growth/pools/1/rate', 'a', '/s', [1])], { disturbances: ['others'] }),
]);

await t.test('the pages are written from a result file, and nothing is left open in them', async (t) => {
  const pages = pagesOf(FIXTURE);
  t.same(Object.keys(pages).toSorted(), [
    'capacity.md',
    'performance.md',
    'performance/growth-payload.svg',
    'performance/growth-rows.svg',
    'performance/latency.svg',
  ]);
  for (const text of Object.values(pages)) {
    t.notMatch(text, /\{\{|undefined|NaN/);
    t.ok(text.endsWith('\n'));
  }
  const performance = pages['performance.md'] ?? '';
  t.match(
    performance,
    '| dispatch rate, saturated ÷ bare relay | ≥ 0.70 | 0.55 (0.50 … 0.60) × | **NO** | 2026-01-02, abc |',
  );
  t.match(performance, '- **dispatch rate, saturated ÷ bare relay.** The broker holds it back.');
  t.match(performance, '| tollgate | 6,500 (6,000 … 7,000) | – |');
  t.match(performance, 'at commit abc, on 2 cores (CPU), 24 GiB, kernel 6.1, Node 24.0.0; postgres 15.1.');
  t.match(performance, '| 500/s, tollgate | 3.00 | – | 3.00 | – |');
  t.match(performance, '| 5,000,000 | 6,000 | 0.86 |');
  t.match(performance, '| 16,384 | – |', 'what lies too far apart is not shown');
  t.match(performance, '### Pools\n\nNot measured yet', 'disturbed suites have no figures');
  for (const [, file = ''] of performance.matchAll(/\]\((performance\/[^)]+)\)/g)) t.ok(pages[file], file);
});

await t.test('without any figure the pages say so', async (t) => {
  const pages = pagesOf(wholeOf([]));
  t.same(Object.keys(pages).toSorted(), ['capacity.md', 'performance.md']);
  t.match(pages['performance.md'], /none: left out: run npm run bench -- rows/);
  t.match(pages['capacity.md'], '| PostgreSQL cores | – | – | – | – |');
});

await t.test('the pages in the repository are what the committed results give', async (t) => {
  const whole = readWhole(join(ROOT, 'bench/results/all.json'));
  if (whole === null || !existsSync(join(ROOT, 'docs/performance.md'))) {
    t.comment('not both are there');
    return;
  }
  const pages = pagesOf({ ...whole, remarks: readRemarks() });
  for (const [path, text] of Object.entries(pages))
    t.equal(readFileSync(join(ROOT, 'docs', path), 'utf8'), text, `npm run bench -- page: docs/${path}`);
  const plots = readdirSync(join(ROOT, 'docs/performance')).map((name) => `performance/${name}`);
  t.same(
    plots.filter((path) => pages[path] === undefined),
    [],
    'no plot is left over',
  );
});

const COSTS: Costs = {
  tollgateUs: 100,
  rabbitmqUs: 200,
  postgresUs: 50,
  redisUs: 5,
  mongodbUs: 40,
  postgresBytes: 900,
  mongoBytes: 2_000,
  queuePerS: 10_000,
};

await t.test('the costs are medians of figures, and not a number where there is none', async (t) => {
  t.same(costsOf(figuresById(FIXTURE)), COSTS);
  t.ok(Object.values(costsOf(new Map())).every(Number.isNaN));
});

await t.test('what a network asks for follows from the costs', async (t) => {
  const demand = demandOf(100_000, COSTS);
  t.equal(ASSUMED.coreShare, 0.6);
  t.equal(demand.coordinators, 17, '100,000 × 100 µs are 10 cores, at 60 %');
  t.match(demand, { hopsPerS: 800_000, commitsPerS: 20_000, rowsPerS: 400_000, workers: 62_500 });
  t.equal(demand.postgresTbPerDay.toFixed(3), '7.776');
  t.equal(demand.brokerGbitPerS, 9.6);
  t.equal(demand.heartbeatsPerS, 12_500);
  t.equal(demand.heartbeatDeliveriesPerS, 12_500 * 17);
  t.equal(demand.scriptsPerS, 20_000 + 12_500 * 17, 'each coordinator writes what each heartbeat says');
  t.equal(demand.brokerCores.toFixed(2), '33.33');
  t.equal(demandOf(200_000, COSTS).mongoTbPerDay, 2 * demand.mongoTbPerDay);
});

await t.test('what one of each carries follows from them too', async (t) => {
  const limits = limitsOf(COSTS);
  t.equal(limits.coordinator, 6_000);
  t.equal(limits.pool, 6_000);
  t.equal(limits.redis, 120_000);
  t.equal(Math.round(limits.postgres), 384_000);
  t.same([1, 32, 33, 128, 129, Number.NaN].map(verdictOnCores), [
    'one server',
    'one server',
    'one very large server, on paper',
    'one very large server, on paper',
    'more than any one server',
    '–',
  ]);
});

await t.test('a template and its texts belong together', async (t) => {
  t.equal(filled('a {{b}} {{b}}', { b: '$1' }), 'a $1 $1');
  t.throws(() => filled('{{b}}', {}), /asks for b/);
  t.throws(() => filled('', { b: '' }), /does not ask for b/);
  t.equal(markdownTable(['a', 'b'], [['x|y', '1']]), '| a | b |\n|---|---:|\n| x\\|y | 1 |');
});

await t.test('figures are found by id, and their numbers between its parts', async (t) => {
  const figures = figuresById(FIXTURE);
  t.same(valuesBetween(figures, 'growth/payload/', '/rate'), [1_024, 16_384]);
  t.same(valuesBetween(figures, 'conditions/rows-', ''), [5_000_000]);
  t.equal(summaryOf(figures, 'growth/payload/16384/rate'), null);
  t.equal(summaryOf(figures, 'nothing'), null);
});

await t.test('axes have round steps that reach beyond the highest point', async (t) => {
  t.same(niceTicks(7), [0, 2, 4, 6, 8]);
  t.same(niceTicks(0.9), [0, 0.5, 1]);
  t.same(niceTicks(8_000), [0, 2_000, 4_000, 6_000, 8_000]);
  t.same(niceTicks(0), [0, 1]);
  t.same([5e6, 16_384, 300, 0.25, 2e9].map(shortNumber), ['5M', '16.4k', '300', '0.25', '2G']);
});

await t.test('a picture is well-formed, readable on dark, and says what it shows', async (t) => {
  const point = { x: 1, y: 5, low: 4, high: 6 };
  const svg = picture('a < b', [
    {
      title: 'T & U',
      xLabel: 'x',
      xScale: 'log',
      series: [{ name: 'one', points: [point, { ...point, x: 0 }] }],
    },
    {
      title: 'two lines',
      xLabel: 'x',
      xScale: 'linear',
      series: [
        { name: 'one', points: [point] },
        { name: 'two', points: [] },
      ],
    },
  ]);
  t.match(svg, 'aria-label="a &lt; b"');
  t.match(svg, 'T &amp; U');
  t.match(svg, 'prefers-color-scheme: dark');
  t.notMatch(svg, /NaN|undefined|Infinity/);
  const opened = svg.match(/<(g|text|svg|style)\b/g)?.length;
  t.equal(svg.match(/<\/(g|text|svg|style)>/g)?.length, opened);
});
