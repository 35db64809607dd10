import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { Lease } from '../../src/maintenance/lease.ts';
import { Maintenance, type MaintenanceTask } from '../../src/maintenance/maintenance.ts';
import { Workflows } from '../../src/maintenance/workflows.ts';
import { PrometheusMetrics } from '../../src/ops/metrics.ts';
import { Database } from '../../src/postgres/database.ts';
import { makePartitions } from '../../src/postgres/schema-keeper.ts';
import { databaseOptions, quietLog, testLedger, type TestLedger } from '../support/ledger.ts';
import type { Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';

const BOUNDS = { leaseTtlMs: 600, recordDays: 30 };

/** One coordinator's maintenance on `ledger`, whose task is `run`. */
function coordinator(t: Teardown, ledger: TestLedger, id: string, run: MaintenanceTask['run']) {
  const options = databaseOptions(ledger.adminUrl, 'tollgate_maintainer');
  const db = new Database(options, quietLog);
  const metrics = new PrometheusMetrics();
  const maintenance = new Maintenance({
    lease: new Lease('maintenance', db, id, BOUNDS.leaseTtlMs),
    tasks: [{ name: 'partitions', cron: '0 3 * * *', run }],
    makeWorkflows: () =>
      new Workflows({ url: options.url, connectTimeoutMs: 5_000, recordDays: 1 }, quietLog),
    bounds: BOUNDS,
    clock: systemClock,
    log: quietLog,
    metrics,
  });
  t.after(async () => {
    await maintenance.stop();
    await db.close();
  });
  const counted = async (outcome: string) => {
    const line = `tollgate_maintenance_runs_total{task="partitions",outcome="${outcome}"} `;
    return Number((await metrics.text()).split(line)[1]?.split('\n')[0]);
  };
  return { maintenance, db, counted };
}

await t.test('maintenance', async (t) => {
  const ledger = await testLedger(t);

  await t.test('is done by one of two, and by the other as soon as the first stops', async (t) => {
    const terms: bigint[] = [];
    const run: MaintenanceTask['run'] = async ({ term }) => {
      terms.push(term);
      return { done: 1 };
    };
    const one = coordinator(t, ledger, 'c1', run);
    await one.maintenance.start();
    await until(() => terms.length === 1, 'the first run');
    const two = coordinator(t, ledger, 'c2', run);
    await two.maintenance.start();
    await until(async () => (await one.counted('done')) === 1, 'it to be counted');
    t.same([one.maintenance.isOwner, two.maintenance.isOwner], [true, false]);
    t.ok(Date.now() - (one.maintenance.lastSuccessMs.get('partitions') ?? 0) < 60_000);

    await one.maintenance.stop();
    t.equal(one.maintenance.isOwner, false);
    await until(() => two.maintenance.isOwner && terms.length === 2, 'the other to take over');
    t.same(terms, [1n, 2n]);
  });

  await t.test('of an owner that was replaced while it worked changes nothing, and is counted', async (t) => {
    const gate = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const slow = coordinator(t, ledger, 'c3', async (fence) => {
      begun.resolve();
      await gate.promise;
      return makePartitions(slow.db, fence);
    });
    await slow.maintenance.start();
    await begun.promise;
    await ledger.sql(
      "update maintenance.leases set term = term + 1, owner = 'c4', until = clock_timestamp() + '1 h'",
    );
    gate.resolve();
    await until(async () => (await slow.counted('fenced')) === 1, 'the run to be refused');
    t.equal(await slow.counted('done'), 0);
    await until(() => !slow.maintenance.isOwner, 'it to know');
  });
});
