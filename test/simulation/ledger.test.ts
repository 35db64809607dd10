import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
import t from 'tap';
import { SimLedger } from '../../simulation/ledger.ts';
import type { Ledger } from '../../simulation/world.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { Models } from '../../src/network/models.ts';
import type { ModelVersion } from '../../src/network/types.ts';
import { ledgerConfig, type TestLedger, testLedger } from '../support/ledger.ts';
import {
  callArb,
  type Draft,
  type Scene,
  TIMEOUT_MS_MAX,
  TOKENS_MAX,
  type Versions,
} from './ledger-calls.ts';

/**
 * `simulation/ledger.ts` against the functions of `sql/` that it was written after: the same random calls to both, each answer and in the
 * end all the books compared. `TOLLGATE_TEST_SEED=<seed>` plays other sequences, `TOLLGATE_TEST_RUNS=<n>` more of them.
 *
 * Time passes in both: the clock of the one is moved on, the rows of the other are moved back. Left out: calls at the same moment (the
 * simulation makes one at a time; `test/ledger/model.test.ts` has them), values that PostgreSQL cannot take, and prices that change.
 */
const RUNS = Number(process.env['TOLLGATE_TEST_RUNS'] ?? 60);
const SEED = Number(process.env['TOLLGATE_TEST_SEED'] ?? 1);
const BOUNDS = { startWindowMs: 20_000, deadlineGraceMs: 10_000, uncountedMax: 2 };
/** Two of three accounts run short all the time: a job sets aside about 600 micro-credits. */
const CREDITS = [1_500n, 4_000n, 100_000n];
/** How far apart the two clocks may be when a call is made to one and then to the other, in milliseconds. */
const TOLERANCE_MS = 3_000;
/** What an answer says in milliseconds from now. */
const RELATIVE = new Set(['startMs', 'remainingMs', 'delayMs', 'deadlineInMs', 'startOverMs', 'endedAgoMs']);
const TIMEOUT = { timeout: 120_000 };

t.setTimeout(2 * TIMEOUT.timeout);

/** What must have been met, so that the comparison says something. */
const WANTED = [
  'lockBatch new',
  'lockBatch refused TG_CREDIT_INSUFFICIENT',
  'lockBatch refused TG_MODEL_NO_PRICE',
  'lockBatch refused TG_JOB_LIMITS',
  'lockBatch refused TG_JOB_ID_WINDOW',
  'lockBatch refused TG_ACCOUNT_UNKNOWN',
  'lockBatch repriced',
  ...['exists', 'conflict body', 'conflict account'].flatMap((kind) =>
    ['lockBatch', 'lookUpBatch', 'endUnlockedBatch'].map((name) => `${name} ${kind}`),
  ),
  'lookUpBatch null',
  'endUnlockedBatch recorded',
  'endUnlockedBatch refused TG_JOB_ID_WINDOW',
  ...['settled', 'settled capped', 'same', 'same capped', 'different', 'late', 'stale', 'unknown'].map(
    (kind) => `settleBatch ${kind}`,
  ),
  ...[
    'retry first',
    'retry again',
    'ended first',
    'ended again',
    'different',
    'late',
    'stale',
    'unknown',
  ].map((kind) => `giveUpBatch ${kind}`),
  ...['placed', 'unpayable', 'exists'].map((kind) => `placeBatch ${kind}`),
  ...['recorded', 'cancelled', 'ended', 'account', 'window'].map((kind) => `cancelBatch ${kind}`),
  ...['sweepOverdue', 'claimRetries', 'owedReplies', 'owedAttempts', 'openAttempts', 'readRetries'].map(
    (name) => `${name} row`,
  ),
];

interface Bench {
  readonly ledger: TestLedger;
  readonly real: Ledger;
  readonly versions: Versions;
  readonly models: readonly ModelVersion[];
  readonly publisherId: number;
  readonly met: Set<string>;
  runs: number;
  calls: number;
}

