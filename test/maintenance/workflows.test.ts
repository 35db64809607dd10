import { PgBoss } from 'pg-boss';
import t from 'tap';
import { Workflows } from '../../src/maintenance/workflows.ts';
import { databaseOptions, quietLog, testLedger } from '../support/ledger.ts';
import { until } from '../support/until.ts';

interface RunRow {
  readonly name: string;
  readonly state: string;
  readonly output: Record<string, unknown> | null;
}

const DAILY = '0 3 * * *';

await t.test('the schedules of maintenance', async (t) => {
  const ledger = await testLedger(t);
  const { url } = databaseOptions(ledger.adminUrl, 'tollgate_maintainer');
  const workflows = () => new Workflows({ url, connectTimeoutMs: 5_000, recordDays: 30 }, quietLog);
  const runs = () =>
    ledger.sql<RunRow>('select name, state::text, output from workflows.job order by created_on, name');

  await t.test('stand on the tables that pg-boss expects, made by our migrations', async (t) => {
    const boss = new PgBoss({
      connectionString: ledger.adminUrl,
      schema: 'workflows',
      migrate: false,
      max: 1,
    });
    await boss.start();
    t.after(() => boss.stop({ graceful: false }));
    const report = await boss.detectSchemaDrift();
    t.ok(report.ok, JSON.stringify(report));
  });

  await t.test('run each task at once, and record what it did', async (t) => {
    const one = workflows();
    const ran: string[] = [];
    const tasks = [
      { name: 'sweep_floor', cron: DAILY },
      { name: 'water_plants', cron: DAILY },
    ];
    await one.start(tasks, async ({ name }) => {
      ran.push(name);
      return { litres: 3 };
    });
    await until(async () => (await runs()).every(({ state }) => state === 'completed'), 'both to have run');
    await one.stop();
    t.same(ran.toSorted(), ['sweep_floor', 'water_plants']);
    t.same(
      (await runs()).map(({ name, output }) => [name, output]),
      [
        ['sweep_floor', { litres: 3 }],
        ['water_plants', { litres: 3 }],
      ],
    );
    t.same(await ledger.sql('select name, cron, timezone from workflows.schedule order by name'), [
      { name: 'sweep_floor', cron: DAILY, timezone: 'UTC' },
      { name: 'water_plants', cron: DAILY, timezone: 'UTC' },
    ]);
  });

  await t.test('record a failure, keep it for a repeat, and forget a schedule that is gone', async (t) => {
    const one = workflows();
    await one.start([{ name: 'water_plants', cron: DAILY }], () =>
      Promise.reject(new Error('the tap is dry')),
    );
    await until(
      async () => (await runs()).some(({ state }) => state === 'retry'),
      'the failure to be recorded',
    );
    await one.stop();
    const failed = (await runs()).find(({ state }) => state === 'retry');
    t.match(failed, { name: 'water_plants', output: { message: 'the tap is dry' } });
    t.same(await ledger.sql('select name from workflows.schedule'), [{ name: 'water_plants' }]);
  });
});
