import t from 'tap';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';

/** Only the price of a token in moves. */
function prices(inputPriceMicro: bigint) {
  return { inputPriceMicro, outputPriceMicro: 2_000_000n };
}

/** A job is charged by the version it was locked under, whatever happens to the price around it. */
await t.test('a price that moves', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 4);
  const { books, models, client } = tollgate;

  await t.test('between admit and lock: the job is locked under the new one', async (t) => {
    const accounts = await books.holdAccounts();
    const job = tollgate.job();
    await client.send(job);
    await books.lockIsAwaited();
    await models.setPrice('small', prices(10_000_000n));
    await accounts.letGo();
    await worker.finish(await worker.dispatched(job.id));
    t.match(await client.reply(job.id), { state: 'succeeded', charged_micro: 56, model_version: 2 });
    t.match(await books.job(job.id), { locked_micro: '1016' }, '100 tokens in at 10, 8 out at 2');
    t.ok((await tollgate.metric('tollgate_credit_locks_total', { answer: 'repriced' })) >= 1);
    await tollgate.slotsAreFree();
  });

  await t.test('between lock and result: the job is charged at the old one', async (t) => {
    const job = tollgate.job();
    await client.send(job);
    const held = await worker.dispatched(job.id);
    await models.setPrice('small', prices(20_000_000n));
    await worker.finish(held);
    t.match(await client.reply(job.id), { state: 'succeeded', charged_micro: 56, model_version: 2 });
  });

  await t.test('away: the next job is refused and told why', async (t) => {
    await models.setPrice('small', { inputPriceMicro: null, outputPriceMicro: null });
    const job = tollgate.job();
    t.match(await client.run(job), {
      state: 'refused',
      error: { code: 'TG_MODEL_NO_PRICE', field: 'model' },
    });
    await until(async () => (await books.job(job.id))?.state === 'refused', 'the refusal to be remembered');
  });
});
