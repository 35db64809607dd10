import t from 'tap';
import { testLedger } from '../support/ledger.ts';

/** What the schema itself refuses, also to a superuser and to wrong code. */
await t.test('the ledger refuses', async (t) => {
  const ledger = await testLedger(t);
  const request = ledger.lockRequest();
  await ledger.locks.lockBatch([request]);
  await ledger.settlements.settleBatch([ledger.settleRequest(request)]);

  const refused = (name: string, statement: string, code: string, params: readonly unknown[] = []) =>
    t.test(name, (t) => t.rejects(ledger.sql(statement, params), { code }));

  await refused(
    'an overdraft by a direct UPDATE',
    'update credits.accounts set held_micro = 10000001 where id >= 100',
    '23514',
  );
  await refused(
    'a counter below zero',
    'update credits.accounts set captured_micro = -1 where id >= 100',
    '23514',
  );
  await refused('a change of a transfer', 'update credits.transfers set amount_micro = 1', '23001');
  await refused('the removal of a transfer', 'delete from credits.transfers', '23001');
  await refused('to empty the transfers', 'truncate credits.transfers', '23001');
  await t.test('to change or empty each of its partitions', async (t) => {
    const partitions = await ledger.sql<{ name: string }>(
      `select inhrelid::regclass::text as name from pg_inherits where inhparent = 'credits.transfers'::regclass`,
    );
    t.equal(partitions.length, 5);
    for (const { name } of partitions) {
      await t.rejects(ledger.sql(`truncate ${name}`), { code: '23001' }, name);
      if ((await ledger.sql(`select from ${name}`)).length === 0) continue;
      await t.rejects(ledger.sql(`delete from ${name}`), { code: '23001' }, name);
      await t.rejects(ledger.sql(`update ${name} set amount_micro = 0`), { code: '23001' }, name);
    }
  });
  const transfer = `insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)`;
  await refused('a second resolution of a lock', `${transfer} values ($1, 1, 'void', 100, 2, 0)`, '23505', [
    request.jobId,
  ]);
  await refused(
    'a transfer from an account to itself',
    `${transfer} values (gen_random_uuid(), 0, 'lock', 2, 2, 0)`,
    '23514',
  );
  await refused('a void of more than nothing', `${transfer} values ($1, 1, 'void', 100, 2, 1)`, '23514', [
    ledger.lockRequest().jobId,
  ]);
  await refused('a lock as a resolution', `${transfer} values ($1, 1, 'lock', 100, 2, 1)`, '23514', [
    ledger.lockRequest().jobId,
  ]);
  await refused('a charge beyond the lock', 'update jobs.jobs set charged_micro = locked_micro + 1', '23514');
  await refused('a job that is locked and has ended', `update jobs.jobs set state = 'locked'`, '23514');
  await refused('a digest of another length', `update jobs.jobs set digest = '\\x00'`, '23514');
  await refused(
    'a new price in an old model version',
    'update network.model_versions set input_price_micro = 7',
    '23001',
  );
  await refused('the removal of a model version', 'delete from network.model_versions', '23001');
  await refused(
    'two active versions of a model',
    `insert into network.model_versions (model_id, version, input_tokens_max, output_tokens_max, timeout_ms_max) select model_id, 9, 1, 1, 1000 from network.model_versions`,
    '23505',
  );
});
