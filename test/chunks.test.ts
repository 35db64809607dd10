import t from 'tap';
import { chunksOf } from '../src/chunks.ts';

await t.test('chunks keep the order and lose nothing', async (t) => {
  t.same(chunksOf([1, 2, 3], 2), [[1, 2], [3]]);
  t.same(chunksOf([], 2), []);
});
