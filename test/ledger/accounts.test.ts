import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import { testLedger } from '../support/ledger.ts';

await t.test('accounts', async (t) => {
  const ledger = await testLedger(t);
  const { accounts } = ledger;

  await t.test('are shown with their credit and namespaces', async (t) => {
    await accounts.addNamespace('acme/dev');
    t.same(await accounts.show('acme'), {
      id: ledger.accountId,
      name: 'acme',
      creditedMicro: 10_000_000n,
      capturedMicro: 0n,
      heldMicro: 0n,
      freeMicro: 10_000_000n,
      namespaces: ['acme/dev', 'acme/prod'],
      limits: { jobsPerSecond: null, burstJobs: null, openLocksMax: null, queuedMax: null },
      publishers: [{ name: 'acme-app', bannedMs: 0 }],
    });
  });

  await t.test('that are unknown are TG_NOT_FOUND in every command', async (t) => {
    const notFound = { code: 'TG_NOT_FOUND' };
    await t.rejects(accounts.show('nobody'), notFound);
    await t.rejects(accounts.topUp(newUuidV7(), 'nobody', 1n), notFound);
    await t.rejects(accounts.addNamespace('nobody/prod'), notFound);
    await t.rejects(accounts.entitle('acme-app', 'nobody'), notFound);
    await t.rejects(accounts.entitle('nobody', 'acme'), notFound);
  });

  await t.test('names are used once', async (t) => {
    const exists = { code: 'TG_ALREADY_EXISTS' };
    await t.rejects(accounts.create('acme'), exists);
    await t.rejects(accounts.addNamespace('acme/prod'), exists);
    await t.rejects(accounts.addPublisher('acme-app'), exists);
    await accounts.entitle('acme-app', 'acme');
    t.pass('an entitlement may be given twice');
  });

  await t.test('names of the wrong form are rejected', async (t) => {
    for (const name of ['', 'Acme', 'a b', '-a', 'a/b', 'x'.repeat(63)])
      await t.rejects(accounts.create(name), { code: 'TG_STORE_REJECTED' }, name);
    await t.rejects(accounts.addNamespace('acme/Prod'), { code: 'TG_STORE_REJECTED' });
    t.equal(
      (await ledger.sql('select from credits.accounts where id >= 100')).length,
      1,
      'and leave nothing',
    );
  });
});

await t.test('a top-up', async (t) => {
  const ledger = await testLedger(t);
  const { accounts } = ledger;
  const id = newUuidV7();

  await t.test('adds credit once, however often it is sent', async (t) => {
    t.same(await accounts.topUp(id, 'acme', 5n), { isNew: true, freeMicro: 10_000_005n });
    t.same(await accounts.topUp(id, 'acme', 5n), { isNew: false, freeMicro: 10_000_005n });
    const answers = await Promise.all(Array.from({ length: 5 }, () => accounts.topUp(id, 'acme', 5n)));
    t.ok(answers.every((answer) => !answer.isNew));
    t.equal((await accounts.show('acme')).creditedMicro, 10_000_005n);
  });

  await t.test('is one even when several begin it together', async (t) => {
    const together = newUuidV7();
    const answers = await Promise.all(Array.from({ length: 5 }, () => accounts.topUp(together, 'acme', 7n)));
    t.equal(answers.filter((answer) => answer.isNew).length, 1);
    t.equal((await accounts.show('acme')).creditedMicro, 10_000_012n);
  });

  await t.test('id is not used again for anything else', async (t) => {
    await accounts.create('other');
    const exists = { code: 'TG_ALREADY_EXISTS' };
    await t.rejects(accounts.topUp(id, 'acme', 6n), exists);
    await t.rejects(accounts.topUp(id, 'other', 5n), exists);
    const job = ledger.lockRequest();
    await ledger.locks.lockBatch([job]);
    await t.rejects(accounts.topUp(job.jobId, 'acme', 3_000n), exists);
  });

  await t.test("id that is a job's too refuses the job alone", async (t) => {
    const [taken, free] = [ledger.lockRequest({ jobId: id }), ledger.lockRequest()];
    t.match(await ledger.locks.lockBatch([taken, free]), [
      { kind: 'refused', code: 'TG_STORE_REJECTED' },
      { kind: 'new' },
    ]);
  });

  await t.test('is more than nothing and of now', async (t) => {
    const rejected = { code: 'TG_STORE_REJECTED', sqlState: '22023' };
    await t.rejects(accounts.topUp(newUuidV7(), 'acme', 0n), rejected);
    await t.rejects(accounts.topUp(newUuidV7(), 'acme', -1n), rejected);
    const old = newUuidV7({ nowMs: () => Date.now() - 8 * 86_400_000, monotonicMs: () => 0 });
    await t.rejects(accounts.topUp(old, 'acme', 1n), rejected);
    await t.rejects(accounts.topUp(newUuidV7(), 'acme', 2n ** 53n), { code: 'TG_STORE_REJECTED' });
  });
});
