import t from 'tap';
import { nodeQueue } from '../../src/contracts/names.ts';
import { proxiedWorld } from '../support/proxied-world.ts';
import { until } from '../support/until.ts';
import { provenOnce } from './proven-once.ts';

/** A link breaks while a job stands between two stages: the job still ends once and is charged once. */

/** Short limits, so that a call that gets no answer is given up soon. */
const IMPATIENT = { 'ledger.statementMsMax': 400, 'ledger.lockWaitMsMax': 300, 'broker.confirmMsMax': 500 };

await t.test('a job whose lock cannot be committed stays with the broker and runs later', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, { settings: { ...IMPATIENT, 'line.stageRetryMs': 100 } });
  links.postgres.cut();
  const job = tollgate.job();
  await tollgate.send(job);
  await until(
    async () => (await tollgate.metric('tollgate_jobs_redelivered_total')) >= 2,
    'the job to be handed back and to come again, twice',
  );
  t.same(tollgate.client.replies, []);
  links.postgres.heal();
  await provenOnce(t, tollgate, job);
});

await t.test('a COMMIT whose answer is lost is asked for again, with one lock', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, { settings: IMPATIENT });
  await tollgate.run(tollgate.job());
  links.postgres.holdAnswers();
  const job = tollgate.job();
  await tollgate.send(job);
  await until(
    async () => (await tollgate.books.job(job.id))?.state === 'locked',
    'the commit nobody heard of',
  );
  await provenOnce(t, tollgate, job);
  t.ok((await tollgate.metric('tollgate_credit_locks_total', { answer: 'exists' })) >= 1);
});

await t.test('a settlement whose answer is lost is settled once and answered', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, { workers: 0, settings: IMPATIENT });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 2);
  const [first, job] = [tollgate.job(), tollgate.job()];
  await tollgate.send(first);
  await worker.finish(await worker.dispatched(first.id));
  await tollgate.reply(first.id);
  await tollgate.send(job);
  const held = await worker.dispatched(job.id);
  links.postgres.holdAnswers();
  await worker.finish(held);
  await until(
    async () => (await tollgate.books.job(job.id))?.state === 'succeeded',
    'the commit nobody heard of',
  );
  t.same(tollgate.client.repliesTo(job.id), []);
  await provenOnce(t, tollgate, job);
});

await t.test('the broker goes between the lock and the dispatch', async (t) => {
  const { tollgate, links } = await proxiedWorld(t);
  const accounts = await tollgate.books.holdAccounts();
  const job = tollgate.job();
  await tollgate.send(job);
  await tollgate.books.lockIsAwaited();
  links.amqp.cut();
  await accounts.letGo();
  await until(async () => (await tollgate.books.job(job.id))?.state === 'locked', 'the lock');
  links.amqp.heal();
  await provenOnce(t, tollgate, job);
});

await t.test('only the publishing connection goes between the lock and the dispatch', async (t) => {
  const { tollgate, links } = await proxiedWorld(t);
  const accounts = await tollgate.books.holdAccounts();
  const job = tollgate.job();
  await tollgate.send(job);
  await tollgate.books.lockIsAwaited();
  links.amqp.cutOnly('tollgate publish');
  await accounts.letGo();
  await provenOnce(t, tollgate, job);
});

await t.test('only the publishing connection goes between the settlement and the reply', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, { workers: 0 });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 2);
  const job = tollgate.job();
  await tollgate.send(job);
  const held = await worker.dispatched(job.id);
  const accounts = await tollgate.books.holdAccounts();
  await worker.finish(held);
  await tollgate.books.lockIsAwaited();
  links.amqp.cutOnly('tollgate publish');
  await accounts.letGo();
  await provenOnce(t, tollgate, job);
});

await t.test('only the publishing connection goes before a refusal', async (t) => {
  const { tollgate, links } = await proxiedWorld(t);
  await tollgate.addAccount('poor', ['web'], 1n);
  const accounts = await tollgate.books.holdAccounts();
  const job = tollgate.job({ account: 'poor', namespace: 'poor/prod' });
  await tollgate.send(job);
  await tollgate.books.lockIsAwaited();
  links.amqp.cutOnly('tollgate publish');
  await accounts.letGo();
  t.match(await tollgate.reply(job.id), { state: 'refused', error: { code: 'TG_CREDIT_INSUFFICIENT' } });
});

