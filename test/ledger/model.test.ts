import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import type { LockRequest, SettleRequest } from '../../src/ledger/types.ts';
import { type TestLedger, testLedger } from '../support/ledger.ts';

/**
 * The ledger against a model of ten lines: random locks, results, ends, sweeps, top-ups and replays on two accounts. After
 * every step the counters are the model's, free + held + captured is what was credited, and the transfers add up to them.
 */
interface ModelJob {
  readonly request: LockRequest;
  readonly amountMicro: bigint;
  state: 'locked' | 'refused' | 'succeeded' | 'failed';
  settledBy: string | null;
}

interface Model {
  readonly credited: Map<number, bigint>;
  readonly captured: Map<number, bigint>;
  readonly jobs: ModelJob[];
}

const NAMES = ['thin', 'lean'];
const RUNS = 50;
const COMMANDS_MAX = 40;

const held = (model: Model, accountId: number) =>
  model.jobs
    .filter((job) => job.state === 'locked' && job.request.accountId === accountId)
    .reduce((sum, job) => sum + job.amountMicro, 0n);

const free = (model: Model, accountId: number) =>
  (model.credited.get(accountId) ?? 0n) - (model.captured.get(accountId) ?? 0n) - held(model, accountId);

function digestOf(tag: number, jobId: string): Buffer {
  return createHash('sha256').update(`${tag}${jobId}`).digest();
}

type Step = (ledger: TestLedger, model: Model) => Promise<void>;

function expectEqual<T>(actual: T, expected: T, what: string): void {
  if (actual !== expected) throw new Error(`${what}: ${String(actual)}, expected ${String(expected)}`);
}

/** Locks new jobs in one batch, with some old ones mixed in. */
function lock(sizes: readonly number[], account: number, replays: readonly number[]): Step {
  return async (ledger, model) => {
    const accountId = [...model.credited.keys()][account] ?? 0;
    const fresh = sizes.map((tokens) =>
      ledger.lockRequest({ accountId, inputTokensMax: tokens, outputTokensMax: tokens }),
    );
    const old = [...new Set(replays.map((i) => model.jobs.at(-1 - i)))].filter((job) => job !== undefined);
    const answers = await ledger.locks.lockBatch([...old.map((job) => job.request), ...fresh]);
    for (const [i, job] of old.entries()) {
      const answer = answers[i];
      expectEqual(answer?.kind === 'exists' ? answer.state : answer?.kind, job.state, 'a replayed lock');
    }
    for (const [i, request] of fresh.entries()) {
      const amountMicro = BigInt(request.inputTokensMax * 3);
      const fits = amountMicro <= free(model, accountId);
      model.jobs.push({ request, amountMicro, state: fits ? 'locked' : 'refused', settledBy: null });
      expectEqual(answers[old.length + i]?.kind, fits ? 'new' : 'refused', 'a new lock');
    }
  };
}

/** Sends a result for some job, whatever state it is in: twice the limits at most, so that the cap is met too. */
function settle(pick: number, share: number, tag: number, isStale: boolean, completed: boolean): Step {
  return async (ledger, model) => {
    const job = model.jobs.at(-1 - pick);
    if (job === undefined) return;
    const tokens = Math.floor(job.request.inputTokensMax * share);
    const digest = digestOf(tag, job.request.jobId);
    const result: SettleRequest = {
      ...ledger.settleRequest(job.request, { inputTokens: tokens, outputTokens: tokens, digest }),
      session: job.request.session + (isStale ? 1 : 0),
      status: completed ? 'completed' : 'failed',
    };
    const [answer] = await ledger.settlements.settleBatch([result]);
    if (job.state === 'refused' || isStale) return expectEqual(answer?.kind, 'stale', 'a stale result');
    if (job.settledBy !== null)
      return expectEqual(
        answer?.kind,
        job.settledBy === digest.toString('hex') ? 'same' : 'different',
        'a replay',
      );
    if (job.state !== 'locked') return expectEqual(answer?.kind, 'late', 'a late result');
    expectEqual(answer?.kind, 'settled', 'a first result');
    job.state = completed ? 'succeeded' : 'failed';
    job.settledBy = digest.toString('hex');
    const cost = BigInt(tokens * 3);
    const charge = !completed ? 0n : cost < job.amountMicro ? cost : job.amountMicro;
    const { accountId } = job.request;
    model.captured.set(accountId, (model.captured.get(accountId) ?? 0n) + charge);
  };
}