/** The rooms of the ledger in one, as a coordinator of the simulation has them. */
function allOf({ locks, settlements, sweeps, attempts, cancellations }: TestLedger): Ledger {
  return {
    lockBatch: (requests) => locks.lockBatch(requests),
    lookUpBatch: (requests) => locks.lookUpBatch(requests),
    endUnlockedBatch: (requests) => locks.endUnlockedBatch(requests),
    settleBatch: (requests) => settlements.settleBatch(requests),
    giveUpBatch: (requests) => attempts.giveUpBatch(requests),
    readRetries: (ids) => attempts.readRetries(ids),
    placeBatch: (requests) => attempts.placeBatch(requests),
    claimRetries: (limit) => attempts.claimRetries(limit),
    owedAttempts: (limit) => attempts.owedAttempts(limit),
    clearOwedAttempts: (named) => attempts.clearOwedAttempts(named),
    cancelBatch: (requests) => cancellations.cancelBatch(requests),
    sweepOverdue: (limit) => sweeps.sweepOverdue(limit),
    owedReplies: (limit) => sweeps.owedReplies(limit),
    clearOwed: (ids) => sweeps.clearOwed(ids),
    openAttempts: (after, limit) => sweeps.openAttempts(after, limit),
  };
}

async function bench(t: Parameters<typeof testLedger>[0]): Promise<Bench> {
  const ledger = await testLedger(t, { ...ledgerConfig, ...BOUNDS });
  const catalogue = new Models(ledger.admin);
  const models: ModelVersion[] = [];
  const add = async (name: string, input: bigint | null, output: bigint | null, tokensMax = TOKENS_MAX) => {
    const prices = { inputPriceMicro: input, outputPriceMicro: output };
    const limits = { inputTokensMax: tokensMax, outputTokensMax: tokensMax, timeoutMsMax: TIMEOUT_MS_MAX };
    const id = await catalogue.add({ name, ...prices, ...limits });
    models.push({ id, model: name, version: 1, ...prices, ...limits });
    return id;
  };
  const versions = {
    plain: await add('plain', 1_000_000n, 2_000_000n),
    odd: await add('odd', 333_333n, 777_777n),
    dear: await add('dear', 3_000_000n, 4_000_000n),
    small: await add('small', 1n, 1n, TOKENS_MAX / 4),
    free: await add('free', null, null),
  };
  const publisherId = await ledger.accounts.addPublisher('web');
  return { ledger, real: allOf(ledger), versions, models, publisherId, met: new Set(), runs: 0, calls: 0 };
}

/** Virtual time: that of this computer, moved on by what passes; no two calls are of the same moment. */
class SimClock {
  #skewMs = 0;
  #nowMs = 0;

  readonly nowMs = (): number => this.#nowMs;

  pass(ms: number): void {
    this.#skewMs += ms;
  }

  tick(): void {
    this.#nowMs = Math.max(this.#nowMs + 1, Date.now() + this.#skewMs);
  }
}

/** Moves everything that is in PostgreSQL into the past. */
async function passInPostgres({ ledger }: Bench, ms: number): Promise<void> {
  await ledger.sql(
    `update jobs.jobs set created_at = created_at - x, start_by = start_by - x, deadline = deadline - x,
            retry_at = retry_at - x, ended_at = ended_at - x
       from (select $1 * interval '1 ms' as x) as by`,
    [ms],
  );
  await ledger.sql(`update jobs.attempts set ended_at = ended_at - $1 * interval '1 ms'`, [ms]);
}

/** A run's jobs in both: none. Its accounts are its own; those of runs before are of no account here. */
async function freshRun(made: Bench, clock: SimClock, simOf: typeof newSim): Promise<Scene> {
  const { ledger, versions, publisherId } = made;
  await ledger.sql('delete from jobs.attempts');
  await ledger.sql('delete from jobs.jobs');
  const run = made.runs++;
  const credit = new Map<number, bigint>();
  for (const [n, micro] of CREDITS.entries()) {
    const name = `run-${run}-${n}`;
    const id = await ledger.accounts.create(name);
    await ledger.accounts.topUp(newUuidV7(), name, micro);
    credit.set(id, micro);
  }
  const lockRequest: Scene['lockRequest'] = (change) => ledger.lockRequest({ publisherId, ...change });
  const accountIds = [...credit.keys()];
  const sim = simOf(made, clock, credit);
  const { nowMs } = clock;
  const baseMs = Date.now();
  return { run, baseMs, sim, nowMs, accountIds, versions, asked: new Map(), lockRequest, claimed: new Set() };
}

