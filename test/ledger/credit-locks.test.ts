import { randomBytes } from 'node:crypto';
import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import { endUnlockedRequest, ledgerConfig, type TestLedger, testLedger } from '../support/ledger.ts';
import { until } from '../support/until.ts';

/** The id of a job whose client made it `ms` from now. */
function idAt(ms: number): string {
  return newUuidV7({ nowMs: () => Date.now() + ms, monotonicMs: () => performance.now() });
}

async function heldMicro(ledger: TestLedger, account = 'acme'): Promise<bigint> {
  return (await ledger.accounts.show(account)).heldMicro;
}

/** How many rows a job left: in jobs.jobs and in credits.transfers. */
async function rowsOf(ledger: TestLedger, jobId: string): Promise<{ jobs: number; transfers: number }> {
  const [row] = await ledger.sql<{ jobs: number; transfers: number }>(
    `select (select count(*)::int from jobs.jobs where id = $1) as jobs,
            (select count(*)::int from credits.transfers where id = $1) as transfers`,
    [jobId],
  );
  return row ?? { jobs: -1, transfers: -1 };
}

/** A new account with exactly `micro` and nothing else. */
async function accountWith(ledger: TestLedger, name: string, micro: bigint): Promise<number> {
  const id = await ledger.accounts.create(name);
  if (micro > 0n) await ledger.accounts.topUp(newUuidV7(), name, micro);
  return id;
}