function end(pick: number): Step {
  return async (ledger, model) => {
    const job = model.jobs.at(-1 - pick);
    if (job === undefined) return;
    const [answer] = await ledger.attempts.giveUpBatch([ledger.giveUpRequest(job.request)]);
    expectEqual(answer?.kind === 'ended', job.state === 'locked', 'an end');
    if (job.state === 'locked') job.state = 'failed';
  };
}

function sweep(pick: number): Step {
  return async (ledger, model) => {
    const job = model.jobs.at(-1 - pick);
    if (job?.state === 'locked') {
      await ledger.sql(`update jobs.jobs set deadline = now() - interval '1 s' where id = $1`, [
        job.request.jobId,
      ]);
      job.state = 'failed';
    }
    expectEqual((await ledger.sweeps.sweepOverdue(10)).length <= 1, true, 'one overdue job at most');
  };
}

function topUp(account: number, micro: number, repeats: number): Step {
  return async (ledger, model) => {
    const accountId = [...model.credited.keys()][account] ?? 0;
    const id = newUuidV7();
    for (let i = 0; i <= repeats; i++)
      expectEqual(
        (await ledger.accounts.topUp(id, NAMES[account] ?? '', BigInt(micro))).isNew,
        i === 0,
        'a top-up',
      );
    model.credited.set(accountId, (model.credited.get(accountId) ?? 0n) + BigInt(micro));
  };
}

async function check(ledger: TestLedger, model: Model): Promise<void> {
  const counters = await ledger.sql<{
    id: number;
    credited: string;
    captured: string;
    held: string;
    booked: boolean;
  }>(
    `select a.id, credited_micro::text as credited, captured_micro::text as captured, held_micro::text as held,
            a.credited_micro = coalesce(sum(x.amount_micro) filter (where x.kind = 'top_up'), 0)
        and a.captured_micro = coalesce(sum(x.amount_micro) filter (where x.kind = 'capture'), 0)
        and a.held_micro = coalesce(sum(x.amount_micro) filter (where x.kind = 'lock' and not exists (
              select from credits.transfers r where r.id = x.id and r.phase = 1)), 0) as booked
       from credits.accounts a
       left join credits.transfers x on a.id in (x.debit_account_id, x.credit_account_id)
      where a.id = any ($1) group by a.id`,
    [[...model.credited.keys()]],
  );
  for (const row of counters) {
    expectEqual(BigInt(row.credited), model.credited.get(row.id), 'credited');
    expectEqual(BigInt(row.captured), model.captured.get(row.id) ?? 0n, 'captured');
    expectEqual(BigInt(row.held), held(model, row.id), 'held');
    expectEqual(row.booked, true, 'counters = recomputation from the transfers');
    const sum = free(model, row.id) + BigInt(row.held) + BigInt(row.captured);
    expectEqual(sum, BigInt(row.credited), 'free + held + captured');
    expectEqual(free(model, row.id) >= 0n, true, 'nothing is overdrawn');
  }
}

/** How far back from the newest job; beyond the first there is none, and the step does nothing. */
const index = fc.nat({ max: 30 });
const account = fc.nat({ max: 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 6 }),
        account,
        fc.array(index, { maxLength: 3 }),
      )
      .map((a) => lock(...a)),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        index,
        fc.double({ min: 0, max: 2, noNaN: true }),
        fc.nat({ max: 1 }),
        fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
        fc.boolean(),
      )
      .map((a) => settle(...a)),
  },
  { weight: 1, arbitrary: index.map(end) },
  { weight: 1, arbitrary: index.map(sweep) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(account, fc.integer({ min: 1, max: 5_000 }), fc.nat({ max: 2 }))
      .map((a) => topUp(...a)),
  },
);

await t.test('free + held + captured is constant under any order of operations', async (t) => {
  const ledger = await testLedger(t);
  // Two accounts with little credit, so that both run short all the time.
  const model: Model = { credited: new Map(), captured: new Map(), jobs: [] };
  for (const name of NAMES) model.credited.set(await ledger.accounts.create(name), 0n);
  // One database and one model for all runs: each run goes on from where the last one stopped.
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: COMMANDS_MAX, size: 'max' }),
      async (steps) => {
        for (const next of steps) await next(ledger, model);
        await check(ledger, model);
      },
    ),
    { numRuns: RUNS, endOnFailure: true },
  );
  const states = new Set(model.jobs.map((job) => job.state));
  t.same(states, new Set(['failed', 'locked', 'refused', 'succeeded']), 'every state was met');
  t.ok(model.jobs.length > 100, `${model.jobs.length} jobs`);
});