await t.test('Redis goes while jobs come: they run when it is back, also if it is empty then', async (t) => {
  const { tollgate, links } = await proxiedWorld(t);
  await tollgate.run(tollgate.job());
  links.redis.cut();
  const jobs = [1, 2, 3].map(() => tollgate.job());
  for (const job of jobs) await tollgate.send(job);
  await until(
    async () => (await tollgate.metric('tollgate_stage_failures_total', { stage: 'reserve' })) >= 1,
    'the reservation to fail',
  );
  await tollgate.emptyRedis();
  links.redis.heal();
  for (const job of jobs) await provenOnce(t, tollgate, job);
});

await t.test('a full node queue: what is nacked goes out again when there is room', async (t) => {
  const { tollgate } = await proxiedWorld(t, { workers: 0, settings: { 'broker.nodeQueueLengthMax': 16 } });
  await tollgate.addNode('n1');
  const asleep = await tollgate.startHandWorker('n1', 32, ['small'], { isReading: false });
  const jobs = Array.from({ length: 20 }, () => tollgate.job());
  for (const job of jobs) await tollgate.send(job);
  await until(async () => (await tollgate.books.states())['locked'] === 20, 'all locks');
  await asleep.read();
  for (const job of jobs) await asleep.finish(await asleep.dispatched(job.id));
  for (const job of jobs) await provenOnce(t, tollgate, job);
});

await t.test('a job whose node has no queue, and the answer to its end is lost', async (t) => {
  const settings = { ...IMPATIENT, 'ledger.uncountedMax': 0 };
  const { tollgate, links } = await proxiedWorld(t, { workers: 0, settings });
  await tollgate.addNode('n1');
  await tollgate.startHandWorker('n1', 2, ['small'], { isReading: false });
  const accounts = await tollgate.books.holdAccounts();
  const job = tollgate.job();
  await tollgate.send(job);
  await tollgate.books.lockIsAwaited();
  links.amqp.freeze();
  await accounts.letGo();
  await until(async () => (await tollgate.books.job(job.id))?.state === 'locked', 'the lock');
  await tollgate.deleteQueue(nodeQueue('n1'));
  links.postgres.holdAnswers();
  links.amqp.heal();
  await until(async () => (await tollgate.books.job(job.id))?.state === 'failed', 'the end nobody heard of');
  t.match(await tollgate.reply(job.id), { state: 'failed', error: { code: 'TG_NODE_UNREACHABLE' } });
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'void']);
  for (const section of ['requests', 'attempts'] as const)
    await until(async () => (await tollgate.books.traces(section, job.id)).length === 1, `its ${section}`);
  await tollgate.slotsAreFree();
});

await t.test(
  'a node that is registered while the broker is away gets its queues when it is back',
  async (t) => {
    const { tollgate, links } = await proxiedWorld(t);
    links.amqp.cut();
    await until(
      async () => (await tollgate.metric('tollgate_dependency_up', { name: 'rabbitmq' })) === 0,
      'the outage',
    );
    await tollgate.addNode('n2');
    await tollgate.addModel('later');
    links.amqp.heal();
    const worker = await tollgate.startHandWorker('n2', 1, ['small']);
    const jobs = Array.from({ length: 6 }, () => tollgate.job());
    for (const job of jobs) await tollgate.send(job);
    await worker.finish(await until(() => worker.held[0], 'a dispatch to the new node'));
    for (const job of jobs) {
      for (const held of worker.held.splice(0)) await worker.finish(held);
      t.equal((await tollgate.reply(job.id)).state, 'succeeded');
    }
  },
);

await t.test('Redis goes while a result is settled: its slot comes free when the lease ends', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, {
    workers: 0,
    settings: { ...IMPATIENT, 'ledger.startWindowMs': 1_500, 'fleet.leaseTtlMs': 2_500 },
  });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 2);
  const job = tollgate.job();
  await tollgate.send(job);
  const held = await worker.dispatched(job.id);
  links.redis.cut();
  await worker.finish(held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded', 'nobody waits for Redis');
  links.redis.heal();
  await provenOnce(t, tollgate, job);
});

await t.test('Redis away while a reply is owed: it is sent once', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, {
    workers: 0,
    settings: { ...IMPATIENT, 'ledger.startWindowMs': 1_000, 'ledger.deadlineGraceMs': 0 },
  });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 2);
  const job = tollgate.job({ limits: { ...tollgate.job().limits, timeout_ms: 1_000 } });
  await tollgate.send(job);
  await worker.dispatched(job.id);
  links.redis.cut();
  t.match(await tollgate.reply(job.id), { state: 'failed', error: { code: 'TG_JOB_OVERDUE' } });
  await until(async () => (await tollgate.books.job(job.id))?.reply_owed === false, 'the debt to be paid');
  t.equal(tollgate.client.repliesTo(job.id).length, 1);
  links.redis.heal();
});
