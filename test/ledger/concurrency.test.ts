import { randomBytes } from 'node:crypto';
import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import { CreditLocksPg } from '../../src/ledger/credit-locks.ts';
import type { LockAnswer, LockRequest } from '../../src/ledger/types.ts';
import { endUnlockedRequest, ledgerConfig, quietLog, testLedger } from '../support/ledger.ts';
import { until } from '../support/until.ts';

const kindsOf = (answers: readonly LockAnswer[]) => answers.map((answer) => answer.kind);

/** Sessions of this database that wait for a row. */
const WAITING_HERE = `
  select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;

await t.test('two coordinators', async (t) => {
  const ledger = await testLedger(t);
  const other = new CreditLocksPg(ledgerConfig, quietLog, ledger.admin);

  await t.test('with the same ids lock each job once', async (t) => {
    for (let round = 0; round < 10; round++) {
      const batch = Array.from({ length: 20 }, () => ledger.lockRequest());
      const [mine, theirs] = await Promise.all([
        ledger.locks.lockBatch(batch),
        other.lockBatch(batch.toReversed()).then((answers) => answers.toReversed()),
      ]);
      for (const [i, answer] of mine.entries())
        t.same(
          new Set([answer.kind, theirs[i]?.kind]),
          new Set(['new', 'exists']),
          `round ${round}, job ${i}`,
        );
    }
    const statement = await ledger.accounts.show('acme');
    t.equal(statement.heldMicro, 200n * 3_000n);
  });

  await t.test('refusing and locking one job never both do it', async (t) => {
    const batch = Array.from({ length: 40 }, () => ledger.lockRequest());
    const refusals = batch.map((request) => endUnlockedRequest(request));
    const [locks, ends] = await Promise.all([
      Promise.all(batch.map((request) => ledger.locks.lockBatch([request]))),
      Promise.all(refusals.map((request) => other.endUnlockedBatch([request]))),
    ]);
    for (const [i, [lock]] of locks.entries()) {
      const end = ends[i]?.[0];
      t.ok((lock?.kind === 'new') !== (end?.kind === 'recorded'), `job ${i}: ${lock?.kind} and ${end?.kind}`);
    }
    const both = await ledger.sql(
      `select from jobs.jobs j where j.state = 'refused' and exists (select from credits.transfers x where x.id = j.id)`,
    );
    t.equal(both.length, 0);
  });

  await t.test('with two accounts and one id give the job to one of them', async (t) => {
    const accountId = await ledger.accounts.create('rival');
    await ledger.accounts.topUp(newUuidV7(), 'rival', 1_000_000n);
    const mine = Array.from({ length: 20 }, () => ledger.lockRequest());
    const theirs = mine.map((request): LockRequest => ({ ...request, accountId, digest: randomBytes(32) }));
    const [a, b] = await Promise.all([ledger.locks.lockBatch(mine), other.lockBatch(theirs)]);
    for (const [i, answer] of a.entries())
      t.same(new Set([answer.kind, b[i]?.kind]), new Set(['new', 'conflict']), `job ${i}`);
    const rival = await ledger.accounts.show('rival');
    t.equal(rival.heldMicro, BigInt(b.filter((answer) => answer.kind === 'new').length) * 3_000n);
  });

  await t.test('cannot spend more than an account has, together', async (t) => {
    const accountId = await ledger.accounts.create('scarce');
    await ledger.accounts.topUp(newUuidV7(), 'scarce', 30_000n);
    const batches = Array.from({ length: 6 }, () =>
      Array.from({ length: 5 }, () => ledger.lockRequest({ accountId })),
    );
    const answers = await Promise.all(
      batches.map((batch, i) => (i % 2 ? ledger.locks : other).lockBatch(batch).then(kindsOf)),
    );
    t.equal(answers.flat().filter((kind) => kind === 'new').length, 10);
    t.match(await ledger.accounts.show('scarce'), { freeMicro: 0n, heldMicro: 30_000n });
  });

  await t.test('cannot spend what the other is about to commit', async (t) => {
    const accountId = await ledger.accounts.create('taken');
    await ledger.accounts.topUp(newUuidV7(), 'taken', 3_000n);
    const hold = 'update credits.accounts set held_micro = held_micro + $2 where id = $1';
    await ledger.sql('begin');
    await ledger.sql(hold, [accountId, 3_000]);
    const locking = ledger.locks.lockBatch([ledger.lockRequest({ accountId })]);
    const waiting = () => ledger.sql('select pg_stat_clear_snapshot()').then(() => ledger.sql(WAITING_HERE));
    await until(async () => (await waiting()).length > 0, 'the call to wait for the account');
    await ledger.sql('commit');
    t.match(await locking, [{ kind: 'refused', code: 'TG_CREDIT_INSUFFICIENT', isRecorded: true }]);
    await ledger.sql(hold, [accountId, -3_000]);
  });
});

await t.test('a result is settled once', async (t) => {
  const ledger = await testLedger(t);
  const request = ledger.lockRequest();
  await ledger.locks.lockBatch([request]);

  await t.test('however many coordinators hold it', async (t) => {
    const result = ledger.settleRequest(request);
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => ledger.settlements.settleBatch([result])),
    );
    t.same(
      answers
        .flat()
        .map((answer) => answer.kind)
        .toSorted(),
      [...Array.from({ length: 7 }, () => 'same'), 'settled'],
    );
    t.match(await ledger.accounts.show('acme'), { capturedMicro: 1_500n, heldMicro: 0n });
  });

  await t.test('not at all when the fence moved while it waited for the account', async (t) => {
    const next = ledger.lockRequest();
    await ledger.locks.lockBatch([next]);
    await ledger.sql('begin');
    await ledger.sql('select credits.lock_accounts(array[$1::integer])', [ledger.accountId]);
    const settling = ledger.settlements.settleBatch([ledger.settleRequest(next)]);
    await ledger.sql('update jobs.jobs set attempt = 2, node = null, session = null where id = $1', [
      next.jobId,
    ]);
    await ledger.sql('commit');
    t.match(await settling, [{ kind: 'late', state: 'locked' }]);
    t.match(await ledger.accounts.show('acme'), { heldMicro: 3_000n });
  });

  await t.test(
    'not before its lock, though that commits while the batch waits for another account',
    async (t) => {
      const other = new CreditLocksPg(ledgerConfig, quietLog, ledger.admin);
      const accountId = await ledger.accounts.create('early');
      await ledger.accounts.topUp(newUuidV7(), 'early', 10_000n);
      const calls = [
        (jobs: LockRequest[]) => ledger.settlements.settleBatch(jobs.map((job) => ledger.settleRequest(job))),
        (jobs: LockRequest[]) => ledger.attempts.giveUpBatch(jobs.map((job) => ledger.giveUpRequest(job))),
      ];
      for (const [n, call] of calls.entries()) {
        const [asked, early] = [ledger.lockRequest(), ledger.lockRequest({ accountId })];
        await ledger.locks.lockBatch([asked]);
        await ledger.sql('begin');
        await ledger.sql('select credits.lock_accounts(array[$1::integer])', [ledger.accountId]);
        const answers = call([asked, early]);
        // In a transaction the view would stay as it was first seen.
        const waiting = () =>
          ledger.sql('select pg_stat_clear_snapshot()').then(() => ledger.sql(WAITING_HERE));
        await until(async () => (await waiting()).length > 0, 'the call to wait for the account');
        await other.lockBatch([early]);
        await ledger.sql('commit');
        t.equal((await answers)[1]?.kind, 'unknown');
        t.match(await ledger.accounts.show('early'), {
          heldMicro: 3_000n * BigInt(n + 1),
          capturedMicro: 0n,
        });
      }
    },
  );

  await t.test('and its end by the other way finds it settled, or the result comes late', async (t) => {
    const requests = Array.from({ length: 30 }, () => ledger.lockRequest());
    await ledger.locks.lockBatch(requests);
    const outcomes = await Promise.all(
      requests.map((one) =>
        Promise.all([
          ledger.settlements.settleBatch([ledger.settleRequest(one)]),
          ledger.attempts.giveUpBatch([ledger.giveUpRequest(one)]),
        ]),
      ),
    );
    for (const [[settled], [ended]] of outcomes)
      t.ok(
        (settled?.kind === 'settled') !== (ended?.kind === 'ended'),
        `${settled?.kind} and ${ended?.kind}`,
      );
  });
});

await t.test('a deadlock is repeated until it passes', async (t) => {
  const ledger = await testLedger(t);
  const accountId = await ledger.accounts.create('second');
  await ledger.accounts.topUp(newUuidV7(), 'second', 1_000_000n);
  // Another session takes the two accounts in the wrong order, so that one of the two must give way.
  await ledger.sql('begin');
  await ledger.sql('select from credits.accounts where id = $1 for update', [accountId]);
  const locking = ledger.locks.lockBatch([ledger.lockRequest(), ledger.lockRequest({ accountId })]);
  await until(
    async () => (await ledger.sql('select from pg_locks where not granted')).length > 0,
    'the batch to wait for the second account with the first in its hands',
  );
  const wrong = ledger
    .sql('select from credits.accounts where id = $1 for update', [ledger.accountId])
    .catch((error: unknown) => error);
  await Promise.race([wrong, locking]);
  await ledger.sql('rollback');
  t.same(kindsOf(await locking), ['new', 'new']);
});
