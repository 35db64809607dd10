import t from 'tap';
import type { JobMessage } from '../../src/contracts/job.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { proxiedWorld } from '../support/proxied-world.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';

/** The same id again: whoever sends it hears of one job, and one job is charged. */
await t.test('a job that is sent again', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  await tollgate.addPublisher('rival');
  await tollgate.addAccount('rival', ['rival'], 1_000_000_000n);
  await tollgate.addAccount('poor', ['web'], 10n);
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 8);
  const { client, books } = tollgate;
  const rival = await tollgate.connectClient('rival');
  await client.listen(`${client.replyQueue}.second`);

  const refusals = async (job: JobMessage, correlationId: string, code: string) => {
    const reply = await until(() => client.repliesTo(correlationId)[0], `a reply with ${code}`);
    t.match(reply.message, { job: job.id, state: 'refused', error: { code, field: 'id' } });
  };

  await t.test(
    'while it runs: the newest sender is answered, and a worker gets the same attempt',
    async (t) => {
      const job = tollgate.job();
      await client.send(job);
      const first = await worker.dispatched(job.id);
      await client.send(job, { replyTo: `${client.replyQueue}.second`, correlationId: 'second' });
      const again = await until(
        () => worker.held.find((one) => one !== first && one.message.job === job.id),
        'it again',
      );
      const { start_ms: _, remaining_ms: __, ...same } = first.message;
      t.match(again.message, same);
      worker.drop(first);
      await worker.finish(again);
      const reply = await until(() => client.repliesTo('second')[0], 'the reply');
      t.match(reply, { queue: 'reply.p-web.second', message: { state: 'succeeded', charged_micro: 11 } });
      t.equal(client.repliesTo(job.id).length, 1, 'the first sender hears nothing');
      t.same(await books.transfersOf(job.id), ['lock', 'capture']);
    },
  );

  await t.test('after it ended: the same answer, and nothing is charged', async (t) => {
    const job = tollgate.job();
    await client.send(job);
    await worker.finish(await worker.dispatched(job.id));
    const first = await client.reply(job.id);
    const before = await books.credits();
    await client.send(job, { replyTo: `${client.replyQueue}.second`, correlationId: 'later' });
    const reply = await until(() => client.repliesTo('later')[0], 'the answer again');
    t.same(reply.message, first);
    t.equal(reply.queue, 'reply.p-web.second');
    t.equal(reply.messageId, `r-${job.id}`);
    t.equal(await books.credits(), before);
    t.equal(worker.held.length, 0, 'no worker hears of it');
  });

  await t.test('after it failed: the same failure', async (t) => {
    const job = tollgate.job();
    await client.send(job);
    const error = { code: 'model_error', message: 'no' };
    await worker.finish(await worker.dispatched(job.id), { status: 'failed', output: null, error });
    const first = await client.reply(job.id);
    const before = await books.credits();
    await client.send(job, { correlationId: 'failed again' });
    const reply = await until(() => client.repliesTo('failed again')[0], 'the failure again');
    t.same(reply.message, first);
    t.equal(await books.credits(), before);
  });

  await t.test('after it was refused: the same refusal, even if it could be paid now', async (t) => {
    const job = tollgate.job({ account: 'poor', namespace: 'poor/prod' });
    t.match(await client.run(job), { state: 'refused', error: { code: 'TG_CREDIT_INSUFFICIENT' } });
    await tollgate.accounts.topUp(newUuidV7(), 'poor', 1_000_000n);
    await client.send(job, { correlationId: 'refused again' });
    const reply = await until(() => client.repliesTo('refused again')[0], 'the refusal again');
    t.match(reply.message, { state: 'refused', error: { code: 'TG_CREDIT_INSUFFICIENT' } });
    t.same(await books.transfersOf(job.id), []);
  });

  await t.test('with another body, while it runs and after', async (t) => {
    const job = tollgate.job();
    await client.send(job);
    const held = await worker.dispatched(job.id);
    const other = { ...job, input: { messages: [{ role: 'user', content: 'Something else.' }] } };
    await client.send(other, { correlationId: 'other body' });
    await refusals(job, 'other body', 'TG_JOB_ID_REUSED');
    await worker.finish(held);
    t.equal((await client.reply(job.id)).state, 'refused', 'the refusal names the job, too');
    await until(
      () => client.repliesTo(job.id).some(({ message }) => message.state === 'succeeded'),
      'the answer',
    );
    await client.send(other, { correlationId: 'other body, later' });
    await refusals(job, 'other body, later', 'TG_JOB_ID_REUSED');
    t.same(await books.transfersOf(job.id), ['lock', 'capture']);
  });

  await t.test("by another account, which learns nothing of the first one's", async (t) => {
    const job = tollgate.job();
    await client.send(job);
    const held = await worker.dispatched(job.id);
    const theirs = { ...job, account: 'rival', namespace: 'rival/prod' };
    t.match(await rival.run(theirs), {
      state: 'refused',
      output: null,
      error: { code: 'TG_JOB_ID_IN_USE', field: 'id', message: 'this id is in use' },
    });
    await worker.finish(held);
    t.equal((await client.reply(job.id)).state, 'succeeded');
    await rival.send(theirs, { correlationId: 'theirs, later' });
    const later = await until(() => rival.repliesTo('theirs, later')[0], 'the second refusal');
    t.match(later.message, { output: null, error: { code: 'TG_JOB_ID_IN_USE' } });
    t.same(await books.transfersOf(job.id), ['lock', 'capture']);
  });

  await t.test('in the same moment, five times', async (t) => {
    const job = tollgate.job();
    await Promise.all([1, 2, 3, 4, 5].map(() => client.send(job)));
    await worker.finish(await worker.dispatched(job.id));
    await client.reply(job.id);
    t.same(await books.transfersOf(job.id), ['lock', 'capture']);
    await until(() => {
      for (const one of worker.held) worker.drop(one);
      return client.repliesTo(job.id).length > 0;
    }, 'the reply');
    t.equal((await books.traces('requests', job.id)).length, 1);
  });

  await t.test('after it ended, while a batch of new jobs shares its way', async (t) => {
    const job = tollgate.job();
    await client.send(job);
    await worker.finish(await worker.dispatched(job.id));
    await client.reply(job.id);
    const fresh = [1, 2, 3].map(() => tollgate.job());
    await Promise.all([...fresh, job].map((one) => client.send(one)));
    await until(() => client.repliesTo(job.id).length === 2, 'the answer again');
    for (const one of fresh) await worker.finish(await worker.dispatched(one.id));
    for (const one of fresh) t.equal((await client.reply(one.id)).state, 'succeeded');
  });

  for (const one of worker.held) worker.drop(one);
  await tollgate.slotsAreFree();
});

