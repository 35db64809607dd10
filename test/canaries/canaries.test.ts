import t from 'tap';
import { readSource, ROOT } from '../support/source-files.ts';
import { changesOf, endingIn, readCanaries } from './canary.ts';

/** The cheap part of the canaries: `npm run canaries` runs them. */
const canaries = readCanaries();

await t.test('there are at least twenty broken builds, each said in words', async (t) => {
  t.ok(canaries.length >= 20);
  const table = readSource('test/canaries/README.md').text;
  for (const { name, whatIsBroken, caughtBy } of canaries) {
    t.ok(whatIsBroken.length > 10);
    t.ok(caughtBy.length > 0);
    t.ok(table.includes(`| ${name} `), `${name} has its row in the table`);
  }
});

await t.test('each still fits this tree, and changes it', async (t) => {
  for (const canary of canaries) {
    t.doesNotThrow(() => {
      for (const { path, before, after } of changesOf(canary, ROOT))
        t.not(before, after, `${canary.name} changes ${path}`);
    }, canary.name);
  }
});

await t.test('the tests they name are there', async (t) => {
  for (const { name, caughtBy } of canaries) {
    for (const { file, path } of caughtBy) {
      const { text } = readSource(file);
      for (const title of path) t.ok(text.includes(title), `${name}: ${file} has "${title}"`);
    }
  }
});

await t.test('the verdict on a test is read at its own depth, and why from what failed first', async (t) => {
  const tap = [
    '# Subtest: outer',
    '    # Subtest: inner',
    '        not ok 1 - outer',
    '    not ok 1 - inner # time=2ms',
    'ok 1 - outer # time=3ms',
  ].join('\n');
  t.same(endingIn(tap, ['outer']), { verdict: 'passed', why: null });
  t.same(endingIn(tap, ['outer', 'inner']), { verdict: 'failed', why: 'outer' });
  t.match(endingIn(tap, ['outer', 'other']), { verdict: 'did not run' });
});
