import t from 'tap';
import { Nodes } from '../../src/network/nodes.ts';
import { proxiedWorld } from '../support/proxied-world.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** Nodes on which jobs ran that were sent one after the other. */
async function nodesOf(tollgate: World, count: number): Promise<Set<string | null | undefined>> {
  const nodes = new Set<string | null | undefined>();
  for (let i = 0; i < count; i++) {
    const job = tollgate.job();
    t.equal((await tollgate.run(job)).state, 'succeeded');
    nodes.add((await tollgate.books.job(job.id))?.node);
  }
  return nodes;
}

/** Slots of a node's worker that its pools count. */
async function slotsOf(tollgate: World, node: string): Promise<number> {
  const worker = (await tollgate.fleet.list()).find((one) => one.node === node);
  return worker === undefined || worker.pools.length === 0 ? 0 : worker.slotsTotal;
}

await t.test('a drained node gets no new jobs, ends what it has, and comes back', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  const nodes = new Nodes(tollgate.admin);
  for (const id of ['n1', 'n2']) await tollgate.addNode(id);
  const drained = await tollgate.startHandWorker('n1', 4);
  const job = tollgate.job();
  await tollgate.send(job);
  const held = await drained.dispatched(job.id);
  await nodes.drain('n1', 60_000);
  await until(async () => (await slotsOf(tollgate, 'n1')) === 0, 'the node to leave its pools');
  await tollgate.startWorker('n2', 4);
  t.same(await nodesOf(tollgate, 5), new Set(['n2']));

  await drained.finish(held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded', 'what it had ends well');
  await nodes.undrain('n1');
  await until(async () => (await slotsOf(tollgate, 'n1')) === 4, 'the node to be back');
});

await t.test('what a drained node has not ended by its deadline is run by another', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  const nodes = new Nodes(tollgate.admin);
  for (const id of ['n1', 'n2']) await tollgate.addNode(id);
  const drained = await tollgate.startHandWorker('n1', 4);
  const job = tollgate.job({ limits: { ...tollgate.job().limits, attempts_max: 1 } });
  await tollgate.send(job);
  const held = await drained.dispatched(job.id);
  await tollgate.startWorker('n2', 4);
  await nodes.drain('n1', 100);
  t.match(await tollgate.reply(job.id), { state: 'succeeded' }, 'though the job has one try only');
  t.match(await tollgate.books.job(job.id), { node: 'n2', attempt: 2, uncounted: 1 });
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'capture']);
  const [ended] = await tollgate.books.sql<{ code: string }>(
    'select code from jobs.attempts where job_id = $1',
    [job.id],
  );
  t.equal(ended?.code, 'TG_NODE_DRAINED');
  t.same(
    await tollgate.books.sql("select from network.strikes where node_id = 'n1'"),
    [],
    'nobody is blamed',
  );
  drained.drop(held);
  await tollgate.slotsAreFree();
});

await t.test('an ejected node is out, comes back by itself, and first with one slot', async (t) => {
  const settings = { 'health.holdMsMin': 2_000, 'health.trickleMs': 2_000, 'health.ejectedPercentMax': 50 };
  const tollgate = await world(t, { workers: 2, settings });
  const { health } = tollgate.config;
  await until(async () => (await slotsOf(tollgate, 'n1')) === 4, 'the worker');
  await tollgate.books.sql(
    "select network.strike_batch('{n1}', '{forged}', '{null}', '{0}', $1, $2, $3, $4, $5)",
    [
      health.strikeHalfLifeMs,
      health.strikeScoreMax,
      health.holdMsMin,
      health.holdMsMax,
      health.ejectedPercentMax,
    ],
  );
  await until(async () => (await slotsOf(tollgate, 'n1')) === 0, 'the node to leave its pools');
  t.same(await nodesOf(tollgate, 3), new Set(['n2']));
  await until(async () => (await slotsOf(tollgate, 'n1')) === 1, 'the node to be back with one slot');
  await until(async () => (await slotsOf(tollgate, 'n1')) === 4, 'the node to be back whole');
});

await t.test('strikes of a time at which Redis was away for the coordinator are void', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, { workers: 1 });
  const strikeAgo = (ago: string) =>
    tollgate.books.sql(
      "insert into network.strikes (node_id, kind, at) values ('n1', 'lost', clock_timestamp() - $1::interval)",
      [ago],
    );
  const voided = async () =>
    (await tollgate.books.sql('select from network.strikes where voided_at is not null')).length;
  await strikeAgo('1 hour');
  links.redis.cut();
  await until(
    async () => (await tollgate.metric('tollgate_dependency_up', { name: 'redis' })) === 0,
    'it to be away',
  );
  await strikeAgo('0');
  links.redis.heal();
  await until(async () => (await voided()) === 1, 'the strike to be void');
  t.same(await tollgate.books.sql('select reason from network.incidents'), [
    { reason: 'redis was away for a coordinator' },
  ]);
});
