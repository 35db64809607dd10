import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { floodOptions, hotpathOptions, UsageError } from '../../bench/arguments.ts';
import { BenchError } from '../../bench/bench-error.ts';
import { faultFigures, faultSummary } from '../../bench/report/faults.ts';
import { figure, type Figure, type Findings } from '../../bench/report/findings.ts';
import { readFindings, readObject, readWhole } from '../../bench/report/read-json.ts';
import { readRemarks } from '../../bench/report/remarks.ts';
import { ALL_MINUTES_MAX, SUITES_OF_ALL, WANTED } from '../../bench/report/wanted.ts';
import {
  distinctSettings,
  isComplete,
  type Outcome,
  rowsOf,
  shortRows,
  type Whole,
  wholeLines,
} from '../../bench/report/whole.ts';
import { allOptions } from '../../bench/suites/all.ts';
import { conditionsOptions } from '../../bench/suites/conditions-options.ts';
import { limitsOptions } from '../../bench/suites/limits-options.ts';
import { peersOptions } from '../../bench/suites/peers-options.ts';

const MAIN = fileURLToPath(new URL('../../bench/main.ts', import.meta.url));
const MACHINE = { cpu: 'CPU', cores: 2, memoryGiB: 24, kernel: '6.1', node: '24.0.0', commit: 'abc' };
const FSYNC = { server: 'postgres', name: 'fsync', value: 'on', needed: 'on' } as const;

function findings(suite: string, figures: readonly Figure[], change: Partial<Findings> = {}): Findings {
  return {
    suite,
    startedAt: '2026-01-02T00:00:00.000Z',
    command: `npm run bench -- ${suite}`,
    machine: MACHINE,
    versions: { postgres: '15.1' },
    settings: [FSYNC],
    figures,
    notes: [],
    disturbances: [],
    runs: [],
    ...change,
  };
}

function measured(suite: string, figures: readonly Figure[], change: Partial<Findings> = {}): Outcome {
  return {
    suite,
    isFile: false,
    state: 'measured',
    durationMs: 60_000,
    findings: findings(suite, figures, change),
  };
}

const OUTCOMES: readonly Outcome[] = [
  measured('hotpath', [
    figure('dispatch/relay', 'a', '×', [0.5, 0.6]),
    figure('dispatch/one at a time', 'a', '×', [8, 9]),
    figure('life/relay', 'a', '×', [1, 1, 9, 9]),
  ]),
  measured('conditions', [figure('conditions/hot-account', 'a', '×', [1])], { disturbances: ['others'] }),
  { suite: 'limits', isFile: false, state: 'failed', durationMs: 1, message: 'status 1: Redis went away' },
  { suite: 'peers', isFile: false, state: 'absent' },
  { suite: 'rows', isFile: true, state: 'absent' },
  {
    suite: 'memory',
    isFile: true,
    state: 'measured',
    durationMs: null,
    findings: findings('memory', [
      figure('memory/rss-max', 'a', 'MiB', [250]),
      figure('memory/growth', 'a', '%', [2], { target: { atMost: 5 } }),
    ]),
  },
];

function row(id: string, outcomes = OUTCOMES) {
  const found = rowsOf(outcomes).find((one) => one.id === id);
  if (found === undefined) throw new Error(`no row ${id}`);
  return found;
}

const WHOLE: Whole = {
  version: 1,
  startedAt: '2026-01-02T00:00:00.000Z',
  durationMs: 120_000,
  command: 'npm run bench -- all',
  machine: MACHINE,
  versions: { postgres: '15.1' },
  settings: [FSYNC],
  rows: rowsOf(OUTCOMES),
  remarks: { 'dispatch/relay': 'The broker holds it back.' },
  outcomes: OUTCOMES,
};

await t.test('every number of the design has its row, in its order, whatever was measured', async (t) => {
  t.same(
    rowsOf([]).map(({ id }) => id),
    WANTED.map(({ id }) => id),
  );
  t.equal(new Set(WANTED.map(({ id }) => id)).size, WANTED.length);
  t.ok(rowsOf([]).every(({ summary, problem }) => summary === null && problem !== null));
});

await t.test('a row is judged by the target of the design, or by that of its suite', async (t) => {
  t.match(row('dispatch/relay'), { summary: { median: 0.55 }, holds: false, target: { atLeast: 0.7 } });
  t.match(row('dispatch/one at a time'), { summary: { median: 8.5 }, holds: true, unit: '×' });
  t.match(row('memory/growth'), { holds: true, target: { atMost: 5 } });
  t.match(row('memory/rss-max'), { startedAt: '2026-01-02T00:00:00.000Z', commit: 'abc' });
});

