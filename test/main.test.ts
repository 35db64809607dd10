import t from 'tap';
import { world } from './support/world.ts';

await t.test('a job runs from the queue to the reply', async (t) => {
  const tollgate = await world(t);
  const reply = await tollgate.run(tollgate.job());
  t.equal(reply.state, 'succeeded', JSON.stringify(reply));
  t.ok(reply.output && reply.output.text.length > 0);
  t.ok(reply.charged_micro > 0);
});
