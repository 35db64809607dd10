import { assert, integer, nat, property } from 'fast-check';
import t from 'tap';
import type { Priority } from '../../src/contracts/names.ts';
import { PriorityQueue } from '../../src/dispatcher/priority-queue.ts';

interface Item {
  readonly priority: Priority;
  readonly n: number;
}

function filled(interactive: number, batch: number): PriorityQueue<Item> {
  const queue = new PriorityQueue<Item>(0.1, () => 'acme');
  for (let n = 0; n < interactive; n++) queue.push({ priority: 'interactive', n });
  for (let n = 0; n < batch; n++) queue.push({ priority: 'batch', n });
  return queue;
}

function inOrder(numbers: readonly number[], count: number): boolean {
  return numbers.length === count && numbers.every((n, i) => n === i);
}

await t.test('batch keeps a tenth when both wait', async (t) => {
  const taken = filled(1_000, 1_000).take(100);
  t.equal(taken.filter((item) => item.priority === 'batch').length, 10);
  t.ok(
    taken.slice(0, 50).some((item) => item.priority === 'batch'),
    'spread, not at the end',
  );
});

await t.test('batch keeps a tenth where one job at a time is placed and the others go back', async (t) => {
  const queue = filled(1_000, 1_000);
  const placed = Array.from({ length: 100 }, () => {
    const [first, ...others] = queue.take(64);
    queue.putBack(others);
    return first;
  });
  t.equal(placed.filter((item) => item?.priority === 'batch').length, 10);
});

await t.test('batch keeps a tenth of what is placed, however many are at a time', async (t) => {
  for (const atATime of [1, 2, 3, 7, 15]) {
    const queue = filled(1_000, 1_000);
    const placed: Item[] = [];
    while (placed.length < 30) {
      const taken = queue.take(64);
      placed.push(...taken.slice(0, atATime));
      queue.putBack(taken.slice(atATime));
    }
    for (let from = 0; from < 30; from += 10) {
      const ten = placed.slice(from, from + 10).filter(({ priority }) => priority === 'batch');
      t.equal(ten.length, 1, `${atATime} at a time, from ${from} on`);
    }
  }
});

await t.test('interactive goes first also where as many wait of each', async (t) => {
  const taken = filled(15, 15).take(30);
  const early = taken.slice(0, 15).filter((item) => item.priority === 'batch');
  t.ok(early.length >= 1 && early.length <= 2, `${early.length} of the first 15`);
});

await t.test('batch takes what interactive leaves', async (t) => {
  t.equal(filled(3, 50).take(20).length, 20);
  t.equal(filled(0, 50).take(20).length, 20);
});

await t.test('nothing is lost or doubled, and each row keeps its order', async (t) => {
  assert(
    property(nat(80), nat(80), integer({ min: 1, max: 40 }), (interactive, batch, countMax) => {
      const queue = filled(interactive, batch);
      const all: Item[] = [];
      while (queue.size > 0) {
        const taken = queue.take(countMax);
        if (taken.length !== Math.min(countMax, interactive + batch - all.length)) return false;
        // Every second take is put back once: held jobs go in front again.
        if (all.length === 0 && taken.length > 1) {
          queue.putBack(taken);
          all.push(...queue.take(countMax));
        } else all.push(...taken);
      }
      const rows = (priority: Priority) =>
        all.filter((item) => item.priority === priority).map((item) => item.n);
      return inOrder(rows('interactive'), interactive) && inOrder(rows('batch'), batch);
    }),
  );
  t.pass();
});

await t.test('remove takes out what matches, in order', async (t) => {
  const queue = filled(4, 2);
  const gone = queue.remove((item) => item.n % 2 === 0);
  t.same(
    gone.map((item) => [item.priority, item.n]),
    [
      ['interactive', 0],
      ['interactive', 2],
      ['batch', 0],
    ],
  );
  t.equal(queue.size, 3);
});
