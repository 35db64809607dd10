import t from 'tap';
import { askAgain, pagesOf } from '../../src/audit/pages.ts';
import { systemClock } from '../../src/clock.ts';
import { collect } from './collect.ts';

await t.test('pages follow each other by their last row until one is short', async (t) => {
  const asked: (number | null)[] = [];
  const pages = pagesOf<number>(2, async (after) => {
    asked.push(after);
    return [1, 2, 3, 4].filter((n) => n > (after ?? 0)).slice(0, 2);
  });
  t.same(await collect(pages), [
    [1, 2],
    [3, 4],
  ]);
  t.same(asked, [null, 2, 4]);
});

await t.test('suspects are asked again until they are cleared', async (t) => {
  let looks = 0;
  const clear = async (suspects: readonly number[]) => {
    looks += 1;
    return suspects.slice(1);
  };
  t.same(await askAgain([], 10_000, systemClock, clear), []);
  t.equal(looks, 0, 'nobody is asked about nothing');
  t.same(await askAgain([1, 2], 10_000, systemClock, clear), []);
  t.equal(looks, 2);
});

await t.test('suspects that stay are returned when the time is over, after a last look', async (t) => {
  const asked: string[][] = [];
  let nowMs = 0;
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const left = await askAgain(['a', 'b'], 300, clock, async (suspects) => {
    asked.push([...suspects]);
    nowMs += 150;
    return suspects.filter((one) => one === 'b');
  });
  t.same(left, ['b']);
  t.same(asked, [['a', 'b'], ['b']]);
});
