import t from 'tap';
import { readSource, ROOT } from '../support/source-files.ts';
import { applyPatch, readCanaries, verdictIn } from './canary.ts';

/** The cheap part of the canaries: `npm run canaries` runs them. */
const canaries = readCanaries();

await t.test('there are five broken builds', async (t) => {
  t.ok(canaries.length >= 5);
  for (const { whatIsBroken, caughtBy } of canaries) {
    t.ok(whatIsBroken.length > 10);
    t.ok(caughtBy.length > 0);
  }
});

await t.test('each still fits this tree', async (t) => {
  for (const canary of canaries) t.doesNotThrow(() => applyPatch(canary, ROOT, '--check'), canary.name);
});

await t.test('the tests they name are there', async (t) => {
  for (const { name, caughtBy } of canaries) {
    for (const { file, path } of caughtBy) {
      const { text } = readSource(file);
      for (const title of path) t.ok(text.includes(title), `${name}: ${file} has "${title}"`);
    }
  }
});

await t.test('the verdict on a test is read at its own depth', async (t) => {
  const tap = [
    '# Subtest: outer',
    '    # Subtest: inner',
    '        not ok 1 - outer',
    '    not ok 1 - inner # time=2ms',
    'ok 1 - outer # time=3ms',
  ].join('\n');
  t.equal(verdictIn(tap, ['outer']), 'passed');
  t.equal(verdictIn(tap, ['outer', 'inner']), 'failed');
  t.equal(verdictIn(tap, ['outer', 'other']), 'did not run');
});
