import t from 'tap';
import { nodeQueue } from '../../src/contracts/names.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';

/** Jobs that are locked and get no good result: each ends once, its lock resolved, its slot free, its client told. */

await t.test('a job whose node has no queue runs once it has one, and no try is used up', async (t) => {
  const tollgate = await world(t);
  await tollgate.deleteQueue(nodeQueue('n1'));
  const job = tollgate.job();
  t.equal((await tollgate.run(job)).state, 'succeeded');
  await until(async () => (await tollgate.books.traces('attempts', job.id)).length >= 2, 'the traces');
  t.match(await tollgate.books.traces('attempts', job.id), [
    { outcome: 'lost', code: 'TG_NODE_UNREACHABLE', decision: { class: 'network', is_counted: false } },
  ]);
  await tollgate.slotsAreFree();
});

await t.test(
  'a job whose node has no queue, and no attempt left, ends at once: void, retryable',
  async (t) => {
    const tollgate = await world(t, { settings: { 'ledger.uncountedMax': 0 } });
    await tollgate.deleteQueue(nodeQueue('n1'));
    const job = tollgate.job();
    t.match(await tollgate.run(job), {
      state: 'failed',
      charged_micro: 0,
      output: null,
      error: { code: 'TG_NODE_UNREACHABLE', retryable: true },
    });
    t.match(await tollgate.books.job(job.id), { state: 'failed', code: 'TG_NODE_UNREACHABLE' });
    t.same(await tollgate.books.transfersOf(job.id), ['lock', 'void']);
    await tollgate.slotsAreFree();
    await until(async () => (await tollgate.books.traces('attempts', job.id)).length === 1, 'the trace');
    t.match(await tollgate.books.traces('requests', job.id), [
      { routing: { node: 'n1', dispatched_at: null } },
    ]);
    t.match(await tollgate.books.traces('attempts', job.id), [
      { outcome: 'lost', code: 'TG_NODE_UNREACHABLE' },
    ]);
    t.equal(await tollgate.metric('tollgate_jobs_ended_total', { state: 'failed' }), 1);
    t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'the node has a queue again');
  },
);

await t.test(
  'the jobs of a worker that falls silent end with their last try, and its results are late',
  async (t) => {
    const tollgate = await world(t, { workers: 0 });
    await tollgate.addNode('n1');
    const worker = await tollgate.startHandWorker('n1', 4);
    const jobs = [1, 2, 3].map(() => tollgate.job());
    for (const job of jobs) await tollgate.send(job);
    const held = await Promise.all(jobs.map((job) => worker.dispatched(job.id)));
    worker.fallSilent();
    for (const job of jobs) {
      t.match(await tollgate.reply(job.id), {
        state: 'failed',
        charged_micro: 0,
        error: { code: 'TG_WORKER_LOST', retryable: true },
      });
      t.same(await tollgate.books.transfersOf(job.id), ['lock', 'void']);
      await until(
        async () => (await tollgate.books.job(job.id))?.reply_owed === false,
        'the reply to be paid',
      );
      t.match(await tollgate.books.traces('attempts', job.id), [{ outcome: 'lost', result: null }]);
    }
    await tollgate.slotsAreFree();

    const before = await tollgate.books.credits();
    const [first] = held;
    if (first === undefined) throw new Error('nothing was dispatched');
    await worker.publish(worker.result(first.message));
    await until(
      async () => (await tollgate.books.events({ code: 'TG_RESULT_LATE' })).length === 1,
      'the event of the late result',
    );
    t.equal(await tollgate.metric('tollgate_results_refused_total', { code: 'TG_RESULT_LATE' }), 1);
    t.equal(await tollgate.books.credits(), before);
    t.equal(tollgate.client.repliesTo(first.message.job).length, 1, 'one reply');
  },
);