function newSim(
  { models, ledger }: Bench,
  { nowMs }: SimClock,
  credit: ReadonlyMap<number, bigint>,
): SimLedger {
  const namespaces = new Map([[ledger.namespaceId, 'acme/prod']]);
  return new SimLedger({ nowMs, models, namespaces, credit, bounds: BOUNDS });
}

type Answer = Readonly<Record<string, unknown>>;

/** An answer without the wall clock. */
function plain(value: unknown, nowMs: number): unknown {
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return value;
  if (Array.isArray(value)) return value.map((one: unknown) => plain(one, nowMs));
  const entries = Object.entries(value).map(([key, one]: [string, unknown]) =>
    key === 'endedAtMs' ? ['endedAgoMs', nowMs - Number(one)] : [key, plain(one, nowMs)],
  );
  return Object.fromEntries(entries);
}

/** True if the two are the same but for milliseconds that a call takes. */
function isAlike(a: unknown, b: unknown, key = ''): boolean {
  if (typeof a === 'number' && typeof b === 'number' && RELATIVE.has(key))
    return Math.abs(a - b) <= TOLERANCE_MS;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null || Buffer.isBuffer(a))
    return isDeepStrictEqual(a, b);
  const of: Answer = { ...a };
  const other: Answer = { ...b };
  const keys = [...new Set([...Object.keys(of), ...Object.keys(other)])];
  return Array.isArray(a) === Array.isArray(b) && keys.every((one) => isAlike(of[one], other[one], one));
}

function text(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one));
}

function same(sim: unknown, real: unknown, what: string): void {
  if (isAlike(sim, real)) return;
  throw new Error(`${what}:\n  simulation ${text(sim)}\n  PostgreSQL ${text(real)}`);
}

const byKey = (a: string, b: string): number => (a < b ? -1 : 1);

const keyOf = (one: Answer): string => `${String(one['jobId'])} ${String(one['attempt'])}`;

function sorted(answers: unknown): unknown {
  if (!Array.isArray(answers)) return answers;
  return answers.toSorted((a: Answer, b: Answer) => byKey(keyOf(a), keyOf(b)));
}

/** What was met, in words of `WANTED`. */
function wordsOf(name: string, answers: unknown): string[] {
  if (!Array.isArray(answers)) return [];
  return answers.map((answer: Answer | null) => {
    if (answer === null) return `${name} null`;
    const { kind, field, isFirst, isCapped } = answer;
    const code = kind === 'refused' ? answer['code'] : undefined;
    const first = isFirst === undefined ? undefined : isFirst ? 'first' : 'again';
    const words = [kind ?? 'row', field, code, first, isCapped === true ? 'capped' : undefined];
    return [name, ...words.filter((word) => typeof word === 'string')].join(' ');
  });
}

/** One sequence of calls, each made to both. */
async function play(made: Bench, calls: readonly Draft[], simOf = newSim): Promise<void> {
  const clock = new SimClock();
  clock.tick();
  const scene = await freshRun(made, clock, simOf);
  for (const draft of calls) {
    clock.tick();
    const step = draft.prepare(scene);
    if (step === null) continue;
    if ('passMs' in step) {
      clock.pass(step.passMs);
      await passInPostgres(made, step.passMs);
      continue;
    }
    made.calls += 1;
    const [sim, real] = [
      plain(step.ask(scene.sim), clock.nowMs()),
      plain(await step.ask(made.real), Date.now()),
    ];
    if (step.isSet) same(sorted(sim), sorted(real), draft.text);
    else same(sim, real, draft.text);
    for (const word of wordsOf(step.name, real)) made.met.add(word);
  }
  same(simBooks(scene.sim), await realBooks(made, scene), 'the books');
}

const hex = (digest: Buffer | null): string | null => digest?.toString('hex') ?? null;

