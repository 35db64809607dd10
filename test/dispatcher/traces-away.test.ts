import t from 'tap';
import { proxiedWorld } from '../support/proxied-world.ts';
import { until } from '../support/until.ts';
import { provenOnce } from './proven-once.ts';

/** Money never waits for MongoDB, and no trace is lost. */

await t.test('MongoDB goes: jobs end all the same, and their traces follow', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, {
    settings: { 'traces.writeMsMax': 500, 'traces.spoolDrainMs': 100 },
  });
  links.mongo.cut();
  const jobs = [1, 2, 3].map(() => tollgate.job());
  for (const job of jobs) t.equal((await tollgate.run(job)).state, 'succeeded');
  await until(
    async () => (await tollgate.metric('tollgate_trace_documents_spooled_total')) === 6,
    'a request and an attempt of each in the spool',
  );
  links.mongo.heal();
  for (const job of jobs) await provenOnce(t, tollgate, job);
});

await t.test('a trace that MongoDB refuses for good stops nobody', async (t) => {
  const { tollgate } = await proxiedWorld(t);
  await tollgate.books.refuseDocuments('requests');
  const jobs = [1, 2].map(() => tollgate.job());
  for (const job of jobs) t.equal((await tollgate.run(job)).state, 'succeeded');
  for (const job of jobs) {
    await until(async () => (await tollgate.books.traces('attempts', job.id)).length === 1, 'the attempt');
    t.same(await tollgate.books.traces('requests', job.id), []);
  }
  await tollgate.slotsAreFree();
});

await t.test('what the sweep and the fleet have to tell may be refused for good, too', async (t) => {
  const { tollgate } = await proxiedWorld(t, { workers: 0 });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 2);
  await tollgate.books.refuseDocuments('attempts');
  await tollgate.books.refuseDocuments('events');
  const lost = tollgate.job();
  await tollgate.send(lost);
  await worker.dispatched(lost.id);
  await worker.sayAsFleet(Buffer.from('no fleet message'));
  worker.fallSilent();
  t.match(await tollgate.reply(lost.id), { state: 'failed', error: { code: 'TG_WORKER_LOST' } });
  await until(async () => (await tollgate.books.job(lost.id))?.reply_owed === false, 'the reply to be paid');
  await tollgate.addNode('n2');
  await tollgate.startWorker('n2', 2);
  t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'the daemon goes on');
});

await t.test('MongoDB away and the spool full: jobs stay with the broker, and nothing is lost', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, {
    settings: { 'broker.spoolBytesMax': 65_536, 'traces.spoolDrainMs': 100, 'line.stageRetryMs': 500 },
  });
  links.mongo.cut();
  const content = 'x'.repeat(20_000);
  const jobs = Array.from({ length: 20 }, () =>
    tollgate.job({ input: { messages: [{ role: 'user', content }] } }),
  );
  for (const job of jobs) await tollgate.send(job);
  const failures = () => tollgate.metric('tollgate_stage_failures_total', { stage: 'trace_request' });
  await until(async () => (await failures()) >= 3, 'the traces to find no place');
  await until(
    async () => (await tollgate.metric('tollgate_jobs_redelivered_total')) >= 3,
    'jobs to come again',
  );
  links.mongo.heal();
  for (const job of jobs) await provenOnce(t, tollgate, job);
  await until(
    async () => (await tollgate.metric('tollgate_jobs_in_flight')) === 0,
    'nothing to be in flight',
  );
  await until(
    async () => (await tollgate.metric('tollgate_held_bytes')) === 0,
    'no byte to be left in the count',
  );
});
