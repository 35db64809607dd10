import { randomBytes } from 'node:crypto';
import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import type { LockRequest } from '../../src/ledger/types.ts';
import { type TestLedger, testLedger } from '../support/ledger.ts';

async function locked(ledger: TestLedger, change: Partial<LockRequest> = {}): Promise<LockRequest> {
  const request = ledger.lockRequest(change);
  const [answer] = await ledger.locks.lockBatch([request]);
  if (answer?.kind !== 'new') throw new Error(`not locked: ${answer?.kind}`);
  return request;
}

async function resolutionOf(ledger: TestLedger, jobId: string): Promise<object | undefined> {
  const [row] = await ledger.sql(
    `select kind, amount_micro::int as micro, debit_account_id as debit, credit_account_id as credit, digest
       from credits.transfers where id = $1 and phase = 1`,
    [jobId],
  );
  return row;
}

await t.test('settleBatch', async (t) => {
  const ledger = await testLedger(t);

  await t.test('an empty batch asks nobody', async (t) => {
    t.same(await ledger.settlements.settleBatch([]), []);
  });

  await t.test('a result captures what it cost and frees the rest', async (t) => {
    const before = await ledger.accounts.show('acme');
    const request = await locked(ledger, { correlationId: 'c-1', traceparent: '00-aa-bb-01' });
    const result = ledger.settleRequest(request);
    const [answer] = await ledger.settlements.settleBatch([result]);
    t.match(answer, {
      kind: 'settled',
      isCapped: false,
      job: {
        jobId: request.jobId,
        accountId: ledger.accountId,
        namespaceId: ledger.namespaceId,
        namespace: 'acme/prod',
        publisher: 'acme-app',
        replyTo: 'reply.p-acme-app',
        correlationId: 'c-1',
        traceparent: '00-aa-bb-01',
        state: 'succeeded',
        code: null,
        attempt: 1,
        node: 'node-1',
        session: request.session,
        modelVersionId: ledger.modelVersionId,
        lockedMicro: 3_000n,
        chargedMicro: 1_500n,
      },
    });
    if (answer?.kind === 'settled') t.ok(Math.abs(answer.job.endedAtMs - Date.now()) < 60_000);
    const after = await ledger.accounts.show('acme');
    t.equal(after.capturedMicro - before.capturedMicro, 1_500n);
    t.equal(after.heldMicro, before.heldMicro);
    t.match(await resolutionOf(ledger, request.jobId), {
      kind: 'capture',
      micro: 1_500,
      debit: ledger.accountId,
      credit: 2,
      digest: result.digest,
    });
  });

  await t.test('the same result again is answered again and charges nothing', async (t) => {
    const request = await locked(ledger);
    const result = ledger.settleRequest(request);
    const [first] = await ledger.settlements.settleBatch([result]);
    const before = await ledger.accounts.show('acme');
    const [second] = await ledger.settlements.settleBatch([result]);
    t.match(second, { kind: 'same' });
    if (first?.kind === 'settled' && second?.kind === 'same') t.same(second.job, first.job);
    t.same(await ledger.accounts.show('acme'), before);
  });

  await t.test('another result of a settled attempt changes nothing', async (t) => {
    const request = await locked(ledger);
    await ledger.settlements.settleBatch([ledger.settleRequest(request)]);
    const before = await ledger.accounts.show('acme');
    const other = ledger.settleRequest(request, { digest: randomBytes(32), outputTokens: 1_000 });
    t.same(await ledger.settlements.settleBatch([other]), [{ kind: 'different', namespace: 'acme/prod' }]);
    t.same(await ledger.accounts.show('acme'), before);
  });

  await t.test('a result outside the fence is stale and changes nothing', async (t) => {
    const request = await locked(ledger);
    const stale = [{ attempt: 2 }, { node: 'node-2' }, { session: request.session + 1 }];
    for (const change of stale) {
      t.same(await ledger.settlements.settleBatch([ledger.settleRequest(request, change)]), [
        { kind: 'stale', namespace: 'acme/prod' },
      ]);
    }
    t.equal(await resolutionOf(ledger, request.jobId), undefined);
    t.match(await ledger.settlements.settleBatch([ledger.settleRequest(request)]), [{ kind: 'settled' }]);
    t.match(await ledger.settlements.settleBatch([ledger.settleRequest(request, { node: 'node-2' })]), [
      { kind: 'stale' },
    ]);
  });

  await t.test('a result of an earlier attempt is late', async (t) => {
    const request = await locked(ledger);
    await ledger.sql('update jobs.jobs set attempt = 2, node = null, session = null where id = $1', [
      request.jobId,
    ]);
    t.same(await ledger.settlements.settleBatch([ledger.settleRequest(request)]), [
      { kind: 'late', namespace: 'acme/prod', state: 'locked' },
    ]);
  });

  await t.test('a result of a job that ended without one is late', async (t) => {
    const request = await locked(ledger);
    await ledger.attempts.giveUpBatch([ledger.giveUpRequest(request)]);
    t.same(await ledger.settlements.settleBatch([ledger.settleRequest(request)]), [
      { kind: 'late', namespace: 'acme/prod', state: 'failed' },
    ]);
  });

  await t.test(
    'a result for a job that was never locked is stale, for one without a row unknown',
    async (t) => {
      const refused = ledger.lockRequest({ inputTokensMax: 5_000 });
      await ledger.locks.lockBatch([refused]);
      t.match(
        await ledger.settlements.settleBatch([
          ledger.settleRequest(refused),
          ledger.settleRequest(ledger.lockRequest()),
        ]),
        [{ kind: 'stale' }, { kind: 'unknown' }],
      );
    },
  );

  await t.test('a failed result voids the lock and fails the job', async (t) => {
    const before = await ledger.accounts.show('acme');
    const request = await locked(ledger);
    const result = ledger.settleRequest(request, { status: 'failed' });
    t.match(await ledger.settlements.settleBatch([result]), [
      { kind: 'settled', job: { state: 'failed', code: 'TG_WORKER_ERROR', chargedMicro: 0n } },
    ]);
    t.match(await ledger.settlements.settleBatch([result]), [{ kind: 'same', job: { state: 'failed' } }]);
    t.same(await ledger.accounts.show('acme'), before);
    t.match(await resolutionOf(ledger, request.jobId), { kind: 'void', micro: 0, digest: result.digest });
  });

  await t.test('usage beyond the limits is charged up to the lock and told', async (t) => {
    const request = await locked(ledger);
    const greedy = ledger.settleRequest(request, { inputTokens: 100_000_000, outputTokens: 100_000_000 });
    t.match(await ledger.settlements.settleBatch([greedy]), [
      { kind: 'settled', isCapped: true, job: { chargedMicro: 3_000n } },
    ]);
    t.match(await ledger.settlements.settleBatch([greedy]), [{ kind: 'same', isCapped: true }]);
    const within = await locked(ledger);
    t.match(
      await ledger.settlements.settleBatch([
        ledger.settleRequest(within, { inputTokens: 1_000, outputTokens: 1_000 }),
      ]),
      [{ kind: 'settled', isCapped: false, job: { chargedMicro: 3_000n } }],
    );
  });

  await t.test('the charge is rounded up once, at the price of the lock', async (t) => {
    const id = (
      await ledger.admin.query<{ id: number }>('add_model', ['drift', 3, 3, 4_096, 4_096, 600_000])
    )[0]?.id;
    const request = await locked(ledger, { modelVersionId: id ?? 0 });
    await ledger.admin.query('set_price', ['drift', 900_000_000, 900_000_000]);
    t.match(
      await ledger.settlements.settleBatch([
        ledger.settleRequest(request, { inputTokens: 1, outputTokens: 1 }),
      ]),
      [{ kind: 'settled', job: { chargedMicro: 1n } }],
    );
  });

  await t.test('one batch answers each of its results by itself', async (t) => {
    const jobs = await Promise.all(Array.from({ length: 3 }, () => locked(ledger)));
    const [first, second, third] = jobs.map((job) => ledger.settleRequest(job));
    if (!first || !second || !third) throw new Error('three');
    await ledger.settlements.settleBatch([second]);
    const unknown = ledger.settleRequest(ledger.lockRequest());
    t.same(
      (await ledger.settlements.settleBatch([third, unknown, second, { ...first, session: 1 }])).map(
        (a) => a.kind,
      ),
      ['settled', 'unknown', 'same', 'stale'],
    );
  });

  await t.test('a result that PostgreSQL cannot take is unknown, the others are settled', async (t) => {
    const [a, b] = [await locked(ledger), await locked(ledger)];
    t.same(
      (
        await ledger.settlements.settleBatch([
          ledger.settleRequest(a, { node: 'node\u0000' }),
          ledger.settleRequest(b),
        ])
      ).map((answer) => answer.kind),
      ['unknown', 'settled'],
    );
  });

  await t.test('a batch of several accounts moves each counter by its own jobs', async (t) => {
    const accountId = await ledger.accounts.create('second');
    await ledger.accounts.topUp(newUuidV7(), 'second', 10_000n);
    const [mine, theirs] = [await locked(ledger), await locked(ledger, { accountId })];
    const before = await ledger.accounts.show('acme');
    await ledger.settlements.settleBatch([ledger.settleRequest(theirs), ledger.settleRequest(mine)]);
    t.match(await ledger.accounts.show('second'), {
      capturedMicro: 1_500n,
      heldMicro: 0n,
      freeMicro: 8_500n,
    });
    t.equal((await ledger.accounts.show('acme')).capturedMicro - before.capturedMicro, 1_500n);
  });
});