await t.test('a job past its deadline ends, though its worker is alive', async (t) => {
  const tollgate = await world(t, {
    workers: 0,
    settings: {
      'ledger.startWindowMs': 1_000,
      'ledger.deadlineGraceMs': 0,
      'ledger.statementMsMax': 400,
      'ledger.lockWaitMsMax': 300,
      'broker.confirmMsMax': 500,
    },
  });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 4);
  const job = tollgate.job({ limits: { ...tollgate.job().limits, timeout_ms: 1_000 } });
  await tollgate.send(job);
  const held = await worker.dispatched(job.id);
  t.match(await tollgate.reply(job.id), {
    state: 'failed',
    error: { code: 'TG_JOB_OVERDUE', retryable: true },
  });
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'expire']);
  await until(async () => (await tollgate.books.traces('attempts', job.id)).length === 1, 'the trace');
  t.match(await tollgate.books.traces('attempts', job.id), [{ outcome: 'expired', code: 'TG_JOB_OVERDUE' }]);
  worker.drop(held);
  await tollgate.slotsAreFree();
});

await t.test(
  'a dispatch for which its node has no room is given up, and its job ends when no other has',
  async (t) => {
    const tollgate = await world(t, {
      workers: 0,
      settings: {
        'broker.nodeQueueLengthMax': 16,
        'ledger.uncountedMax': 0,
        'ledger.startWindowMs': 1_000,
        'ledger.deadlineGraceMs': 0,
        'ledger.statementMsMax': 400,
        'ledger.lockWaitMsMax': 300,
        'broker.confirmMsMax': 500,
      },
    });
    await tollgate.addNode('n1');
    await tollgate.startHandWorker('n1', 32, ['small'], { isReading: false });
    const limits = { ...tollgate.job().limits, timeout_ms: 1_000 };
    const jobs = Array.from({ length: 18 }, () => tollgate.job({ limits }));
    for (const job of jobs) await tollgate.send(job);
    const codes = await Promise.all(jobs.map(async (job) => (await tollgate.reply(job.id)).error?.code));
    t.equal(codes.filter((code) => code === 'TG_NODE_FULL').length, 2, 'the two that the queue refused');
    for (const job of jobs) {
      const [lock, end] = await tollgate.books.transfersOf(job.id);
      t.match(lock, 'lock');
      t.match(end, /void|expire/);
    }
    const requests = await Promise.all(jobs.map((job) => tollgate.books.traces('requests', job.id)));
    const unsent = requests.filter(([request]) => request?.['routing'].dispatched_at === null);
    t.equal(unsent.length, 2, 'the two that the full queue refused were never dispatched');
    await tollgate.slotsAreFree();
  },
);

await t.test('a dispatch for an earlier session of the node is not run', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: { 'ledger.uncountedMax': 0 } });
  await tollgate.addNode('n1');
  // Says hello and never reads its queue.
  const before = await tollgate.startHandWorker('n1', 4, ['small'], { isReading: false });
  const job = tollgate.job();
  await tollgate.send(job);
  await until(async () => (await tollgate.books.job(job.id))?.state === 'locked', 'the lock');
  before.fallSilent();
  await tollgate.startWorker('n1', 4);
  t.match(await tollgate.reply(job.id), { state: 'failed', charged_micro: 0, error: { retryable: true } });
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'void']);
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'the new session runs the next one');
  await tollgate.slotsAreFree();
});

await t.test(
  'a reply that cannot be delivered is an event, and the answer is there for who asks again',
  async (t) => {
    const tollgate = await world(t, { settings: { 'line.replyTryMsMax': 400 } });
    const job = tollgate.job();
    await tollgate.send(job, { replyTo: 'reply.p-web.nowhere' });
    await until(
      async () => (await tollgate.books.events({ code: 'TG_REPLY_UNDELIVERED' })).length === 1,
      'the event',
    );
    t.equal(
      (await tollgate.books.events({ code: 'TG_REPLY_DELAYED' })).length,
      1,
      'written when the first try failed',
    );
    t.equal(await tollgate.metric('tollgate_replies_total', { outcome: 'retried' }), 2);
    t.equal(await tollgate.metric('tollgate_replies_total', { outcome: 'given_up' }), 1);
    t.equal((await tollgate.books.job(job.id))?.state, 'succeeded', 'its job ended all the same');
    const reply = await tollgate.run(job);
    t.equal(reply.state, 'succeeded');
    t.same(await tollgate.books.transfersOf(job.id), ['lock', 'capture']);
  },
);
