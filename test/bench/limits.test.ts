import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { UsageError } from '../../bench/arguments.ts';
import { fdatasyncRate, ownRate } from '../../bench/suites/limits-disk.ts';
import { COMPARED, type LimitRun, limitFigures } from '../../bench/suites/limits-figures.ts';
import { limitsOptions } from '../../bench/suites/limits-options.ts';
import { type Load, rateOf } from '../../bench/suites/limits-rate.ts';

await t.test('without options every limit is measured five times', async (t) => {
  t.same(limitsOptions([]), { pairs: 5, windowMs: 600, jobs: 20_000 });
});

await t.test('--quick measures once and shortly, and what is given besides wins', async (t) => {
  const quick = limitsOptions(['--quick']);
  t.equal(quick.pairs, 1);
  t.ok(quick.windowMs < limitsOptions([]).windowMs);
  t.match(limitsOptions(['--quick', '--pairs=3', '--jobs', '500', '--json', 'x']), { pairs: 3, jobs: 500 });
});

await t.test('a wrong argument is refused by its name', async (t) => {
  for (const argv of [['--pairs', '0'], ['--jobs', 'many'], ['--seconds', '3'], ['more']])
    t.throws(() => limitsOptions(argv), UsageError, argv.join(' '));
});

const nothing = async (count: number) => Array.from({ length: count }, () => async () => undefined);
const failing = async () => [() => Promise.reject(new Error('no'))];

function load(change: Partial<Load> = {}): Load {
  return { id: 'a', name: 'a', perCall: 512, lanes: 2, prepare: nothing, ...change };
}

await t.test('a rate counts what was done under the clock, and what was done is undone', async (t) => {
  let prepared = 0;
  let called = 0;
  let undone = 0;
  const rate = await rateOf(
    load({
      prepare: async (count) => {
        prepared += count;
        return Array.from({ length: count }, () => async () => void (called += 1));
      },
      undo: async () => void (undone += 1),
    }),
    0.01,
  );
  t.ok(rate > 0);
  t.equal(called, prepared);
  t.equal(called % 8, 0, '4,096 things of 512 are 8 calls');
  t.equal(undone, called / 8);
});

await t.test('as many calls are under way as there are lanes', async (t) => {
  let open = 0;
  let most = 0;
  const call = async (): Promise<void> => {
    most = Math.max(most, ++open);
    await Promise.resolve();
    open -= 1;
  };
  await rateOf(load({ lanes: 3, prepare: async (count) => Array.from({ length: count }, () => call) }), 0.01);
  t.equal(most, 3);
});

await t.test('a call that fails ends the measurement', async (t) => {
  await t.rejects(rateOf(load({ prepare: failing }), 1), { message: 'no' });
});

function run(id: string, pair: number, perSecond: number): LimitRun {
  return { id, name: `${id} by name`, pair, perSecond, foreignShare: 0 };
}

await t.test('the ratio that the design asks for is formed within the pair', async (t) => {
  const figures = limitFigures([
    run('relay', 0, 10),
    run(COMPARED.batched, 0, 400),
    run(COMPARED.single, 0, 100),
    run('relay', 1, 12),
    run(COMPARED.single, 1, 50),
    run(COMPARED.batched, 1, 300),
  ]);
  t.same(
    figures.map(({ id, values }) => [id, values]),
    [
      ['limits/relay', [10, 12]],
      ['limits/ledger/batched', [400, 300]],
      ['limits/ledger/single', [100, 50]],
      ['ledger/batched-over-single', [4, 6]],
    ],
  );
  t.same(figures.at(-1)?.target, { atLeast: 3.5 });
});

await t.test('without the two runs there is no ratio', async (t) => {
  t.same(
    limitFigures([run('relay', 0, 10), run(COMPARED.batched, 0, 1)]).map(({ id }) => id),
    ['limits/relay', 'limits/ledger/batched'],
  );
});

const TOLD = `Compare file sync methods using one 8kB write:
        open_datasync                     25046.424 ops/sec      40 usecs/op
        fdatasync                         20020.459 ops/sec      50 usecs/op
`;

await t.test('the rate of fdatasync is read from what pg_test_fsync says', async (t) => {
  t.equal(fdatasyncRate(TOLD), 20_020.459);
  t.equal(fdatasyncRate(`${TOLD}        fdatasync                         9.000 ops/sec`), 20_020.459);
  t.equal(fdatasyncRate('        fdatasync         '), null);
  t.equal(fdatasyncRate(''), null);
});

await t.test('our own loop flushes a file', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-flush-'));
  t.after(() => rmSync(folder, { recursive: true }));
  t.ok((await ownRate(join(folder, 'page'), 20)) > 0);
});
