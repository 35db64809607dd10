import t from 'tap';
import { Lease } from '../../src/maintenance/lease.ts';
import { Database } from '../../src/postgres/database.ts';
import { makePartitions } from '../../src/postgres/schema-keeper.ts';
import { databaseOptions, quietLog, type TestLedger, testLedger } from '../support/ledger.ts';
import { until } from '../support/until.ts';

const TTL_MS = 60_000;

await t.test('the lease of maintenance', async (t) => {
  const ledger = await testLedger(t);
  const db = new Database(databaseOptions(ledger.adminUrl, 'tollgate_maintainer'), quietLog);
  t.after(() => db.close());
  const lease = (owner: string, name: string, ttlMs = TTL_MS) => new Lease(name, db, owner, ttlMs);
  const partitions = async () =>
    (
      await ledger.sql<{ n: number }>(
        "select count(*)::integer as n from pg_class where relname ~ '_[0-9]{6}$'",
      )
    )[0]?.n;

  await t.test('is one owner at a time, whose term stays while it prolongs', async (t) => {
    const [first, second] = [lease('c1', 'one'), lease('c2', 'one')];
    t.equal(await first.take(), 1n);
    t.equal(await second.take(), null);
    t.equal(await first.take(), 1n);
  });

  await t.test('passes on when it has run out, and the term grows by one', async (t) => {
    const [first, second] = [lease('c1', 'two', 50), lease('c2', 'two')];
    t.equal(await first.take(), 1n);
    t.equal(await until(async () => second.take(), 'the lease to run out'), 2n);
    t.equal(await first.take(), null, 'the first has lost it');
  });

  await t.test(
    'passes on at once when it is given back, with a new term for its old owner too',
    async (t) => {
      const [first, second] = [lease('c1', 'three'), lease('c2', 'three')];
      await first.take();
      await first.release(1n);
      t.equal(await second.take(), 2n);
      await first.release(1n);
      t.equal(await first.take(), null, 'a term that is over releases nothing');
      await second.release(2n);
      t.equal(await second.take(), 3n);
    },
  );

  await t.test('goes to one of many that come at once', async (t) => {
    const terms = await Promise.all(Array.from({ length: 10 }, (_, i) => lease(`c${i}`, 'four').take()));
    t.same(
      terms.filter((term) => term !== null),
      [1n],
    );
  });

  await t.test('fences: a write of a term that is over changes nothing and says so', async (t) => {
    const [first, second] = [lease('c1', 'five', 50), lease('c2', 'five')];
    await first.take();
    await until(async () => second.take(), 'the lease to run out');
    await ledger.sql('drop table jobs.jobs_' + (await lastMonth(ledger)));
    const before = await partitions();
    await t.rejects(makePartitions(db, { lease: 'five', term: 1n }), { code: 'TG_LEASE_LOST' });
    await t.rejects(makePartitions(db, { lease: 'nobody', term: 1n }), { code: 'TG_LEASE_LOST' });
    t.equal(await partitions(), before, 'the old owner made nothing');
    t.same(await makePartitions(db, { lease: 'five', term: 2n }), { made: 1 });
    t.same(await makePartitions(db, { lease: 'five', term: 2n }), { made: 0 });
  });

  await t.test('cannot pass on while a write of its owner is under way', async (t) => {
    const [first, second] = [lease('c1', 'six', 50), lease('c2', 'six')];
    await first.take();
    await ledger.sql('begin');
    await ledger.sql("select maintenance.hold_lease('six', 1)");
    let taken: bigint | null = null;
    const taking = until(async () => (taken = await second.take()), 'the lease');
    await until(async () => {
      const waiting =
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
      return (await ledger.sql(waiting)).length > 0;
    }, 'the second to wait for the row');
    t.equal(taken, null);
    await ledger.sql('commit');
    t.equal(await taking, 2n);
  });

  await t.test('has bounds', async (t) => {
    await t.rejects(lease('', 'seven').take(), { message: /22023/ });
    await t.rejects(lease('c1', 'seven', 0).take(), { message: /22023/ });
    await t.rejects(lease('c1', 'Not a name').take(), { message: /23514/ });
  });
});

/** Suffix of the furthest partition: nothing lives in it yet. */
async function lastMonth(ledger: TestLedger): Promise<string> {
  const [row] = await ledger.sql<{ month: string }>(
    "select max(right(relname, 6)) as month from pg_class where relname ~ '^jobs_[0-9]{6}$'",
  );
  return row?.month ?? '';
}
