import t from 'tap';
import { readOptions } from '../../chaos/options.ts';

await t.test('without arguments one seed is run for five minutes', async (t) => {
  t.same(readOptions([]), {
    seed: null,
    minutes: 5,
    jobsPerSecond: 30,
    everyMs: 2_000,
    json: null,
    resume: null,
    isKept: false,
    isFull: false,
    isSoak: false,
    isOverlapping: false,
    runsMax: null,
  });
});

await t.test('the full programme keeps its runs, so that it can go on where it was', async (t) => {
  t.match(readOptions(['--full', '--runs', '3']), { isFull: true, runsMax: 3, resume: 'chaos-runs' });
  t.match(readOptions(['--full', '--resume', 'elsewhere']), { resume: 'elsewhere' });
  t.match(readOptions(['--full']), { isOverlapping: true, everyMs: 500 });
});

await t.test('a soak is an hour with a fault every 20 s unless it is told', async (t) => {
  t.match(readOptions(['--soak']), { isSoak: true, minutes: 60, everyMs: 20_000 });
  t.match(readOptions(['--soak', '--minutes', '2', '--every', '1']), { minutes: 2, everyMs: 1_000 });
  t.throws(() => readOptions(['--soak', '--full']), /one long run/);
  t.throws(() => readOptions(['--soak', '--overlap']), /strikes all/);
});

await t.test('what makes no sense is refused with a word why', async (t) => {
  t.throws(() => readOptions(['--seed', 'x']), /--seed expects a number/);
  t.throws(() => readOptions(['--minutes', '0']), /--minutes expects a number from 0.1/);
  t.throws(() => readOptions(['--runs', '3']), /--runs is for --full/);
  t.throws(() => readOptions(['--full', '--seed', '3']), /chooses the seeds itself/);
  t.throws(() => readOptions(['--what']), /what/);
  t.equal(readOptions(['--help']), null);
});
