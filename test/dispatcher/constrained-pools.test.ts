import t from 'tap';
import type { JobMessage } from '../../src/contracts/job.ts';
import { EXCHANGE, SENDER_HEADER } from '../../src/contracts/names.ts';
import { runDaemon } from '../../src/main.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** The pools behind constraints: how they open, what bounds them, and what becomes of the jobs on the way. */

function wants(region: string | null, vram_gb_min: number | null): Partial<JobMessage> {
  return { constraints: { subcloud: null, region, vram_gb_min } };
}

/** Jobs with a constraint, published one after the other; their ids. */
async function send(tollgate: World, count: number, change: Partial<JobMessage>): Promise<string[]> {
  const jobs = Array.from({ length: count }, () => tollgate.job(change));
  for (const job of jobs) await tollgate.send(job);
  return jobs.map(({ id }) => id);
}

await t.test('a pool is opened once by coordinators that open it at the same time', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  const second = await runDaemon(tollgate.config);
  tollgate.onClose(() => second.stop());
  await tollgate.addNode('near', ['small'], 'active', { region: 'eu', vramGb: 24 });
  await tollgate.startWorker('near', 8);
  const ids = await send(tollgate, 60, wants('eu', 24));
  for (const id of ids) {
    t.equal((await tollgate.reply(id)).state, 'succeeded');
    t.same(await tollgate.books.transfersOf(id), ['lock', 'capture']);
  }
  const pools = await tollgate.books.sql('select region, vram_gb from network.pools');
  t.same(pools, [{ region: 'eu', vram_gb: 24 }]);
});

await t.test('no more pools are opened than the bound says, and those that are open go on', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: { 'line.poolsMax': 1 } });
  await tollgate.addNode('near', ['small'], 'active', { region: 'eu', vramGb: 24 });
  await tollgate.startWorker('near', 4);
  t.equal((await tollgate.run(tollgate.job(wants('eu', null)))).state, 'succeeded');
  const refused = await tollgate.run(tollgate.job(wants('eu', 8)));
  t.match(refused, { state: 'refused', error: { code: 'TG_POOLS_FULL', retryable: true } });
  t.equal((await tollgate.run(tollgate.job(wants('eu', null)))).state, 'succeeded');
});

await t.test('an emptied Redis gets the leases of constrained jobs back in their pool', async (t) => {
  const tollgate = await world(t, {
    workers: 0,
    settings: { 'fleet.heartbeatMs': 300, 'fleet.lostAfterMs': 1_500, 'sweeps.everyMs': 100 },
  });
  await tollgate.addNode('near', ['small'], 'active', { region: 'eu' });
  const worker = await tollgate.startHandWorker('near', 2);
  const [running = '', other = ''] = await send(tollgate, 2, wants('eu', null));
  const held = await worker.dispatched(running);
  await worker.dispatched(other);
  const waiting = tollgate.job(wants('eu', null));
  // Again while it warms: the leases come back each time.
  for (let n = 1; n <= 3; n++) {
    await tollgate.emptyRedis();
    if (n === 1) await tollgate.send(waiting);
    await until(async () => {
      const pools = (await tollgate.leases()).map(({ pool }) => pool);
      return pools.length === 2 && pools.every((pool) => pool === 'small~r.eu');
    }, `both leases to be back after loss ${n}`);
  }
  t.equal(worker.held.length, 2, 'the third waits: both slots are known to be taken');
  await worker.finish(held);
  await worker.finish(await worker.dispatched(waiting.id));
  await worker.finish(await worker.dispatched(other));
  for (const id of [running, other, waiting.id]) t.equal((await tollgate.reply(id)).state, 'succeeded');
  await tollgate.slotsAreFree();
});

await t.test('a job that expires after it was moved is answered to its sender', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  await tollgate.addNode('near', ['small'], 'active', { region: 'eu' });
  const job = tollgate.job({ ...wants('eu', null), limits: { ...tollgate.job().limits, wait_ms: 700 } });
  await tollgate.send(job);
  t.match(await tollgate.reply(job.id), { state: 'expired', error: { code: 'TG_JOB_EXPIRED' } });
});

await t.test('a client cannot send in the name of another by the header of moved jobs', async (t) => {
  const tollgate = await world(t);
  await tollgate.addPublisher('thief');
  const thief = await tollgate.connectClient('thief');
  const job = tollgate.job();
  await thief.send(job, { headers: { [SENDER_HEADER]: 'p-web' } });
  t.match(await thief.reply(job.id), { state: 'refused', error: { code: 'TG_ACCOUNT_NOT_ENTITLED' } });
  const outcome = await thief.send(tollgate.job(), { exchange: EXCHANGE.moved });
  t.not(outcome, 'confirmed', 'the exchange is closed to it');
});

await t.test('a later attempt keeps the constraint, and so does a fallback', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: { 'retries.delayMsMin': 10 } });
  await tollgate.addModel('other');
  await tollgate.addNode('near', ['small', 'other'], 'active', { region: 'eu' });
  await tollgate.addNode('next', ['other'], 'active', { region: 'eu' });
  await tollgate.addNode('far', ['small', 'other'], 'active', { region: 'us' });
  const near = await tollgate.startHandWorker('near', 1);
  const next = await tollgate.startHandWorker('next', 1, ['other']);
  const far = await tollgate.startHandWorker('far', 1, ['small', 'other']);
  const job = tollgate.job({ ...wants('eu', null), fallbacks: ['other'] });
  await tollgate.send({ ...job, limits: { ...job.limits, attempts_max: 3 } });
  await near.finish(await near.dispatched(job.id), {
    status: 'failed',
    output: null,
    error: { code: 'model_error', message: 'as the test says' },
  });
  const second = await next.dispatched(job.id);
  t.match(second.message, { attempt: 2, model: 'other' }, 'the only other node of the region');
  t.match(await tollgate.leases(), [{ node: 'next', pool: 'other~r.eu' }]);
  await next.finish(second);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  t.equal(far.held.length, 0);
  await tollgate.slotsAreFree();
});
