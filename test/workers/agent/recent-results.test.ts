import t from 'tap';
import { RecentResults } from '../../../src/workers/agent/recent-results.ts';

await t.test('the oldest results are forgotten first, by number and by bytes', async (t) => {
  const recent = new RecentResults({ resultsMax: 3, bytesMax: 100 });
  for (const key of ['a', 'b', 'c', 'd']) recent.add(key, Buffer.alloc(10, key));
  t.equal(recent.get('a'), undefined);
  t.same(recent.get('b'), Buffer.alloc(10, 'b'));
  recent.add('e', Buffer.alloc(85));
  t.same(
    ['b', 'c', 'd', 'e'].map((key) => recent.get(key)?.length),
    [undefined, undefined, 10, 85],
  );
});

await t.test('a result larger than the whole memory is not kept, and a repeat changes nothing', async (t) => {
  const recent = new RecentResults({ resultsMax: 3, bytesMax: 100 });
  recent.add('large', Buffer.alloc(101));
  t.equal(recent.get('large'), undefined);
  recent.add('a', Buffer.alloc(60, 1));
  recent.add('a', Buffer.alloc(60, 2));
  t.same(recent.get('a'), Buffer.alloc(60, 1));
  recent.add('b', Buffer.alloc(40));
  t.ok(recent.get('a'), 'the repeat was not counted twice');
});
