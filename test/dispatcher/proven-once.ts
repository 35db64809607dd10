import type { Test } from 'tap';
import type { JobMessage } from '../../src/contracts/job.ts';
import type { ReplyMessage } from '../../src/contracts/reply.ts';
import { until } from '../support/until.ts';
import type { World } from '../support/world.ts';

/** The job ended well, its lock was captured once, its trace is whole, and nothing of it is left in Redis. */
export async function provenOnce(t: Test, tollgate: World, job: JobMessage): Promise<ReplyMessage> {
  const reply = await tollgate.reply(job.id, 30_000);
  t.equal(reply.state, 'succeeded', JSON.stringify(reply.error));
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'capture']);
  const attempts = (await tollgate.books.job(job.id))?.attempt ?? 0;
  const isTraced = async () =>
    (await tollgate.books.traces('requests', job.id)).length === 1 &&
    (await tollgate.books.traces('attempts', job.id)).length === attempts;
  await until(isTraced, 'the trace', { timeoutMs: 20_000 });
  await tollgate.slotsAreFree();
  for (const { counted, computed } of await tollgate.books.accounts()) t.equal(counted, computed);
  return reply;
}
