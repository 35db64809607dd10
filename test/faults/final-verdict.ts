import type { Test } from 'tap';
import { auditBounds, openAuditStores } from '../../src/audit/open-stores.ts';
import { runAudit } from '../../src/audit/run.ts';
import { quietLog } from '../support/ledger.ts';
import type { SteadyLoad } from '../support/steady-load.ts';
import { until } from '../support/until.ts';
import type { World } from '../support/world.ts';

/** What is judged when everything is quiet. */
interface Evidence {
  readonly tollgate: World;
  readonly load: SteadyLoad;
  /** The workers' own logs. */
  readonly workerLogs: readonly string[];
  /** Final states that may occur; a fault may cost a worker, and with it a job. */
  readonly states: readonly string[];
}

/**
 * After faults under load: every job that was submitted ended once and its client heard of that end, money, traces and slots are
 * whole, and the audit, which reads all stores by itself, agrees.
 */
export async function proveWhole(t: Test, { tollgate, load, workerLogs, states }: Evidence): Promise<void> {
  const { books, client } = tollgate;
  await load.stop();
  await until(() => load.unanswered.length === 0, 'an answer to every job', { timeoutMs: 40_000 });
  const ids = [...load.submitted];
  t.ok(ids.length > 100, `${ids.length} jobs were submitted`);

  await t.test('every job has one final state, and its client heard that one', async (t) => {
    const rows = await books.sql<{ id: string; state: string }>('select id, state::text from jobs.jobs');
    const stateOf = new Map(rows.map(({ id, state }) => [id, state]));
    const heardOf = Map.groupBy(client.replies, ({ message }) => message.job);
    const differing = ids.filter((id) => {
      const heard = new Set(heardOf.get(id)?.map(({ message }) => message.state));
      return [...heard].join() !== stateOf.get(id);
    });
    t.same(differing, []);
    const others = [...new Set(stateOf.values())].filter((state) => !states.includes(state));
    const ends = await books.sql(
      'select state::text, code, attempt, count(*)::int as jobs from jobs.jobs group by 1, 2, 3',
    );
    t.same(others, [], JSON.stringify(ends));
  });
  await t.test('the counters are what the transfers add up to, and every lock is resolved', async (t) => {
    t.same(await books.unresolved(), []);
    for (const { counted, computed } of await books.accounts()) t.equal(counted, computed);
  });
  await t.test('every job has its trace, once the spool is drained', async (t) => {
    for (const section of ['requests', 'attempts'] as const) {
      const missing = async () => {
        const traced = await books.tracedJobs(section);
        return ids.filter((id) => !traced.has(id));
      };
      await until(async () => (await missing()).length === 0, `all ${section}`, { timeoutMs: 20_000 });
      t.same(await missing(), []);
    }
  });
  await t.test('no slot has leaked', () => tollgate.slotsAreFree());
  await t.test('the audit finds nothing', async (t) => {
    const { postgresAdminUrl } = tollgate.servers;
    const config = { ...tollgate.config, servers: { ...tollgate.config.servers, postgresAdminUrl } };
    const { stores, close } = await openAuditStores(config, quietLog);
    t.after(close);
    const options = { bounds: auditBounds(config), workerLogs, clockSkewMs: 0 };
    const report = await runAudit(stores, options);
    t.equal(report.verdict, 'ok', JSON.stringify(report.invariants));
  });
}
