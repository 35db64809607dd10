import t from 'tap';
import { SweepsPg } from '../../src/ledger/sweeps.ts';
import type { LockRequest } from '../../src/ledger/types.ts';
import { ledgerConfig, type TestLedger, testLedger } from '../support/ledger.ts';
import { until } from '../support/until.ts';

async function locked(
  ledger: TestLedger,
  count: number,
  change: Partial<LockRequest> = {},
): Promise<LockRequest[]> {
  const requests = Array.from({ length: count }, () => ledger.lockRequest(change));
  await ledger.locks.lockBatch(requests);
  return requests;
}

async function makeOverdue(ledger: TestLedger, requests: readonly LockRequest[]): Promise<void> {
  await ledger.sql(`update jobs.jobs set deadline = deadline - interval '1 day' where id = any ($1)`, [
    requests.map((request) => request.jobId),
  ]);
}

await t.test('sweepOverdue', async (t) => {
  const ledger = await testLedger(t);

  await t.test('ends what is past its deadline and nothing else', async (t) => {
    const before = await ledger.accounts.show('acme');
    const overdue = await locked(ledger, 3);
    const [running] = await locked(ledger, 1);
    await makeOverdue(ledger, overdue);
    const ended = await ledger.sweeps.sweepOverdue(10);
    t.same(ended.map((job) => job.jobId).toSorted(), overdue.map((request) => request.jobId).toSorted());
    t.match(ended[0], { state: 'failed', code: 'TG_JOB_OVERDUE', chargedMicro: 0n, lockedMicro: 3_000n });
    t.same(await ledger.sweeps.sweepOverdue(10), []);
    t.equal((await ledger.accounts.show('acme')).heldMicro - before.heldMicro, 3_000n, 'the running job');
    const kinds = await ledger.sql(
      'select kind, count(*)::int as n from credits.transfers where phase = 1 group by kind',
    );
    t.same(kinds, [{ kind: 'expire', n: 3 }]);
    t.match(await ledger.locks.lookUpBatch(running ? [running] : []), [{ state: 'locked' }]);
  });

  await t.test('every job it ends owes a reply until it is said to be sent', async (t) => {
    const owed = await ledger.sweeps.owedReplies(2);
    t.equal(owed.length, 2, 'no more than asked for');
    const all = await ledger.sweeps.owedReplies(10);
    t.equal(all.length, 3);
    await ledger.sweeps.clearOwed(all.map((job) => job.jobId));
    t.same(await ledger.sweeps.owedReplies(10), []);
  });

  await t.test('is bounded and takes the oldest deadline first', async (t) => {
    const [later, sooner] = await locked(ledger, 2);
    if (!later || !sooner) throw new Error('two');
    await makeOverdue(ledger, [later, sooner, sooner]);
    await makeOverdue(ledger, [sooner]);
    t.same(
      (await ledger.sweeps.sweepOverdue(1)).map((job) => job.jobId),
      [sooner.jobId],
    );
    t.same(
      (await ledger.sweeps.sweepOverdue(1)).map((job) => job.jobId),
      [later.jobId],
    );
  });

  await t.test('several coordinators end each job once', async (t) => {
    const overdue = await locked(ledger, 200);
    await makeOverdue(ledger, overdue);
    const others = [ledger.sweeps, new SweepsPg(ledger.dispatcher), new SweepsPg(ledger.admin)];
    const ended: string[] = [];
    await until(async () => {
      const swept = await Promise.all(others.map((sweeps) => sweeps.sweepOverdue(50)));
      ended.push(...swept.flat().map((job) => job.jobId));
      return ended.length >= 200;
    }, 'all overdue jobs to end');
    t.same(ended.toSorted(), overdue.map((request) => request.jobId).toSorted());
    t.equal(new Set(ended).size, 200);
  });

  await t.test('a result that comes first wins, and the sweep passes the job over', async (t) => {
    const [request] = await locked(ledger, 1);
    if (!request) throw new Error('one');
    await makeOverdue(ledger, [request]);
    const [[settled], swept] = await Promise.all([
      ledger.settlements.settleBatch([ledger.settleRequest(request)]),
      ledger.sweeps.sweepOverdue(10),
    ]);
    t.equal((settled?.kind === 'settled' ? 1 : 0) + swept.length, 1, 'exactly one of the two ended it');
    const [row] = await ledger.sql('select count(*)::int as n from credits.transfers where id = $1', [
      request.jobId,
    ]);
    t.same(row, { n: 2 });
  });

  await t.test('goes by the clock of PostgreSQL, not by that of the coordinator', async (t) => {
    const [running] = await locked(ledger, 1);
    const tomorrowMs = Date.now() + 86_400_000;
    const clock = t.intercept(Date, 'now', { value: () => tomorrowMs });
    const ended = await ledger.sweeps.sweepOverdue(10);
    clock.restore();
    t.same(ended, []);
    t.match(await ledger.locks.lookUpBatch(running ? [running] : []), [{ state: 'locked' }]);
  });
});

await t.test('openAttempts pages through the open jobs', async (t) => {
  const ledger = await testLedger(t, { ...ledgerConfig, startWindowMs: 1_000 });
  t.same(await ledger.sweeps.openAttempts(null, 10), []);
  const long = await locked(ledger, 3, { timeoutMs: 500_000 });
  const short = await locked(ledger, 4, { timeoutMs: 1_000 });
  const ended = await locked(ledger, 2);
  await ledger.settlements.settleBatch(ended.map((request) => ledger.settleRequest(request)));

  const first = await ledger.sweeps.openAttempts(null, 5);
  t.match(first[0], { attempt: 1, node: 'node-1', session: 1_700_000_000_000, pool: 'tiny-chat' });
  const deadlineInMs = first[0]?.deadlineInMs ?? 0;
  t.ok(deadlineInMs > 0 && deadlineInMs <= 7_000, 'start window + timeout + grace at most');
  const last = first.at(-1)?.jobId ?? '';
  const [openAtLast] = [...long, ...short].filter((request) => request.jobId === last);
  if (!openAtLast) throw new Error('the last of the page is one of ours');
  await ledger.settlements.settleBatch([ledger.settleRequest(openAtLast)]);
  const second = await ledger.sweeps.openAttempts(last, 5);
  t.same(
    [...first, ...second].map((attempt) => attempt.jobId).toSorted(),
    [...long, ...short].map((request) => request.jobId).toSorted(),
    'each once, though the page ended with a job that has ended since',
  );
});
