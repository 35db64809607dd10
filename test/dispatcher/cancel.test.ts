import t from 'tap';
import type { CancelMessage } from '../../src/contracts/cancel.ts';
import { CANCEL_KEY } from '../../src/contracts/names.ts';
import { newUuidV7 } from '../../src/ids.ts';
import type { TestClient } from '../support/client.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** Jobs that their client no longer wants: before they came, while they wait, while they run, and after. */

/** Cancels as `client`; resolves to what it is told. */
async function cancel(
  tollgate: World,
  id: string,
  change: Partial<CancelMessage> = {},
  client: TestClient = tollgate.client,
) {
  const correlationId = newUuidV7();
  const body = { v: 1, id, account: 'acme', namespace: 'acme/prod', ...change };
  await client.send(Buffer.from(JSON.stringify(body)), {
    routingKey: CANCEL_KEY,
    expirationMs: undefined,
    correlationId,
  });
  const found = await until(
    () => client.replies.find((reply) => reply.correlationId === correlationId),
    'the answer to a cancellation',
  );
  return found.message;
}

await t.test('a cancellation that comes first is remembered, and its job never runs', async (t) => {
  const tollgate = await world(t);
  const job = tollgate.job();
  t.match(await cancel(tollgate, job.id), { job: job.id, state: 'cancelled', charged_micro: 0 });
  t.match(await tollgate.books.job(job.id), { state: 'cancelled', attempt: 0, locked_micro: '0' });
  t.match(await tollgate.run(job), { state: 'cancelled', error: { code: 'TG_JOB_CANCELLED' } });
  t.same(await tollgate.books.transfersOf(job.id), []);
  t.match(await cancel(tollgate, job.id), { state: 'cancelled' }, 'again is the same');
  await tollgate.slotsAreFree();
});

await t.test('a job that waits in its queue is cancelled', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  const job = tollgate.job();
  await tollgate.send(job);
  t.match(await cancel(tollgate, job.id), { state: 'cancelled' });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 4);
  await until(
    () => tollgate.client.repliesTo(job.id).some(({ messageId }) => messageId === `r-${job.id}`),
    'its reply',
  );
  t.same(worker.held, [], 'it was not dispatched');
  t.same(await tollgate.books.transfersOf(job.id), []);
});

await t.test('a job that runs is cancelled: void, its slot free, its worker told', async (t) => {
  const tollgate = await world(t, { workers: 0, model: { tokensPerSecond: 1, firstTokenMs: 10 } });
  await tollgate.addNode('n1');
  const begun: string[] = [];
  await tollgate.startWorker('n1', 4, { signals: { dispatchReceived: (key) => begun.push(key) } });
  const job = tollgate.job();
  await tollgate.send(job);
  await until(() => begun.includes(`${job.id}.1`), 'the worker to begin');
  t.match(await cancel(tollgate, job.id), { state: 'cancelled' });
  await until(
    () => tollgate.client.repliesTo(job.id).some(({ messageId }) => messageId === `r-${job.id}`),
    'its reply',
  );
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'void']);
  await tollgate.slotsAreFree();
  await until(async () => (await tollgate.books.traces('attempts', job.id)).length === 1, 'the trace');
  t.match(await tollgate.books.traces('attempts', job.id), [
    { outcome: 'cancelled', code: 'TG_JOB_CANCELLED', result: null },
  ]);
  t.equal(await tollgate.metric('tollgate_jobs_ended_total', { state: 'cancelled' }), 1);
  t.same(await tollgate.books.events({ code: 'TG_RESULT_LATE' }), [], 'the worker said nothing more');
});

await t.test('a job that has ended stays as it is', async (t) => {
  const tollgate = await world(t);
  const job = tollgate.job();
  t.equal((await tollgate.run(job)).state, 'succeeded');
  t.match(await cancel(tollgate, job.id), {
    state: 'refused',
    error: { code: 'TG_CANCEL_LATE', field: 'id' },
  });
  t.equal((await tollgate.books.job(job.id))?.state, 'succeeded');
});

await t.test('only the account that pays may cancel, and nonsense is refused by its field', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  await tollgate.addPublisher('rival');
  await tollgate.addAccount('other', ['rival'], 0n);
  const rival = await tollgate.connectClient('rival');
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 4);
  const job = tollgate.job();
  await tollgate.send(job);
  const held = await worker.dispatched(job.id);
  const theirs = { account: 'other', namespace: 'other/prod' };
  t.match(await cancel(tollgate, job.id, theirs, rival), { error: { code: 'TG_JOB_ID_IN_USE' } });
  t.match(await cancel(tollgate, job.id, {}, rival), {
    error: { code: 'TG_ACCOUNT_NOT_ENTITLED', field: 'account' },
  });
  t.match(await cancel(tollgate, 'x'), { error: { code: 'TG_JOB_ID_INVALID', field: 'id' } });
  t.match(await cancel(tollgate, job.id, { namespace: 'acme/none' }), {
    error: { code: 'TG_NAMESPACE_UNKNOWN', field: 'namespace' },
  });
  t.match(await cancel(tollgate, job.id.replace(/^.{8}/, '00000000')), {
    error: { code: 'TG_JOB_ID_WINDOW' },
  });
  await worker.finish(held);
  await until(async () => (await tollgate.books.job(job.id))?.state === 'succeeded', 'the job to run on');
});
