import t from 'tap';
import { UnderWay } from '../../src/dispatcher/under-way.ts';

/** Resolves when all promises that are due have been heard. */
function turn(): Promise<string> {
  return new Promise((resolve) => setImmediate(resolve, 'a turn'));
}

function setUp(count: number) {
  const underWay = new UnderWay();
  const ends: (() => void)[] = [];
  const heard: number[] = [];
  const begin = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    ends.push(resolve);
    underWay.add(promise, () => heard.push(underWay.size));
  };
  for (let i = 0; i < count; i += 1) begin();
  return { underWay, ends, heard, begin };
}

await t.test('what has ended no longer counts when its end is heard', async (t) => {
  const { underWay, ends, heard } = setUp(3);
  t.equal(underWay.size, 3);
  ends[1]?.();
  await underWay.next();
  t.equal(underWay.size, 2);
  t.same(heard, [2]);
});

await t.test('below waits until so few are under way, whichever end first', async (t) => {
  const { underWay, ends } = setUp(3);
  const below = underWay.below(2).then(() => 'below');
  ends[2]?.();
  t.equal(await Promise.race([below, turn()]), 'a turn', 'two are still under way');
  ends[0]?.();
  t.equal(await below, 'below');
  await underWay.below(2);
  t.equal(underWay.size, 1);
});

await t.test('ended waits for what is begun meanwhile, too', async (t) => {
  const { underWay, ends, begin } = setUp(1);
  const ended = underWay.ended().then(() => 'ended');
  begin();
  ends[0]?.();
  t.equal(await Promise.race([ended, turn()]), 'a turn', 'the second is under way');
  ends[1]?.();
  t.equal(await ended, 'ended');
  await new UnderWay().ended();
});
