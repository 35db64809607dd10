import { randomBytes } from 'node:crypto';
import t from 'tap';
import { loadConfig } from '../../src/config.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { Models } from '../../src/network/models.ts';
import { NodeHealthPg, purgeStrikes } from '../../src/network/health.ts';
import { Nodes } from '../../src/network/nodes.ts';
import { Lease } from '../../src/maintenance/lease.ts';
import { Database } from '../../src/postgres/database.ts';
import { databaseOptions, quietLog, testLedger } from '../support/ledger.ts';

const { health: BOUNDS } = loadConfig({ env: {}, needs: [] });
const HOUR_MS = 3_600_000;

await t.test('the health of nodes', async (t) => {
  const ledger = await testLedger(t);
  const nodes = new Nodes(ledger.admin);
  let nowMs = 10 * HOUR_MS;
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const health = new NodeHealthPg(BOUNDS, clock, quietLog, ledger.dispatcher);
  await ledger.dispatcher.query('ping');

  /** Nodes of a pool of their own. */
  const poolOf = async (model: string, count: number): Promise<string[]> => {
    const limits = { inputTokensMax: 10, outputTokensMax: 10, timeoutMsMax: 1_000 };
    await new Models(ledger.admin).add({ name: model, inputPriceMicro: 1n, outputPriceMicro: 1n, ...limits });
    const ids = Array.from({ length: count }, (_, i) => `${model}-${i}`);
    for (const id of ids)
      await nodes.register({
        id,
        owner: 'acme',
        publicKey: randomBytes(32),
        models: [model],
        lifecycle: 'active',
      });
    return ids;
  };
  const node = async (id: string) => {
    const found = (await nodes.list()).find((one) => one.id === id);
    if (found === undefined) throw new Error(`there is no node ${id}`);
    return found;
  };
  const isEjected = async (id: string) => ((await node(id)).ineligibleUntilMs ?? 0) > 0;
  /** As if `ms` had gone by for everything that is written. */
  const age = async (ms: number) => {
    const by = `make_interval(secs => ${ms / 1_000})`;
    await ledger.sql(`update network.strikes set at = at - ${by}`);
    await ledger.sql(`update network.nodes set ineligible_until = ineligible_until - ${by}`);
  };

  await t.test('strikes are written in batches, and explained', async (t) => {
    const [id = ''] = await poolOf('explained', 4);
    const jobId = newUuidV7();
    health.strike(id, 'deadline', jobId);
    health.strike(id, 'refused', null);
    health.strike('nobody', 'forged', null);
    await health.flush();
    const [newest, oldest] = await nodes.strikes(id, BOUNDS.strikeHalfLifeMs);
    t.match(newest, { kind: 'refused', jobId: null, voidedFor: null });
    t.match(oldest, { kind: 'deadline', jobId });
    t.ok((oldest?.weight ?? 0) > 0.99 && (newest?.weight ?? 0) > 0.49);
    t.ok(
      (oldest?.countsUntil.getTime() ?? 0) > Date.now() + 6 * HOUR_MS,
      'a hundredth is 6.6 half-lives away',
    );
    await age(HOUR_MS);
    const [later] = await nodes.strikes(id, BOUNDS.strikeHalfLifeMs);
    t.ok(Math.abs((later?.weight ?? 0) - 0.25) < 0.01, 'half of it is gone after an hour');
    t.equal(await isEjected(id), false);
  });

  await t.test(
    'a node at the bound is ejected, for twice as long each time, and comes back by itself',
    async (t) => {
      const [id = ''] = await poolOf('ejected', 4);
      health.strike(id, 'lost', null);
      await health.flush();
      t.equal(await isEjected(id), false, 'one loss is no reason');
      health.strike(id, 'lost', null);
      await health.flush();
      const first = await node(id);
      t.equal(first.ineligibleReason, 'strikes');
      t.ok(Math.abs((first.ineligibleUntilMs ?? 0) - 60_000) < 5_000);
      health.strike(id, 'lost', null);
      await health.flush();
      t.ok(((await node(id)).ineligibleUntilMs ?? 0) <= 60_000, 'while it is out nothing prolongs it');
      await age(61_000);
      t.equal(await isEjected(id), false, 'its time is over');
      health.strike(id, 'error', null);
      await health.flush();
      t.ok(Math.abs(((await node(id)).ineligibleUntilMs ?? 0) - 120_000) < 5_000, 'twice as long');
      await age(5 * HOUR_MS);
      health.strike(id, 'forged', null);
      await health.flush();
      t.ok(((await node(id)).ineligibleUntilMs ?? 0) <= 60_000, 'after a good time it begins anew');
    },
  );

  await t.test('no more than the share of a pool is ejected, and its only node never', async (t) => {
    const [only = ''] = await poolOf('single', 1);
    const many = await poolOf('many', 7);
    for (const id of [only, ...many]) health.strike(id, 'forged', null);
    await health.flush();
    t.equal(await isEjected(only), false);
    const out = await Promise.all(many.map(isEjected));
    t.equal(out.filter(Boolean).length, 2, '30 % of seven');
  });

  await t.test('what happened while the fault was ours is void, and its nodes are back', async (t) => {
    const [innocent = '', guilty = '', late = ''] = await poolOf('incident', 10);
    health.strike(guilty, 'forged', null);
    await health.flush();
    await age(120_000);
    health.strike(guilty, 'forged', null);
    nowMs += 30_000;
    const beganMs = nowMs - 20_000;
    health.strike(innocent, 'forged', null);
    await health.flush();
    t.same(await Promise.all([innocent, guilty].map(isEjected)), [true, true]);
    t.equal(await health.incident(beganMs, 'redis was away'), 1);
    t.same(await Promise.all([innocent, guilty].map(isEjected)), [false, true]);
    t.match(await nodes.strikes(innocent, BOUNDS.strikeHalfLifeMs), [
      { weight: 0, voidedFor: 'redis was away' },
    ]);

    health.strike(late, 'forged', null);
    nowMs += 10_000;
    await ledger.sql("update network.incidents set ended_at = ended_at - interval '5 seconds'");
    await health.flush();
    t.equal(await isEjected(late), false, 'one that is told late is void from the start');
  });

  await t.test('strikes of a server that is away wait, up to a bound', async (t) => {
    const [id = ''] = await poolOf('patient', 4);
    const small = new NodeHealthPg({ ...BOUNDS, pendingMax: 3 }, clock, quietLog, ledger.dispatcher);
    for (let i = 0; i < 5; i++) small.strike(id, 'refused', null);
    await small.stop();
    t.equal((await nodes.strikes(id, BOUNDS.strikeHalfLifeMs)).length, 3);
  });

  await t.test('a drain has a deadline and ends when it is told to', async (t) => {
    const [id = ''] = await poolOf('drained', 1);
    await nodes.drain(id, 600_000);
    t.ok(Math.abs(((await node(id)).drainByMs ?? 0) - 600_000) < 5_000);
    t.equal((await node(id)).lifecycle, 'active', 'its lifecycle is another thing');
    await nodes.undrain(id);
    t.equal((await node(id)).drainByMs, null);
    await t.rejects(nodes.drain('nobody', 1), { code: 'TG_NOT_FOUND' });
  });
});

await t.test('old strikes are purged by the owner of maintenance only', async (t) => {
  const ledger = await testLedger(t);
  const db = new Database(databaseOptions(ledger.adminUrl, 'tollgate_maintainer'), quietLog);
  t.after(() => db.close());
  await ledger.sql(`insert into network.strikes (node_id, kind, at)
    select id, 'error', clock_timestamp() - interval '91 days' * n from network.nodes, generate_series(0, 1) as n limit 2`);
  const term = (await new Lease('maintenance', db, 'c1', 60_000).take()) ?? 0n;
  await t.rejects(purgeStrikes(db, { lease: 'maintenance', term: term - 1n }, 90), { code: 'TG_LEASE_LOST' });
  t.same(await purgeStrikes(db, { lease: 'maintenance', term }, 90), { purged: 1 });
  t.same(await ledger.sql('select count(*)::integer as left from network.strikes'), [{ left: 1 }]);
});
