import t from 'tap';
import { UsageError } from '../../bench/arguments.ts';
import { type Contest, contests, PEERS, VARIANTS } from '../../bench/peers/settings.ts';
import { type PeerRun, peerFigures, shownSetting, subjectOf } from '../../bench/suites/peers-figures.ts';
import { backlogOf, peersOptions } from '../../bench/suites/peers-options.ts';

await t.test('without options all run in five pairs with the settings that were kept', async (t) => {
  t.same(peersOptions([]), { pairs: 5, jobs: 16_000, isTuning: false });
});

await t.test('--quick is one small pair, and what is given besides wins', async (t) => {
  t.match(peersOptions(['--quick']), { pairs: 1, jobs: 8_000 });
  t.match(peersOptions(['--quick', '--pairs=2', '--jobs', '4000', '--tune']), {
    pairs: 2,
    jobs: 4_000,
    isTuning: true,
  });
});

await t.test('a wrong argument is refused by its name', async (t) => {
  for (const argv of [['--pairs', 'x'], ['--jobs', '40000'], ['--only', 'bullmq'], ['more']])
    t.throws(() => peersOptions(argv), UsageError, argv.join(' '));
});

function backlog(variant: Contest['variant'], areLocksBatched: boolean): number {
  const setting = { concurrency: 1, fetched: 1, areLocksBatched };
  return backlogOf({ peer: 'bullmq', variant, setting }, 8_000);
}

await t.test('fast tasks get as many jobs as Tollgate, slower ones fewer', async (t) => {
  t.equal(backlog('no-op', false), 8_000);
  t.ok(backlog('same steps', false) < backlog('lock only', false));
  t.equal(backlog('same steps', true), 8_000);
});

await t.test('every peer has every task, and pg-boss once more with its locks together', async (t) => {
  const kept = contests(false);
  for (const variant of VARIANTS)
    for (const peer of PEERS)
      t.equal(
        kept.filter((one) => one.peer === peer && one.variant === variant && !one.setting.areLocksBatched)
          .length,
        1,
      );
  const batched = kept.filter(({ setting }) => setting.areLocksBatched);
  t.same(
    batched.map(({ peer, variant }) => [peer, variant]),
    [
      ['pg-boss', 'same steps'],
      ['pg-boss', 'lock only'],
    ],
  );
  t.equal(new Set(kept.map(subjectOf)).size, kept.length, 'each is told by its name');
  t.ok(contests(true).length > kept.length);
});

function run(contest: Partial<Contest>, pair: number, perSecond: number, areLocksBatched = false): PeerRun {
  return {
    peer: 'bullmq',
    variant: 'same steps',
    ...contest,
    setting: { concurrency: 8, fetched: 100, areLocksBatched },
    pair,
    jobs: 100,
    ms: 100,
    perSecond,
    cpuMs: {},
    foreignShare: 0,
  };
}

const OWN = [
  { pair: 1, perSecond: 900 },
  { pair: 0, perSecond: 800 },
];
const RUNS = [
  run({}, 0, 100),
  run({ peer: 'pg-boss' }, 0, 200),
  run({ peer: 'pg-boss' }, 0, 400, true),
  run({ peer: 'pg-boss' }, 1, 225),
  run({ peer: 'pg-boss' }, 1, 450, true),
  run({}, 1, 300),
  run({ variant: 'no-op' }, 0, 8_000),
  run({ variant: 'no-op' }, 1, 9_000),
];

function figure(id: string) {
  return peerFigures(OWN, RUNS).find((one) => one.id === id);
}

await t.test('the best peer is chosen within each pair', async (t) => {
  t.same(figure('peers/same-steps')?.values, [4, 3]);
  t.same(figure('peers/same-steps')?.target, { atLeast: 4 });
  t.same(figure('peers/same-steps/pg-boss')?.values, [4, 4]);
  t.same(figure('peers/same-steps/bullmq')?.values, [8, 3]);
});

await t.test('locks that share a transaction are shown beside, not among the others', async (t) => {
  t.same(figure('peers/same-steps/batched-locks')?.values, [2, 2]);
  t.equal(figure('peers/same-steps/batched-locks')?.target, null);
});

await t.test('a no-op is shown and not judged', async (t) => {
  t.same(figure('peers/no-op')?.values, [0.1, 0.1]);
  t.equal(figure('peers/no-op')?.target, null);
});

await t.test('what did not run has no figure', async (t) => {
  t.equal(figure('peers/lock-only'), undefined);
  t.same(figure('peers/rate/tollgate')?.values, [800, 900], 'in the order of the pairs');
  t.same(figure('peers/rate/bullmq, no-op')?.values, [8_000, 9_000]);
});

await t.test('a setting is told by what differs', async (t) => {
  t.equal(shownSetting({ concurrency: 100, fetched: 1, areLocksBatched: false }), '100 at a time');
  t.equal(shownSetting({ concurrency: 8, fetched: 50, areLocksBatched: false }), '8 at a time, 50 fetched');
});