await t.test('lockBatch', async (t) => {
  const ledger = await testLedger(t);

  await t.test('an empty batch asks nobody', async (t) => {
    t.same(await ledger.locks.lockBatch([]), []);
  });

  await t.test('a new job is locked at its limits times price, on the worker proposed', async (t) => {
    const request = ledger.lockRequest();
    const before = await heldMicro(ledger);
    t.same(await ledger.locks.lockBatch([request]), [
      {
        kind: 'new',
        attempt: 1,
        node: 'node-1',
        session: request.session,
        startMs: 20_000,
        remainingMs: 60_000,
        amountMicro: 3_000n,
      },
    ]);
    t.equal((await heldMicro(ledger)) - before, 3_000n);
    t.same(await rowsOf(ledger, request.jobId), { jobs: 1, transfers: 1 });
  });

  await t.test('the amount is rounded up once per job', async (t) => {
    const [answer] = await ledger.locks.lockBatch([
      ledger.lockRequest({ inputTokensMax: 1, outputTokensMax: 1 }),
    ]);
    t.match(answer, { kind: 'new', amountMicro: 3n });
    const versionId = (
      await ledger.admin.query<{ id: number }>('add_model', ['rounded', 1, 1, 4_096, 4_096, 600_000])
    )[0]?.id;
    const [tiny] = await ledger.locks.lockBatch([
      ledger.lockRequest({ modelVersionId: versionId ?? 0, inputTokensMax: 1, outputTokensMax: 1 }),
    ]);
    t.match(tiny, { kind: 'new', amountMicro: 1n }, 'two millionths of a micro-credit cost one');
  });

  await t.test(
    'deadline = start window + timeout + grace after the lock, on the clock of PostgreSQL',
    async (t) => {
      const request = ledger.lockRequest({ timeoutMs: 30_000 });
      await ledger.locks.lockBatch([request]);
      const [row] = await ledger.sql<{ start: number; deadline: number }>(
        `select extract(epoch from start_by - created_at)::float8 as start,
              extract(epoch from deadline - created_at)::float8 as deadline from jobs.jobs where id = $1`,
        [request.jobId],
      );
      t.same(row, { start: 20, deadline: 55 });
    },
  );

  await t.test('the same job again is answered with its first lock and moves nothing', async (t) => {
    const request = ledger.lockRequest();
    await ledger.locks.lockBatch([request]);
    const before = await heldMicro(ledger);
    const [answer] = await ledger.locks.lockBatch([{ ...request, node: 'node-2', session: 7 }]);
    t.match(answer, {
      kind: 'exists',
      state: 'locked',
      attempt: 1,
      node: 'node-1',
      session: request.session,
    });
    t.match(answer, { modelVersionId: ledger.modelVersionId, chargedMicro: 0n, code: null });
    if (answer?.kind === 'exists') {
      t.ok(answer.startMs > 15_000 && answer.startMs <= 20_000, 'what is left of the start window');
      t.ok(answer.remainingMs > 55_000 && answer.remainingMs <= 60_000, 'what is left of the timeout');
    }
    t.equal(await heldMicro(ledger), before);
  });

  await t.test('a running job asked for again is answered at its newest reply address', async (t) => {
    const request = ledger.lockRequest({ replyTo: 'reply.p-acme-app.old', correlationId: 'a' });
    await ledger.locks.lockBatch([request]);
    const again = { ...request, replyTo: 'reply.p-acme-app.new', correlationId: null };
    await ledger.locks.lockBatch([again, ledger.lockRequest()]);
    const [answer] = await ledger.settlements.settleBatch([ledger.settleRequest(request)]);
    t.match(answer, { kind: 'settled', job: { replyTo: 'reply.p-acme-app.new', correlationId: null } });
  });

  await t.test('another body under the same id is a conflict and keeps the reply address', async (t) => {
    const request = ledger.lockRequest();
    await ledger.locks.lockBatch([request]);
    t.same(
      await ledger.locks.lockBatch([
        { ...request, digest: randomBytes(32), replyTo: 'reply.p-acme-app.other' },
      ]),
      [{ kind: 'conflict', field: 'body' }],
    );
    const [answer] = await ledger.settlements.settleBatch([ledger.settleRequest(request)]);
    t.match(answer, { kind: 'settled', job: { replyTo: request.replyTo } });
  });

  await t.test("another account's id is a conflict of the account, also with another body", async (t) => {
    const other = await accountWith(ledger, 'stranger', 1_000_000n);
    const request = ledger.lockRequest();
    await ledger.locks.lockBatch([request]);
    t.same(await ledger.locks.lockBatch([{ ...request, accountId: other, digest: randomBytes(32) }]), [
      { kind: 'conflict', field: 'account' },
    ]);
    t.equal(await heldMicro(ledger, 'stranger'), 0n);
  });

  await t.test('a row without a digest matches any body of its account', async (t) => {
    const request = ledger.lockRequest();
    await ledger.locks.lockBatch([request]);
    await ledger.sql('update jobs.jobs set digest = null where id = $1', [request.jobId]);
    const [answer] = await ledger.locks.lockBatch([{ ...request, digest: randomBytes(32) }]);
    t.match(answer, { kind: 'exists', state: 'locked' });
  });

  await t.test('an id outside the window is refused without a row', async (t) => {
    const early = ledger.lockRequest({ jobId: idAt(-7 * 86_400_000 - 60_000) });
    const late = ledger.lockRequest({ jobId: idAt(11 * 60_000) });
    const old = ledger.lockRequest({ jobId: idAt(-7 * 86_400_000 + 60_000) });
    const refused = { kind: 'refused', code: 'TG_JOB_ID_WINDOW', isRecorded: false };
    t.match(await ledger.locks.lockBatch([early, late, old]), [refused, refused, { kind: 'new' }]);
    t.same(await rowsOf(ledger, early.jobId), { jobs: 0, transfers: 0 });
    t.same(await rowsOf(ledger, late.jobId), { jobs: 0, transfers: 0 });
  });

  await t.test('a row that has left the window is still found', async (t) => {
    const request = ledger.lockRequest();
    await ledger.locks.lockBatch([request]);
    const old = { ...request, jobId: idAt(-8 * 86_400_000) };
    await ledger.sql('update jobs.jobs set id = $1 where id = $2', [old.jobId, request.jobId]);
    t.match(await ledger.locks.lockBatch([old]), [{ kind: 'exists', state: 'locked' }]);
  });

  await t.test('an unknown account is refused without a row', async (t) => {
    t.same(await ledger.locks.lockBatch([ledger.lockRequest({ accountId: 999_999 })]), [
      { kind: 'refused', code: 'TG_ACCOUNT_UNKNOWN', isRecorded: false },
    ]);
  });

  await t.test('nobody can spend for a system account', async (t) => {
    t.same(await ledger.locks.lockBatch([ledger.lockRequest({ accountId: 2 })]), [
      { kind: 'refused', code: 'TG_ACCOUNT_UNKNOWN', isRecorded: false },
    ]);
  });

  await t.test('a model without a price is refused and remembered', async (t) => {
    const versions = await ledger.admin.query<{ id: number }>('add_model', [
      'free',
      null,
      1,
      100,
      100,
      60_000,
    ]);
    const request = ledger.lockRequest({ modelVersionId: versions[0]?.id ?? 0, inputTokensMax: 1 });
    t.same(await ledger.locks.lockBatch([request]), [
      { kind: 'refused', code: 'TG_MODEL_NO_PRICE', isRecorded: true },
    ]);
    t.match(await ledger.locks.lockBatch([request]), [
      { kind: 'exists', state: 'refused', code: 'TG_MODEL_NO_PRICE', attempt: 0, node: null },
    ]);
    t.same(await rowsOf(ledger, request.jobId), { jobs: 1, transfers: 0 });
  });

  await t.test("limits beyond the model's are refused and remembered, each of the three", async (t) => {
    const beyond = [{ inputTokensMax: 4_097 }, { outputTokensMax: 4_097 }, { timeoutMs: 600_001 }];
    for (const change of beyond) {
      t.same(await ledger.locks.lockBatch([ledger.lockRequest(change)]), [
        { kind: 'refused', code: 'TG_JOB_LIMITS', isRecorded: true },
      ]);
    }
    const [atTheLimit] = await ledger.locks.lockBatch([
      ledger.lockRequest({ inputTokensMax: 4_096, outputTokensMax: 4_096, timeoutMs: 600_000 }),
    ]);
    t.match(atTheLimit, { kind: 'new', amountMicro: 12_288n });
  });

  await t.test(
    'a retired or unknown version is repriced without a row, and the new one is taken',
    async (t) => {
      const old = (
        await ledger.admin.query<{ id: number }>('add_model', ['moving', 1, 1, 100, 100, 60_000])
      )[0];
      const fresh = (await ledger.admin.query<{ id: number }>('set_price', ['moving', 5, 5]))[0];
      const limits = { inputTokensMax: 1, outputTokensMax: 1 };
      const request = ledger.lockRequest({ modelVersionId: old?.id ?? 0, ...limits });
      t.same(await ledger.locks.lockBatch([request, ledger.lockRequest({ modelVersionId: 123_456 })]), [
        { kind: 'repriced' },
        { kind: 'repriced' },
      ]);
      t.match(await ledger.locks.lockBatch([{ ...request, modelVersionId: fresh?.id ?? 0 }]), [
        { kind: 'new' },
      ]);
    },
  );

  await t.test('too little credit is refused and remembered, also after a top-up', async (t) => {
    const accountId = await accountWith(ledger, 'poor', 2_999n);
    const request = ledger.lockRequest({ accountId });
    t.same(await ledger.locks.lockBatch([request]), [
      { kind: 'refused', code: 'TG_CREDIT_INSUFFICIENT', isRecorded: true },
    ]);
    await ledger.accounts.topUp(newUuidV7(), 'poor', 1_000_000n);
    t.match(await ledger.locks.lockBatch([request]), [
      { kind: 'exists', state: 'refused', code: 'TG_CREDIT_INSUFFICIENT' },
    ]);
    t.equal(await heldMicro(ledger, 'poor'), 0n);
  });

  await t.test('an account that runs short is decided job by job, in the order of the batch', async (t) => {
    const accountId = await accountWith(ledger, 'short', 7_000n);
    const job = (outputTokensMax: number) =>
      ledger.lockRequest({ accountId, inputTokensMax: 1_000, outputTokensMax });
    // 3,000 + 5,000 + 3,000 + 1,002: the second does not fit, the third and a rest do.
    const batch = [job(1_000), job(2_000), job(1_000), job(1), ledger.lockRequest()];
    t.same(
      (await ledger.locks.lockBatch(batch.toReversed())).map((a) =>
        a.kind === 'new' ? a.amountMicro : a.kind,
      ),
      [3_000n, 1_002n, 3_000n, 'refused', 'refused'],
      'backwards: acme, 1,002, 3,000, then 5,000 and 3,000 find 2,998',
    );
    t.equal(await heldMicro(ledger, 'short'), 4_002n);
  });

  await t.test('a job that is locked already costs nothing when its account runs short', async (t) => {
    const accountId = await accountWith(ledger, 'exact', 6_000n);
    const [first, second, third] = [0, 1, 2].map(() => ledger.lockRequest({ accountId }));
    if (!first || !second || !third) throw new Error('three');
    await ledger.locks.lockBatch([first]);
    t.match(await ledger.locks.lockBatch([first, second, third]), [
      { kind: 'exists', state: 'locked' },
      { kind: 'new' },
      { kind: 'refused', code: 'TG_CREDIT_INSUFFICIENT', isRecorded: true },
    ]);
  });

  await t.test('a job without a cost needs no credit', async (t) => {
    const accountId = await accountWith(ledger, 'empty', 0n);
    const versions = await ledger.admin.query<{ id: number }>('add_model', ['gift', 0, 0, 100, 100, 60_000]);
    const limits = { inputTokensMax: 1, outputTokensMax: 1, modelVersionId: versions[0]?.id ?? 0 };
    t.match(await ledger.locks.lockBatch([ledger.lockRequest({ accountId, ...limits })]), [
      { kind: 'new', amountMicro: 0n },
    ]);
  });

  await t.test('a row that PostgreSQL cannot take is refused alone', async (t) => {
    const good = Array.from({ length: 5 }, () => ledger.lockRequest());
    const poison = ledger.lockRequest({ correlationId: 'a\u0000b' });
    const answers = await ledger.locks.lockBatch([...good.slice(0, 3), poison, ...good.slice(3)]);
    t.same(
      answers.map((answer) => (answer.kind === 'refused' ? answer : answer.kind)),
      ['new', 'new', 'new', { kind: 'refused', code: 'TG_STORE_REJECTED', isRecorded: false }, 'new', 'new'],
    );
  });

  await t.test('the same id twice in one batch is a programmer error', async (t) => {
    const request = ledger.lockRequest();
    await t.rejects(ledger.locks.lockBatch([request, request]), { name: 'InvariantError' });
  });

  await t.test('512 jobs of one account are one call', async (t) => {
    const accountId = await accountWith(ledger, 'bulk', 100_000_000n);
    const answers = await ledger.locks.lockBatch(
      Array.from({ length: 512 }, () => ledger.lockRequest({ accountId })),
    );
    t.equal(answers.filter((answer) => answer.kind === 'new').length, 512);
    t.equal(await heldMicro(ledger, 'bulk'), 512n * 3_000n);
  });
});

