import t from 'tap';
import { judge, readTap } from './count-tests.ts';

const RUN = `TAP version 14
# Subtest: test/a.test.ts
    # Subtest: inner
        ok 1 - has \\# hash # SKIP later
        # { total: 1, skip: 1 }
        1..1
    ok 1 - inner # time=1.127ms
    ok 2 - planned # TODO
    ok 3 - good
    1..3
ok 1 - test/a.test.ts # time=49.368ms
# { total: 3, pass: 1, todo: 1, skip: 1 }
# time=733.494ms
`;
const SKIPS = ['test/a.test.ts > inner > has # hash', 'test/a.test.ts > planned'];

await t.test('totals and skips are read from the whole run', (t) => {
  t.same(readTap(RUN), { passed: 1, failed: 0, skips: SKIPS, isComplete: true });
  t.end();
});

await t.test('a skip that is listed with its reason is counted and told', (t) => {
  const listed = SKIPS.map((test) => ({ test, reason: 'no room' }));
  const { lines, exitStatus } = judge(readTap(RUN), 0, listed);
  t.equal(lines.at(-1), '1 passed, 0 failed, 2 skipped');
  t.match(lines[0], 'no room');
  t.equal(exitStatus, 0);
  t.end();
});

await t.test('a skip without an entry, or without a reason, is a failure', (t) => {
  const { lines, exitStatus } = judge(readTap(RUN), 0, [{ test: SKIPS[0] ?? '', reason: '' }]);
  t.equal(lines.filter((line) => line.startsWith('skipped, but not listed')).length, 2);
  t.equal(exitStatus, 1);
  t.end();
});

const FAULTY = {
  'a failed test': ['# { total: 2, pass: 1, fail: 1 }', 1, '1 passed, 1 failed'],
  'no passed test': ['# { total: 0 }', 0, '0 passed, 1 failed'],
  'a run that was cut off': ['ok 1 - x', 0, '0 passed, 1 failed'],
  'a run that failed without a failed test': ['# { total: 2, pass: 2 }', 1, '2 passed, 1 failed'],
} as const;

for (const [what, [text, status, last]] of Object.entries(FAULTY)) {
  await t.test(`${what} is a failure`, (t) => {
    const { lines, exitStatus } = judge(readTap(text), status, []);
    t.equal(lines.at(-1), last);
    t.equal(exitStatus, 1);
    t.end();
  });
}
