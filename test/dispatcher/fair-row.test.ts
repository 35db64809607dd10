import { array, assert, boolean, constantFrom, property, record } from 'fast-check';
import t from 'tap';
import { FairRow } from '../../src/dispatcher/fair-row.ts';

interface Item {
  readonly owner: string;
  readonly n: number;
}

function rowOf(counts: Readonly<Record<string, number>>): FairRow<Item> {
  const row = new FairRow<Item>(({ owner }) => owner);
  for (const [owner, count] of Object.entries(counts)) for (let n = 0; n < count; n++) row.push({ owner, n });
  return row;
}

function names(items: readonly Item[]): string[] {
  return items.map(({ owner, n }) => `${owner}${n}`);
}

/** Takes `countMax`, of which the first is served, and puts the others back. */
function serveFirst(row: FairRow<Item>, countMax = 64): string {
  const [first, ...others] = row.take(countMax);
  row.putBack(others);
  return first === undefined ? '' : `${first.owner}${first.n}`;
}

await t.test('owners are served in turn, in one take and in several', async (t) => {
  t.same(names(rowOf({ a: 100, b: 1, c: 1 }).take(5)), ['a0', 'b0', 'c0', 'a1', 'a2']);
  const row = rowOf({ a: 100, b: 2, c: 1 });
  t.same(
    Array.from({ length: 6 }, () => serveFirst(row)),
    ['a0', 'b0', 'c0', 'a1', 'b1', 'a2'],
  );
  t.equal(row.size, 97);
});

await t.test('a take that is put back whole costs nobody a turn', async (t) => {
  const row = rowOf({ a: 10, b: 10 });
  const served = Array.from({ length: 6 }, () => {
    const first = serveFirst(row);
    for (const countMax of [1, 64]) row.putBack(row.take(countMax));
    return first;
  });
  t.same(served, ['a0', 'b0', 'a1', 'b1', 'a2', 'b2']);
});

await t.test('who comes again is last, however quickly', async (t) => {
  const row = rowOf({ a: 2, b: 2, c: 1 });
  const served: string[] = [];
  for (let n = 1; n < 6; n++) {
    served.push(serveFirst(row));
    if (served.at(-1)?.startsWith('c')) row.push({ owner: 'c', n });
  }
  t.same(served, ['a0', 'b0', 'c0', 'a1', 'b1']);
});

await t.test(
  'what comes from elsewhere goes in front of its owner, and owners follow its order',
  async (t) => {
    const row = rowOf({ b: 1 });
    row.take(1);
    row.pushFirst([
      { owner: 'b', n: 0 },
      { owner: 'a', n: 0 },
      { owner: 'a', n: 1 },
    ]);
    row.push({ owner: 'a', n: 2 });
    row.pushFirst([{ owner: 'b', n: 9 }]);
    t.same(names(row.take(9)), ['b9', 'a0', 'b0', 'a1', 'a2']);
  },
);

await t.test('among owners who wait, none is served twice before another is once', async (t) => {
  const steps = array(record({ countMax: constantFrom(1, 2, 3, 64), isServed: boolean() }), {
    minLength: 20,
    maxLength: 60,
  });
  assert(
    property(steps, (plan) => {
      const owners = ['a', 'b', 'c', 'd'];
      const row = rowOf(Object.fromEntries(owners.map((owner) => [owner, 60])));
      const served = plan.flatMap(({ countMax, isServed }) => {
        if (isServed) return [serveFirst(row, countMax)];
        row.putBack(row.take(countMax));
        return [];
      });
      return served.every((name, i) => name === `${owners[i % 4]}${Math.floor(i / 4)}`);
    }),
  );
  t.pass();
});