await t.test('a row without a figure says why', async (t) => {
  t.equal(row('life/relay').problem, 'DISTURBED: spread 160 %');
  t.equal(row('conditions/hot-account').problem, 'DISTURBED: others');
  t.equal(row('ledger/batched-over-single').problem, 'FAILED: status 1: Redis went away');
  t.equal(row('peers/same-steps').problem, 'not measured: there is no suite peers yet');
  t.match(row('conditions/rows-5000000').problem, /^not measured here: run npm run bench -- rows --json/);
  t.equal(row('cpu/life').problem, 'not measured by hotpath');
  t.match(row('faults/lost').problem, /^left out/);
  t.match(row('flood/flood of 10 %/p50').problem, /^left out: run npm run bench -- flood/);
});

await t.test(
  'the table shows what holds, what falls short with its reason, and what has no figure',
  async (t) => {
    const text = wholeLines(WHOLE).join('\n');
    t.match(text, /bare relay +≥ 0\.70 +0\.55 \(0\.50 … 0\.60\) × +NO/);
    t.match(text, /one job at a time +≥ 7\.00 +8\.50 .* yes/);
    t.match(text, /falls short:\n {2}dispatch rate, saturated ÷ bare relay: The broker holds it back\./);
    t.match(text, /no figure:\n/);
    t.match(text, /hotpath: measured, 2026-01-02T00:00:00\.000Z, 1\.0 minutes/);
    t.match(text, /conditions: DISTURBED: others/);
    t.match(text, /limits: FAILED, 0\.0 minutes: status 1/);
    t.match(text, /bench\/results\/rows\.json: not there/);
    t.same(
      shortRows(WHOLE.rows).map(({ id }) => id),
      ['dispatch/relay'],
    );
    t.match(
      wholeLines({ ...WHOLE, remarks: {} }).join('\n'),
      /nothing is noted in bench\/results\/remarks\.json/,
    );
  },
);

await t.test('it is complete when every row has a figure and every suite ran through', async (t) => {
  t.notOk(isComplete(WHOLE));
  const rows = WHOLE.rows.map((one) => ({ ...one, summary: { n: 1, median: 1, min: 1, max: 1 } }));
  t.notOk(isComplete({ rows, outcomes: OUTCOMES }));
  const [good] = OUTCOMES;
  t.ok(isComplete({ rows, outcomes: good ? [good] : [] }));
});

await t.test('settings are kept once, those that differ apart', async (t) => {
  const off = { ...FSYNC, value: 'off' };
  t.same(distinctSettings([...OUTCOMES, measured('growth', [], { settings: [FSYNC, off] })]), [FSYNC, off]);
});

await t.test('options of all', async (t) => {
  t.match(allOptions(['--only', 'flood,hotpath', '--quick']), {
    suites: ['hotpath', 'flood'],
    isQuick: true,
  });
  t.match(allOptions([]), { suites: { length: 6 }, json: null, isQuick: false });
  for (const argv of [['--only', 'x'], ['--fast'], ['x']]) t.throws(() => allOptions(argv), UsageError);
});

await t.test('what an earlier call has measured can be kept', async (t) => {
  const failed = { suite: 'limits', isFile: false, state: 'failed', durationMs: 1, message: 'no time' };
  const outcomes = [measured('flood', []), failed, { ...measured('rows', []), isFile: true }];
  const whole = { version: 1, command: 'npm run bench -- all', rows: [], outcomes };
  const file = written(t.testdir(), whole);
  const { suites, kept } = allOptions(['--keep', file]);
  t.same(suites, ['hotpath', 'limits', 'peers', 'conditions', 'growth'], 'what failed runs again');
  t.same(
    kept.map(({ suite }) => suite),
    ['flood'],
    'files are read anew',
  );
  t.match(allOptions(['--keep', file, '--only', 'flood']), { suites: ['flood'], kept: [] });
  t.throws(() => allOptions(['--keep', 'nowhere.json']), BenchError);
  const quick = written(t.testdir(), { ...whole, command: 'npm run bench -- all --quick' });
  t.throws(() => allOptions(['--keep', quick]), /small runs/);
});

await t.test('remarks of the repository speak of figures that there are', async (t) => {
  const ids = new Set(WANTED.map(({ id }) => id));
  t.same(
    Object.keys(readRemarks()).filter((id) => !ids.has(id)),
    [],
  );
  t.same(readRemarks(join(t.testdir(), 'none.json')), {});
  t.throws(() => readRemarks(written(t.testdir(), { 'dispatch/relay': 1 })), BenchError);
});

