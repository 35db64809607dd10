import t from 'tap';
import { jobQueue, QUEUE } from '../../src/contracts/names.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

function wants(region: string | null, vram_gb_min: number | null): Partial<JobMessage> {
  return { constraints: { subcloud: null, region, vram_gb_min } };
}

/** Jobs with a constraint, published one after the other; their ids. */
async function send(tollgate: World, count: number, change: Partial<JobMessage>): Promise<string[]> {
  const jobs = Array.from({ length: count }, () => tollgate.job(change));
  for (const job of jobs) await tollgate.send(job);
  return jobs.map(({ id }) => id);
}

await t.test('a job runs only where its region and its memory are', async (t) => {
  // Heartbeats are too rare to bring a worker into a new pool: it is asked to speak.
  const tollgate = await world(t, { workers: 0 });
  await tollgate.addNode('near', ['small'], 'active', { region: 'eu', vramGb: 24 });
  await tollgate.addNode('big', ['small'], 'active', { region: 'eu', vramGb: 80 });
  await tollgate.addNode('far', ['small'], 'active', { region: 'us', vramGb: 192 });
  await tollgate.addNode('plain');
  for (const id of ['near', 'big', 'far', 'plain']) await tollgate.startWorker(id, 4);
  const expected: [Partial<JobMessage>, readonly string[]][] = [
    [wants('us', null), ['far']],
    [wants('eu', null), ['near', 'big']],
    [wants('eu', 25), ['big']],
    [wants(null, 100), ['far']],
    [wants('eu', 24), ['near', 'big']],
  ];
  for (const [change, nodes] of expected) {
    const ids = await send(tollgate, 6, change);
    for (const id of ids) {
      t.equal((await tollgate.reply(id)).state, 'succeeded');
      const node = (await tollgate.books.job(id))?.node ?? '';
      t.ok(nodes.includes(node), `${JSON.stringify(change.constraints)} ran on ${node}`);
      t.same(await tollgate.books.transfersOf(id), ['lock', 'capture']);
    }
  }
  await tollgate.slotsAreFree();
});

await t.test(
  'a job that nobody can take now waits in a queue of its own and holds up no other',
  async (t) => {
    const tollgate = await world(t, { settings: { 'fleet.heartbeatMs': 300 } });
    await tollgate.addNode('big', ['small'], 'active', { vramGb: 80 });
    // More than the side door takes at a time, and of many constraints.
    const waiting = await send(tollgate, 150, wants(null, 80));
    const others = await Promise.all([10, 20, 30].map((gb) => send(tollgate, 5, wants(null, gb))));
    const queue = jobQueue('small~v.80', 'interactive');
    await until(
      async () => (await tollgate.queue(queue)).messages === 150,
      'all of them to be in their queue',
    );
    await tollgate.queueIsEmpty(QUEUE.unroutable);
    const ids = await send(tollgate, 40, {});
    for (const id of ids) t.equal((await tollgate.reply(id)).state, 'succeeded');
    const unheardOf = tollgate.job({ model: 'nothing' });
    await tollgate.send(unheardOf);
    t.match(
      await tollgate.reply(unheardOf.id),
      { error: { code: 'TG_MODEL_UNKNOWN' } },
      'the side door is open',
    );
    t.same(
      waiting.flatMap((id) => tollgate.client.repliesTo(id)),
      [],
    );
    await tollgate.startWorker('big', 8);
    for (const id of [...waiting, ...others.flat()]) {
      t.equal((await tollgate.reply(id)).state, 'succeeded');
      t.match(await tollgate.books.job(id), { node: 'big' });
    }
  },
);

await t.test('what no registered node has is refused by name and remembered', async (t) => {
  const tollgate = await world(t);
  await tollgate.addNode('near', ['small'], 'active', { region: 'eu', vramGb: 24 });
  const cases: [Partial<JobMessage>, object][] = [
    [wants('mars', null), { code: 'TG_REGION_UNKNOWN', field: 'constraints.region', retryable: false }],
    [wants('eu', 32), { code: 'TG_NO_NODE_FITS', field: 'constraints.vram_gb_min', retryable: false }],
  ];
  for (const [change, error] of cases) {
    const job = tollgate.job(change);
    await tollgate.send(job);
    t.match(await tollgate.reply(job.id), { state: 'refused', error });
    t.match(await tollgate.books.job(job.id), { state: 'refused', attempt: 0 });
  }
  t.same(await tollgate.books.sql('select from network.pools'), [], 'no pool was opened for them');
});