await t.test('lookUpBatch reads and changes nothing', async (t) => {
  const ledger = await testLedger(t);
  const request = ledger.lockRequest({ replyTo: 'reply.p-acme-app.first' });
  const unknown = ledger.lockRequest();
  await ledger.locks.lockBatch([request]);
  t.same(await ledger.locks.lookUpBatch([]), []);
  t.match(await ledger.locks.lookUpBatch([unknown, { ...request, replyTo: 'elsewhere' }]), [
    null,
    { kind: 'exists', state: 'locked', attempt: 1, node: 'node-1' },
  ]);
  t.same(await ledger.locks.lookUpBatch([{ ...request, accountId: 1 }]), [
    { kind: 'conflict', field: 'account' },
  ]);
  t.same(await ledger.locks.lookUpBatch([{ ...request, digest: randomBytes(32) }]), [
    { kind: 'conflict', field: 'body' },
  ]);
  t.same(await rowsOf(ledger, unknown.jobId), { jobs: 0, transfers: 0 });
});

await t.test('endUnlockedBatch', async (t) => {
  const ledger = await testLedger(t);

  await t.test('a refusal goes to the inserter alone, and is remembered', async (t) => {
    const request = endUnlockedRequest(ledger.lockRequest());
    t.same(await ledger.locks.endUnlockedBatch([request]), [{ kind: 'recorded' }]);
    t.match(await ledger.locks.endUnlockedBatch([request]), [
      { kind: 'exists', state: 'refused', code: 'TG_MODEL_UNKNOWN', attempt: 0, startMs: 0 },
    ]);
    t.same(await rowsOf(ledger, request.jobId), { jobs: 1, transfers: 0 });
  });

  await t.test('an expiry in the queue is remembered', async (t) => {
    const request = endUnlockedRequest(ledger.lockRequest(), { state: 'expired', code: 'TG_JOB_EXPIRED' });
    t.same(await ledger.locks.endUnlockedBatch([request]), [{ kind: 'recorded' }]);
    t.match(await ledger.locks.lockBatch([ledger.lockRequest({ ...request })]), [
      { kind: 'exists', state: 'expired', code: 'TG_JOB_EXPIRED' },
    ]);
  });

  await t.test('a locked job is told as it stands', async (t) => {
    const request = ledger.lockRequest();
    await ledger.locks.lockBatch([request]);
    t.match(
      await ledger.locks.endUnlockedBatch([
        endUnlockedRequest(request, { state: 'expired', code: 'TG_JOB_EXPIRED' }),
        endUnlockedRequest(ledger.lockRequest()),
        endUnlockedRequest(ledger.lockRequest({ jobId: idAt(-9 * 86_400_000) })),
      ]),
      [
        { kind: 'exists', state: 'locked', attempt: 1 },
        { kind: 'recorded' },
        { kind: 'refused', code: 'TG_JOB_ID_WINDOW', isRecorded: false },
      ],
    );
    t.same(await ledger.locks.endUnlockedBatch([endUnlockedRequest(request, { accountId: 1 })]), [
      { kind: 'conflict', field: 'account' },
    ]);
  });

  await t.test('a row that PostgreSQL cannot take is refused alone', async (t) => {
    const poison = endUnlockedRequest(ledger.lockRequest({ replyTo: '\u0000' }));
    t.same(await ledger.locks.endUnlockedBatch([poison, endUnlockedRequest(ledger.lockRequest())]), [
      { kind: 'refused', code: 'TG_STORE_REJECTED', isRecorded: false },
      { kind: 'recorded' },
    ]);
  });
});

await t.test('once the start window is over nothing is left of it', async (t) => {
  const ledger = await testLedger(t, { ...ledgerConfig, startWindowMs: 5 });
  const request = ledger.lockRequest();
  t.match(await ledger.locks.lockBatch([request]), [{ kind: 'new', startMs: 5 }]);
  await until(async () => {
    const [answer] = await ledger.locks.lockBatch([request]);
    return answer?.kind === 'exists' && answer.state === 'locked' && answer.startMs === 0;
  }, 'the start window to pass');
});