await t.test(
  'a finished job asked for again while MongoDB is away holds up nobody, and is answered later',
  async (t) => {
    const { tollgate, links } = await proxiedWorld(t, { settings: { 'traces.spoolDrainMs': 100 } });
    const old = tollgate.job();
    const first = await tollgate.run(old);
    await until(async () => (await tollgate.books.traces('attempts', old.id)).length > 0, 'its trace');
    links.mongo.swallow();
    const fresh = tollgate.job();
    await Promise.all([tollgate.send(old, { correlationId: 'again' }), tollgate.send(fresh)]);
    t.equal((await tollgate.reply(fresh.id)).state, 'succeeded');
    t.same(tollgate.client.repliesTo('again'), [], 'the job beside it waits for no answer of MongoDB');
    links.mongo.cut();
    links.mongo.heal();
    const reply = await until(() => tollgate.client.repliesTo('again')[0], 'the answer again', {
      timeoutMs: 30_000,
    });
    t.same(reply.message, first);
    await until(
      async () => (await tollgate.books.traces('attempts', fresh.id)).length > 0,
      'the spooled trace',
    );
  },
);

await t.test('a repeat for which another node was reserved goes to the one that has the job', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  await tollgate.addNode('n1');
  const owner = await tollgate.startHandWorker('n1', 2);
  const job = tollgate.job();
  await tollgate.send(job);
  const first = await owner.dispatched(job.id);
  await tollgate.addNode('n2');
  const other = await tollgate.startHandWorker('n2', 8);
  await until(
    async () => (await tollgate.fleet.list()).length === 2,
    'the other worker, which has more slots',
  );
  await tollgate.endLeases();
  await tollgate.send(job);
  const again = await until(() => owner.held.find((one) => one !== first), 'it again');
  t.match(again.message, { job: job.id, attempt: 1, node: 'n1', session: owner.session });
  owner.drop(first);
  await owner.finish(again);
  t.match(await tollgate.reply(job.id), { state: 'succeeded', charged_micro: 11 });
  t.same(other.held, []);
  await tollgate.slotsAreFree();
});
