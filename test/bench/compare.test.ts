import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { UsageError } from '../../bench/arguments.ts';
import { BenchError } from '../../bench/bench-error.ts';
import type { LatencyRun, SaturatedRun } from '../../bench/measure/runs.ts';
import { quantilesOf } from '../../bench/measure/statistics.ts';
import { checkOut, commitOf } from '../../bench/process/checkout.ts';
import { compareFigures, compareLines, type CompareRun, said } from '../../bench/suites/compare-figures.ts';
import { compareOptions } from '../../bench/suites/compare-options.ts';

const SATURATED: SaturatedRun = {
  kind: 'dispatch',
  subject: 'tollgate',
  pair: 0,
  jobs: 1_000,
  ms: 100,
  firstMs: 5,
  perSecond: 10_000,
  cpuMs: { tollgate: 50 },
  foreignShare: 0,
};
const LATENCY: LatencyRun = {
  kind: 'latency',
  subject: 'tollgate',
  pair: 0,
  perSecond: 1_000,
  latencyMs: quantilesOf([1, 2, 4]),
  latenessMs: quantilesOf([0]),
  backlog: { middle: 0, end: 0 },
  cpuMs: {},
  foreignShare: 0,
};

// As they come: A B B A.
const RUNS: readonly CompareRun[] = [
  { ...SATURATED, side: 'old' },
  { ...SATURATED, side: 'new', perSecond: 11_000, cpuMs: { tollgate: 40 } },
  { ...LATENCY, side: 'old' },
  { ...LATENCY, side: 'new', latencyMs: quantilesOf([2, 4, 8]) },
  { ...SATURATED, side: 'new', pair: 1, perSecond: 9_600 },
  { ...SATURATED, side: 'old', pair: 1, perSecond: 8_000 },
];

await t.test('ratios are formed within each pair, new over old', async (t) => {
  const figures = new Map(compareFigures(RUNS).map((figure) => [figure.id, figure.values]));
  t.same(figures.get('compare/dispatch/rate/old'), [10_000, 8_000]);
  t.same(figures.get('compare/dispatch/rate/new'), [11_000, 9_600]);
  t.same(figures.get('compare/dispatch/rate'), [1.1, 1.2]);
  t.same(figures.get('compare/dispatch/cpu'), [0.8, 1]);
  t.same(figures.get('compare/latency/1000/p50'), [2]);
  t.notOk(figures.has('compare/life/rate'), 'what did not run has no figure');
});

await t.test('the lines say whether the interval leaves 1 out, and which way', async (t) => {
  t.equal(said({ mean: 1.1, low: 1.02, high: 1.2 }, true), 'excludes 1: the new one is better');
  t.equal(said({ mean: 1.1, low: 1.02, high: 1.2 }, false), 'excludes 1: the new one is WORSE');
  t.equal(said({ mean: 0.9, low: 0.8, high: 0.95 }, true), 'excludes 1: the new one is WORSE');
  t.equal(said({ mean: 0.9, low: 0.8, high: 0.95 }, false), 'excludes 1: the new one is better');
  t.equal(said({ mean: 1, low: 0.9, high: 1.1 }, true), 'includes 1: no difference shown');
  const text = compareLines(RUNS).join('\n');
  t.match(text, /saturated dispatch +1\.15 +\[0\.66, 2\.00\] +includes 1/);
  t.match(text, /latency at 1000\/s, p50 +2\.00 +\[–, –\] +too few pairs to tell/);
});

await t.test('options: one REV and bounds', async (t) => {
  t.match(compareOptions(['main']), { rev: 'main', pairs: 8, parts: ['dispatch', 'life'] });
  t.match(compareOptions(['--quick', 'HEAD~1', '--only', 'latency']), { pairs: 1, parts: ['latency'] });
  for (const argv of [[], [''], ['a', 'b'], ['a', '--pairs', '0'], ['a', '--fast'], ['a', '--only', 'x']])
    t.throws(() => compareOptions(argv), UsageError, argv.join(' '));
});

function git(cwd: string, ...args: string[]): string {
  const who = ['-c', 'user.name=bench', '-c', 'user.email=bench@localhost', '-c', 'commit.gpgsign=false'];
  const { status, stdout, stderr } = spawnSync('git', [...who, ...args], { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`git ${args.join(' ')}: ${stderr}`);
  return stdout.trim();
}

/** A repository with one commit, and packages. */
function repository(folder: string): string {
  git(folder, 'init', '--quiet', '--initial-branch=main');
  writeFileSync(join(folder, 'package-lock.json'), '{}');
  git(folder, 'add', '.');
  git(folder, 'commit', '--quiet', '--message', 'First');
  mkdirSync(join(folder, 'node_modules'));
  return folder;
}

await t.test('a commit is checked out with our packages, and removed at the end', async (t) => {
  const root = repository(t.testdir());
  const endings: (() => unknown)[] = [];
  const commit = commitOf('main', root);
  t.equal(commit, git(root, 'rev-parse', 'HEAD'));
  const folder = checkOut({ after: (end) => void endings.push(end) }, commit, root);
  t.ok(existsSync(join(folder, 'package-lock.json')));
  t.ok(lstatSync(join(folder, 'node_modules')).isSymbolicLink());
  for (const end of endings) end();
  t.notOk(existsSync(dirname(folder)));
  t.equal(git(root, 'worktree', 'list').split('\n').length, 1);
  t.ok(existsSync(join(root, 'node_modules')), 'what the link pointed to stays');
});

await t.test('what is no commit is told', async (t) => {
  const root = repository(t.testdir());
  t.throws(() => commitOf('nowhere', root), UsageError);
  t.throws(() => commitOf('--all', root), UsageError);
  t.throws(() => checkOut(t, '0'.repeat(40), root), BenchError);
});
