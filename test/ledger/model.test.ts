import * as fc from 'fast-check';
import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import { Models } from '../../src/network/models.ts';
import { Database } from '../../src/postgres/database.ts';
import { databaseOptions, quietLog, type TestLedger, testLedger } from '../support/ledger.ts';
import { type LedgerRun, ledgerCommands, type ModelRun } from './commands.ts';
import type { LedgerModel, ModelPrice } from './model.ts';
import { TOKENS_MAX } from './model.ts';
import { type Coordinator, coordinatorOn, type Scene, type Versions } from './operations.ts';

/**
 * The ledger against the model of `model.ts`: random calls of two coordinators on three accounts that run short all the time, some of
 * them at the same moment; after each, every counter, row and transfer is compared. A failure prints its seed and the shortest sequence that
 * fails: `TOLLGATE_TEST_SEED=<seed>` runs it again, `TOLLGATE_TEST_RUNS=<n>` runs more of them.
 */
const RUNS = Number(process.env['TOLLGATE_TEST_RUNS'] ?? 30);
const SEED = Number(process.env['TOLLGATE_TEST_SEED'] ?? 1);
const COMMANDS_MAX = 60;
/** No new sequence and no further shrinking begins after this time. */
const TIME_MS_MAX = Math.max(60_000, RUNS * 2_000);
/** What the accounts of a run begin with: a job sets aside 1,200 micro-credits at most, so that all run short. */
const FIRST_CREDIT = { thin: 1_000n, lean: 4_000n, rich: 20_000n };
const LIMITS = { inputTokensMax: TOKENS_MAX, outputTokensMax: TOKENS_MAX, timeoutMsMax: 600_000 };

interface Bench {
  readonly ledger: TestLedger;
  readonly versions: Versions;
  readonly prices: LedgerModel['prices'];
  readonly coordinators: readonly [Coordinator, Coordinator];
  runs: number;
}

/** A ledger with the models that commands use, and two coordinators with connections of their own. */
async function bench(t: Parameters<typeof testLedger>[0]): Promise<Bench> {
  const ledger = await testLedger(t);
  const second = ['tollgate_dispatcher', 'tollgate_settler'].map(
    (role) => new Database(databaseOptions(ledger.adminUrl, role), quietLog),
  );
  t.after(() => Promise.all(second.map((database) => database.close())));
  const [dispatcher = ledger.dispatcher, settler = ledger.settler] = second;
  const models = new Models(ledger.admin);
  const price = { inputPriceMicro: 1_000_000n, outputPriceMicro: 2_000_000n };
  const odd = { inputPriceMicro: 333_333n, outputPriceMicro: 777_777n };
  const retired = await models.add({ name: 'plain', ...price, ...LIMITS });
  const versions = {
    retired,
    plain: await models.setPrice('plain', price),
    odd: await models.add({ name: 'odd', ...odd, ...LIMITS }),
    free: await models.add({ name: 'free', inputPriceMicro: null, outputPriceMicro: null, ...LIMITS }),
  };
  const list = new Map<number, ModelPrice>([
    [versions.plain, { inputMicro: 1_000_000n, outputMicro: 2_000_000n, isRetired: false }],
    [versions.retired, { inputMicro: 1_000_000n, outputMicro: 2_000_000n, isRetired: true }],
    [versions.odd, { inputMicro: 333_333n, outputMicro: 777_777n, isRetired: false }],
    [versions.free, { inputMicro: null, outputMicro: null, isRetired: false }],
  ]);
  const coordinators = [
    coordinatorOn(ledger.dispatcher, ledger.settler),
    coordinatorOn(dispatcher, settler),
  ] as const;
  return { ledger, versions, prices: list, coordinators, runs: 0 };
}

/** A fresh model and fresh accounts: runs share the database and see nothing of each other. */
async function freshRun(
  { ledger, versions, prices, coordinators }: Bench,
  run: number,
): Promise<{ model: ModelRun; real: LedgerRun }> {
  // What a run that failed left behind: the sweep and the owed replies are the whole database's.
  await ledger.sql(`update jobs.jobs set deadline = now() + interval '1 h' where state = 'locked'`);
  await ledger.sql('update jobs.jobs set reply_owed = false where reply_owed');
  await ledger.sql('update jobs.attempts set is_owed = false where is_owed');
  const accounts: Scene['accounts'][number][] = [];
  const credited = new Map<number, bigint>();
  const topUps: LedgerModel['topUps'] = new Map();
  for (const [word, micro] of Object.entries(FIRST_CREDIT)) {
    const name = `${word}-${run}`;
    const account = { id: await ledger.accounts.create(name), name };
    const id = newUuidV7();
    await ledger.accounts.topUp(id, name, micro);
    accounts.push(account);
    credited.set(account.id, micro);
    topUps.set(id, { accountId: account.id, micro });
  }
  const state: LedgerModel = { prices, credited, captured: new Map(), jobs: new Map(), topUps };
  const scene: Scene = { ledger, accounts, versions, asked: [], topUps: [] };
  return { model: { state }, real: { ledger, scene, coordinators } };
}

/** That each sequence of commands does what the model says. `onEnd` sees the model of each run that held. */
function ledgerProperty(made: Bench, onEnd: (state: LedgerModel, commands: number) => void) {
  return fc.asyncProperty(ledgerCommands(COMMANDS_MAX), async (commands) => {
    const { model, real } = await freshRun(made, made.runs++);
    await fc.asyncModelRun(() => ({ model, real }), commands);
    onEnd(model.state, [...commands].length);
  });
}

const BOUNDS = { interruptAfterTimeLimit: TIME_MS_MAX };

await t.test(
  'the ledger does what its model does, whatever the order and whoever calls',
  { timeout: 2 * TIME_MS_MAX },
  async (t) => {
    const made = await bench(t);
    const met = new Set<string>();
    let commandsRun = 0;
    const property = ledgerProperty(made, ({ jobs }, commands) => {
      commandsRun += commands;
      for (const job of jobs.values())
        met.add(job.givenUp.size > 0 ? `${job.state} after a retry` : job.state);
    });
    await fc.assert(property, { numRuns: RUNS, seed: SEED, ...BOUNDS });
    t.comment(`seed ${SEED}, ${made.runs} sequences, ${commandsRun} commands`);
    const wanted = [
      'cancelled',
      'expired',
      'failed',
      'locked',
      'refused',
      'succeeded',
      'succeeded after a retry',
    ];
    t.same(
      wanted.filter((state) => !met.has(state)),
      [],
      `met: ${[...met].toSorted().join()}`,
    );
  },
);

await t.test(
  'a broken function is found, and shrunk to the call that shows it',
  { timeout: 2 * TIME_MS_MAX },
  async (t) => {
    const made = await bench(t);
    // Rounds down what must be rounded up: a fraction of a micro-credit, in a database that nobody else sees.
    await made.ledger.sql(`
    create or replace function credits.cost_micro(
      p_input_tokens integer, p_output_tokens integer, p_input_price_micro bigint, p_output_price_micro bigint
    ) returns bigint language sql immutable parallel safe
    return (p_input_tokens * p_input_price_micro + p_output_tokens * p_output_price_micro) / 1000000`);
    const property = ledgerProperty(made, () => undefined);
    const result = await fc.check(property, { numRuns: 20, seed: 1, ...BOUNDS });
    const shortest = [...(result.counterexample?.[0] ?? [])].map(String);
    t.ok(result.failed);
    t.equal(shortest.length, 1, shortest.join(' then '));
    t.match(shortest[0], /"kind":"odd"/);
  },
);