await t.test('giving up for good', async (t) => {
  const ledger = await testLedger(t);

  await t.test('ends a locked job once: all returns, nothing is charged', async (t) => {
    const before = await ledger.accounts.show('acme');
    const request = await locked(ledger);
    t.match(await ledger.attempts.giveUpBatch([ledger.giveUpRequest(request)]), [
      {
        kind: 'ended',
        job: {
          state: 'failed',
          code: 'TG_WORKER_LOST',
          chargedMicro: 0n,
          lockedMicro: 3_000n,
          node: 'node-1',
        },
      },
    ]);
    t.same(await ledger.attempts.giveUpBatch([ledger.giveUpRequest(request)]), [
      { kind: 'late', namespace: 'acme/prod' },
    ]);
    t.same(await ledger.accounts.show('acme'), before);
    t.match(await resolutionOf(ledger, request.jobId), { kind: 'void', micro: 0, digest: null });
    t.match(await ledger.locks.lockBatch([request]), [
      { kind: 'exists', state: 'failed', code: 'TG_WORKER_LOST', startMs: 0, remainingMs: 0 },
    ]);
  });

  await t.test('leaves alone what the fence does not name', async (t) => {
    const request = await locked(ledger);
    const end = ledger.giveUpRequest(request);
    const others = [{ attempt: 2 }, { node: 'node-2' }, { session: 1 }];
    for (const change of others)
      t.match(await ledger.attempts.giveUpBatch([{ ...end, ...change }]), [{ kind: 'stale' }]);
    t.same(await ledger.attempts.giveUpBatch([{ ...end, jobId: newUuidV7() }]), [{ kind: 'unknown' }]);
    t.match(await ledger.settlements.settleBatch([ledger.settleRequest(request)]), [{ kind: 'settled' }]);
    t.match(await ledger.attempts.giveUpBatch([end]), [{ kind: 'different' }], 'a settled job stays settled');
  });

  await t.test('a reply is owed only where nobody stands behind the call', async (t) => {
    const [owed, answered] = [await locked(ledger), await locked(ledger)];
    await ledger.attempts.giveUpBatch([
      ledger.giveUpRequest(owed, { isOwed: true }),
      ledger.giveUpRequest(answered),
    ]);
    const owedReplies = await ledger.sweeps.owedReplies(10);
    t.same(
      owedReplies.map((job) => job.jobId),
      [owed.jobId],
    );
    await ledger.sweeps.clearOwed([owed.jobId, answered.jobId]);
    await ledger.sweeps.clearOwed([]);
    t.same(await ledger.sweeps.owedReplies(10), []);
  });

  await t.test('a row that PostgreSQL cannot take is passed over', async (t) => {
    const [good, bad] = [await locked(ledger), await locked(ledger)];
    t.same(
      (
        await ledger.attempts.giveUpBatch([
          ledger.giveUpRequest(bad, { node: '\u0000' }),
          ledger.giveUpRequest(good),
        ])
      ).map((answer) => answer.kind),
      ['unknown', 'ended'],
    );
  });
});
