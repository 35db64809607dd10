import t from 'tap';
import { backlogOf, isSustained } from '../../bench/measure/backlog.ts';

const DUE_MS = [0, 10, 20, 30, 40];

await t.test('what was due and had not arrived is counted half-way and at the end', async (t) => {
  t.same(backlogOf(DUE_MS, [1, 11, 21, 31, 41]), { middle: 1, end: 1 }, 'only the one just due');
  t.same(backlogOf(DUE_MS, [5, 25, 45, 65, 85]), { middle: 2, end: 3 });
  t.same(backlogOf(DUE_MS, [1, Number.NaN, 21, 31, 40]), { middle: 2, end: 1 }, 'one that never came stays');
  t.same(backlogOf([], []), { middle: 0, end: 0 });
});

await t.test('a rate is sustained unless the backlog is large and still grows', async (t) => {
  t.ok(isSustained({ middle: 5, end: 9 }, 500), 'a few are on their way at any time');
  t.ok(isSustained({ middle: 400, end: 410 }, 500), 'behind, and not falling further behind');
  t.notOk(isSustained({ middle: 400, end: 800 }, 500));
});
