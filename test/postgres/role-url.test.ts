import t from 'tap';
import { Database } from '../../src/postgres/database.ts';
import { SqlRejection } from '../../src/postgres/failures.ts';
import { actingAs, loginAs } from '../../src/postgres/role-url.ts';
import { databaseOptions, quietLog, testLedger } from '../support/ledger.ts';

await t.test('another login keeps password, host and settings', async (t) => {
  t.equal(loginAs('postgres://a:p%20w@h:1/d?x=1', 'b'), 'postgres://b:p%20w@h:1/d?x=1');
});

await t.test('a superuser who acts as the auditor reads and cannot write', async (t) => {
  const ledger = await testLedger(t);
  const url = actingAs(ledger.adminUrl, 'tollgate_auditor');
  const db = new Database({ ...databaseOptions(ledger.adminUrl, null, 1), url }, quietLog);
  t.after(() => db.close());
  t.equal((await db.query('audit_accounts', [0, 10])).length, 3, 'two of the system, one customer');
  await t.rejects(db.query('create_account', ['other']), SqlRejection);
});
