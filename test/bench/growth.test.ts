import t from 'tap';
import { UsageError } from '../../bench/arguments.ts';
import { lateRate } from '../../bench/measure/flow.ts';
import { figure, verdictOf } from '../../bench/report/findings.ts';
import { conditionsOptions } from '../../bench/suites/conditions-options.ts';
import { type ConditionRun, cpuLines, figuresOf } from '../../bench/suites/conditions-figures.ts';
import { compareOptions } from '../../bench/suites/compare-options.ts';
import {
  accountsJobs,
  type GrowthRun,
  growthFigures,
  PAYING_ACCOUNTS,
} from '../../bench/suites/growth-figures.ts';
import { growthOptions } from '../../bench/suites/growth-options.ts';
import { memoryMinutes } from '../../bench/suites/memory.ts';
import { rowsOptions } from '../../bench/suites/rows.ts';
import { makeJobs } from '../../bench/world/jobs.ts';
import { NODES, RUN_JOBS_MAX, SLOTS_PER_NODE } from '../../bench/world/names.ts';
import { planWithAccounts } from '../../bench/world/plan.ts';

const RUN = {
  kind: 'dispatch',
  subject: 'tollgate',
  pair: 0,
  jobs: 1_000,
  ms: 200,
  firstMs: 5,
  perSecond: 5_000,
  cpuMs: { 'usual: daemon 1': 90, 'usual: daemon 2': 10, 'other: daemon 1': 50, postgres: 20, mongodb: 10 },
  foreignShare: 0,
} as const;

function growthRun(change: Partial<GrowthRun>): GrowthRun {
  const bytes = { postgres: 1_200_000, mongo: 900_000 };
  return { ...RUN, axis: 'pools', value: 100, daemons: 'usual', bytes, ...change };
}

await t.test('cost is per job: of all daemons of its world, of each server, in each store', async (t) => {
  const figures = growthFigures([growthRun({}), growthRun({ pair: 1, jobs: 2_000 })]);
  const of = (ending: string) => figures.find(({ id }) => id === `growth/pools/100/${ending}`)?.values;
  t.same(of('rate'), [5_000, 5_000]);
  t.same(of('cpu-tollgate'), [100, 50]);
  t.same(of('cpu-postgres'), [20, 10]);
  t.same(of('cpu-mongod'), [10, 5]);
  t.same(of('bytes-postgres'), [1_200, 600]);
  t.same(of('bytes-mongo'), [900, 450]);
  t.equal(of('cpu-redis'), undefined, 'a server that is not ours has no figure');
});

await t.test('values of an axis stand in their order, and axes in theirs', async (t) => {
  const runs = [growthRun({ value: 1_000 }), growthRun({}), growthRun({ axis: 'payload', value: 1_024 })];
  const rates = growthFigures(runs).filter(({ id }) => id.endsWith('/rate'));
  t.same(
    rates.map(({ id }) => id),
    ['growth/payload/1024/rate', 'growth/pools/100/rate', 'growth/pools/1000/rate'],
  );
});

await t.test('as many accounts pay as the axis says, however few jobs were asked for', async (t) => {
  const plan = planWithAccounts(Math.max(...PAYING_ACCOUNTS));
  for (const argv of [[], ['--quick'], ['--jobs', '200']]) {
    const jobs = accountsJobs(growthOptions(argv).jobs);
    for (const count of PAYING_ACCOUNTS) {
      const made = makeJobs(jobs, { accounts: plan.accounts.slice(0, count) });
      const payers = new Set(made.map(({ body }) => JSON.parse(body.toString()).account));
      t.equal(payers.size, count, `${count} of ${jobs} jobs`);
    }
  }
});

await t.test('runs of growth are enough to judge how far they lie apart', async (t) => {
  const values = [1, 1, 9, 9];
  t.equal(growthOptions([]).runs, values.length);
  t.match(verdictOf(figure('a', 'a', '/s', values)), { spread: 1.6 });
});

await t.test('no run has more jobs than the nodes have slots', async (t) => {
  t.ok(RUN_JOBS_MAX < NODES.length * SLOTS_PER_NODE);
  for (const read of [conditionsOptions, growthOptions, rowsOptions]) {
    t.equal(read(['--jobs', '32000']).jobs, RUN_JOBS_MAX);
    t.throws(() => read(['--jobs', '32001']), UsageError);
  }
  t.throws(() => compareOptions(['HEAD', '--jobs', '32001']), UsageError);
});

await t.test('a rate is that of the arrivals after the first ones', async (t) => {
  t.equal(lateRate([0, 1_000, 1_010, 1_020, 1_030], 0.25), 100);
});

function conditionRun(isWith: boolean, pair: number, perSecond: number): ConditionRun {
  return { ...RUN, condition: 'hot-account', isWith, pair, perSecond };
}

await t.test('a condition is its two rates and their ratio within the pairs', async (t) => {
  const runs = [
    conditionRun(false, 0, 100),
    conditionRun(true, 0, 90),
    conditionRun(true, 1, 40),
    conditionRun(false, 1, 80),
  ];
  const figures = figuresOf('hot-account', { title: 'one hot account', target: { atLeast: 0.85 } }, runs);
  t.same(
    figures.map(({ id, values }) => [id, values]),
    [
      ['conditions/hot-account/without', [100, 80]],
      ['conditions/hot-account/with', [90, 40]],
      ['conditions/hot-account', [0.9, 0.5]],
    ],
  );
  t.same(figures.at(-1)?.target, { atLeast: 0.85 });
});

await t.test('CPU per job stands side by side, of all daemons together', async (t) => {
  const lines = cpuLines([
    conditionRun(false, 0, 100),
    conditionRun(true, 0, 90),
    conditionRun(false, 1, 100),
  ]);
  t.match(lines[0], /^CPU µs per job, hot-account +without +with$/);
  t.match(lines[1], /^daemons +150 +150$/);
  t.match(lines[2], /^postgres +20.0 +20.0$/);
});

await t.test('each suite has its own options, and refuses those of another', async (t) => {
  t.match(conditionsOptions(['--only', 'pools-1000,commit-5ms']), {
    names: ['commit-5ms', 'pools-1000'],
    pairs: 5,
  });
  t.match(growthOptions(['--quick', '--only=pools']), { axes: ['pools'], runs: 1 });
  t.match(rowsOptions([]), { rows: 5_000_000, pairs: 5 });
  t.equal(memoryMinutes(['--minutes', '3']), 3);
  const wrong: [() => unknown, RegExp][] = [
    [() => conditionsOptions(['--only', 'rain']), /--only knows .*got "rain"/],
    [() => conditionsOptions(['--minutes', '3']), /Unknown option '--minutes'/],
    [() => growthOptions(['--only', 'pools,depth']), /--only knows .*got "depth"/],
    [() => rowsOptions(['--rows', '10']), /--rows expects a whole number from 1000/],
    [() => memoryMinutes(['--minutes', 'ten']), /--minutes expects/],
  ];
  for (const [read, message] of wrong) {
    t.throws(read, UsageError);
    t.throws(read, { message });
  }
});