/** Every row that the two have in common, in the order of their keys. */
function simBooks({ jobs, attempts, accounts, transfers }: SimLedger): unknown {
  const moves = [...transfers].flatMap(([id, all]) =>
    all.map(({ phase, kind, amountMicro, digest }) => [id, phase, kind, amountMicro, hex(digest)].join()),
  );
  return {
    jobs: [...jobs.values()]
      .map((row) => {
        const { id, accountId, namespaceId, state, code, attempt, uncounted, node, session } = row;
        const fence = [attempt, uncounted, node, session, row.modelVersionId, row.runVersionId];
        const money = [row.lockedMicro, row.chargedMicro, row.isReplyOwed, row.isOverLimits];
        const reply = [row.replyTo, row.correlationId, row.poolSuffix, row.priority, hex(row.digest)];
        return [id, accountId, namespaceId, state, code, ...fence, ...money, ...reply].join();
      })
      .toSorted(byKey),
    attempts: attempts
      .map((one) => {
        const { jobId, attempt, node, session, outcome, code, isCounted, isOwed, digest } = one;
        return [
          jobId,
          attempt,
          node,
          session,
          outcome,
          one.class,
          code,
          isCounted,
          isOwed,
          hex(digest),
        ].join();
      })
      .toSorted(byKey),
    accounts: [...accounts]
      .map(([id, one]) => [id, one.creditedMicro, one.heldMicro, one.capturedMicro].join())
      .toSorted(byKey),
    transfers: moves.toSorted(byKey),
  };
}

const asWord = (column: string): string => `(${column})::boolean::text`;

async function realBooks({ ledger }: Bench, { accountIds }: Scene): Promise<unknown> {
  const lines = async (columns: string, from: string) => {
    const rows = await ledger.sql<{ line: string }>(
      `select line collate "C" as line from (
         select array_to_string(array[${columns}]::text[], ',', '') as line from ${from}) as x order by 1`,
      from.includes('$1') ? [accountIds] : [],
    );
    return rows.map(({ line }) => line);
  };
  return {
    jobs: await lines(
      `id::text, account_id::text, namespace_id::text, state::text, code, attempt::text, uncounted::text, node, session::text,
       model_version_id::text, run_version_id::text, locked_micro::text, charged_micro::text, ${asWord('reply_owed')},
       ${asWord('coalesce(input_tokens > input_tokens_max or output_tokens > output_tokens_max, false)')},
       reply_to, correlation_id, pool_suffix, priority::text, encode(digest, 'hex')`,
      'jobs.jobs',
    ),
    attempts: await lines(
      `job_id::text, attempt::text, node, session::text, outcome::text, class, code, ${asWord('is_counted')}, ${asWord('is_owed')},
       encode(digest, 'hex')`,
      'jobs.attempts',
    ),
    accounts: await lines(
      'id::text, credited_micro::text, held_micro::text, captured_micro::text',
      'credits.accounts where id = any ($1)',
    ),
    transfers: await lines(
      "id::text, phase::text, kind::text, amount_micro::text, encode(digest, 'hex')",
      "credits.transfers where debit_account_id = any ($1) and kind <> 'top_up'",
    ),
  };
}

const sequences = fc.array(callArb, { minLength: 1, maxLength: 80, size: 'max' });
/** Without bias lengths are drawn evenly: forty on average. No further shrinking begins after this time, in milliseconds. */
const BOUNDED = { unbiased: true, interruptAfterTimeLimit: 60_000 };
const textOf = (calls: readonly Draft[]): string => calls.map((call) => call.text).join('\n  then ');

await t.test(
  'the simulated ledger answers as PostgreSQL does, and keeps the same books',
  TIMEOUT,
  async (t) => {
    const made = await bench(t);
    const property = fc.asyncProperty(sequences, (calls) => play(made, calls));
    const result = await fc.check(property, { numRuns: RUNS, seed: SEED, ...BOUNDED });
    t.comment(`seed ${SEED}, ${made.runs} sequences, ${made.calls} calls`);
    const shortest = result.counterexample === null ? '' : textOf(result.counterexample[0]);
    t.notOk(
      result.failed,
      `${shortest}\n${result.errorInstance instanceof Error ? result.errorInstance.message : ''}`,
    );
    t.same(
      made.runs < 60 ? [] : WANTED.filter((word) => !made.met.has(word)),
      [],
      'every kind of answer was met by as many sequences as a test run plays',
    );
  },
);

await t.test('a simulated ledger that moves the fence wrongly is found', TIMEOUT, async (t) => {
  const made = await bench(t);
  const broken: typeof newSim = (...input) => {
    const sim = newSim(...input);
    const move = sim.moveFence.bind(sim);
    sim.moveFence = (row, request) => move(row, { ...request, isCounted: true });
    return sim;
  };
  const property = fc.asyncProperty(sequences, (calls) => play(made, calls, broken));
  const result = await fc.check(property, { numRuns: 20, seed: 1, endOnFailure: true, ...BOUNDED });
  t.ok(result.failed);
});