await t.test('the suites fit into the time of all, with some to spare', async (t) => {
  const minutes = SUITES_OF_ALL.reduce((sum, one) => sum + one.minutes, 0);
  t.ok(minutes <= 0.9 * ALL_MINUTES_MAX, `${minutes} minutes`);
});

await t.test('every suite of all measures each figure of the design five times', async (t) => {
  for (const { pairs } of [hotpathOptions([]), limitsOptions([]), peersOptions([]), floodOptions([])])
    t.ok(pairs >= 5);
  t.ok(conditionsOptions([]).pairs >= 5);
});

await t.test('there is every suite of all', async (t) => {
  const { stderr } = spawnSync(process.execPath, [MAIN, 'nothing'], { encoding: 'utf8' });
  for (const { suite } of SUITES_OF_ALL) t.match(stderr, new RegExp(`^ {2}${suite} `, 'm'));
});

function written(folder: string, value: unknown): string {
  const file = join(folder, 'written.json');
  writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value));
  return file;
}

await t.test('a result file that is something else is told', async (t) => {
  const folder = t.testdir();
  const none = join(folder, 'none.json');
  t.same([readObject(none), readFindings(none, 'rows'), readWhole(none)], [null, null, null]);
  t.match(readFindings(written(folder, findings('rows', [])), 'rows'), { suite: 'rows' });
  t.match(readWhole(written(folder, WHOLE)), { version: 1 });
  for (const wrong of ['{', '[]', {}, findings('memory', []), { ...findings('rows', []), figures: [1] }])
    t.throws(() => readFindings(written(folder, wrong), 'rows'), BenchError);
  t.throws(() => readWhole(written(folder, { version: 2 })), BenchError);
  t.throws(() => readObject(folder), BenchError);
});

const ZEROS = {
  lost: 0,
  duplicated: 0,
  unlockedDispatches: 0,
  slotsLeaked: 0,
  tracesMissing: 1,
  unexpected: 0,
  unanswered: 0,
  invariantsBroken: 0,
  probesBroken: 0,
};
const COUNTS = { acknowledged: 100, settled: 90, voided: 5, refused: 5, ...ZEROS };
const RUN = {
  seed: 7,
  commit: 'abc',
  minutes: 5,
  crashes: [],
  verdict: COUNTS,
  faults: { kills: 40, killsAtPoints: 10, others: 30 },
};
const TOTAL = {
  runs: 2,
  minutes: 10,
  seeds: [1, 2],
  commits: ['def'],
  kills: 60,
  killsAtPoints: 20,
  otherFaults: 50,
  crashes: 0,
  columns: COUNTS,
};

await t.test('reports of one run and of several are added up', async (t) => {
  const figures = faultFigures([faultSummary('a', RUN), faultSummary('b', TOTAL)]);
  const values = Object.fromEntries(figures.map(({ id, values: own }) => [id, own[0]]));
  t.match(values, {
    'faults/runs': 3,
    'faults/minutes': 15,
    'faults/kills': 100,
    'faults/kills-at-failpoints': 30,
    'faults/others': 80,
    'faults/lost': 0,
    'faults/traces-missing': 2,
  });
  for (const { id } of WANTED.filter(({ suite }) => suite === 'faults'))
    t.same(figures.find((one) => one.id === id)?.target, { atMost: 0 }, id);
});

await t.test('a report that lacks something is refused by its name', async (t) => {
  for (const wrong of [{}, { ...RUN, faults: null }, { ...RUN, verdict: { ...COUNTS, lost: 'none' } }])
    t.throws(() => faultSummary('a.json', wrong), { name: 'BenchError', message: /^a\.json is no report/ });
});

function bench(...args: string[]) {
  return spawnSync(process.execPath, [MAIN, 'faults', ...args], { encoding: 'utf8' });
}

await t.test('faults writes a result file that all can read', async (t) => {
  const folder = t.testdir();
  const json = join(folder, 'faults.json');
  const { status, stdout } = bench(written(folder, RUN), '--json', json);
  t.equal(status, 0);
  t.match(stdout, /traces missing +1\.00 +≤ 0 +NO/);
  t.notMatch(stdout, /read back/, 'it has read no settings');
  t.match(readFindings(json, 'faults'), { machine: { commit: 'abc' }, runs: [{ seeds: [7] }] });
  t.match(bench(), { status: 2, stderr: /REPORT\.json is missing/ });
  t.match(bench(join(folder, 'none.json')), { status: 1, stderr: /there is no such file/ });
});
