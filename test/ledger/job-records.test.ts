import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import { JobRecords } from '../../src/ledger/job-records.ts';
import { testLedger } from '../support/ledger.ts';

await t.test('the record of a job', async (t) => {
  const ledger = await testLedger(t);
  const records = new JobRecords(ledger.dispatcher);

  await t.test('is null for an id without a row', async (t) => {
    t.equal(await records.find(newUuidV7()), null);
  });

  await t.test('tells a settled job whole, with the commit times of lock and resolution', async (t) => {
    const request = ledger.lockRequest();
    await ledger.locks.lockBatch([request]);
    const held = await records.find(request.jobId);
    t.match(held, { state: 'locked', resolution: null, endedAtMs: null, outcome: null, resultDigest: null });
    const result = ledger.settleRequest(request);
    await ledger.settlements.settleBatch([result]);
    const record = await records.find(request.jobId);
    t.match(record, {
      jobId: request.jobId,
      state: 'succeeded',
      code: null,
      kind: 'chat',
      priority: 'interactive',
      account: 'acme',
      namespace: 'acme/prod',
      publisher: 'acme-app',
      model: 'tiny-chat',
      modelVersion: 1,
      modelVersionId: ledger.modelVersionId,
      inputPriceMicro: 1_000_000n,
      outputPriceMicro: 2_000_000n,
      inputTokensMax: 1_000,
      outputTokensMax: 1_000,
      timeoutMs: 60_000,
      inputTokens: 500,
      outputTokens: 500,
      attempt: 1,
      attemptsMax: 3,
      node: 'node-1',
      session: request.session,
      outcome: 'completed',
      replyOwed: false,
      lockedMicro: 3_000n,
      chargedMicro: 1_500n,
      resolution: 'captured',
      resolutionMicro: 1_500n,
      resultDigest: result.digest.toString('hex'),
    });
    if (record === null) throw new Error('it was there');
    const order = [
      record.lockedAtMs,
      record.lockCommittedAtMs,
      record.resolvedAtMs,
      record.resolutionCommittedAtMs,
    ];
    const [tracked] = await ledger.sql(`select current_setting('track_commit_timestamp') as setting`);
    if (tracked?.['setting'] === 'on')
      t.same(
        order,
        order.toSorted((a, b) => Number(a) - Number(b)),
      );
    else t.match(order, [Number, null, Number, null]);
    t.ok((record.startByMs ?? 0) - record.createdAtMs === 20_000);
    t.ok((record.deadlineAtMs ?? 0) - record.createdAtMs === 85_000);
  });

  await t.test('tells a refused job, which never had a lock', async (t) => {
    const request = ledger.lockRequest({ inputTokensMax: 5_000 });
    await ledger.locks.lockBatch([request]);
    t.match(await records.find(request.jobId), {
      state: 'refused',
      code: 'TG_JOB_LIMITS',
      attempt: 0,
      node: null,
      session: null,
      lockedAtMs: null,
      lockedMicro: 0n,
      resolution: null,
    });
  });

  await t.test('tells an ended one', async (t) => {
    const request = ledger.lockRequest();
    await ledger.locks.lockBatch([request]);
    const { jobId } = request;
    await ledger.attempts.giveUpBatch([ledger.giveUpRequest(request, { isOwed: true })]);
    t.match(await records.find(jobId), {
      state: 'failed',
      code: 'TG_WORKER_LOST',
      outcome: 'lost',
      replyOwed: true,
      resolution: 'voided',
      resolutionMicro: 0n,
    });
  });
});
