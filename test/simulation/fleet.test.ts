import { AssertionError, deepStrictEqual } from 'node:assert';
import * as fc from 'fast-check';
import t from 'tap';
import type { SimFleet } from '../../simulation/fleet.ts';
import type { LeaseName } from '../../src/workers/types.ts';
import { realBooks, simBooks } from './fleet-books.ts';
import { life, POOLS, type Step } from './fleet-steps.ts';
import { type Deeds, type Side, type Twins, twins } from './fleet-twins.ts';

/**
 * The live fleet of the simulation against the scripts on Redis: random calls, the same to both. Each must answer the same, wake the
 * same pools and leave the same workers, slots, leases and waiting pools. The scripts are right where they differ. A failure prints
 * its seed and the shortest sequence that fails: `TOLLGATE_TEST_SEED=<seed>` runs it again, `TOLLGATE_TEST_RUNS=<n>` runs more.
 *
 * Not compared, because the simulation has it not: several cells, cells that are away, the walks of the audit, batches above the limits
 * of a script (1,000 requests, 500 lost sessions) and a job twice in a batch, which the interface rules out. Neither is which of
 * several equally good workers is taken: that is Redis' choice, and must be one that the simulation finds as good.
 */
const RUNS = Number(process.env['TOLLGATE_TEST_RUNS'] ?? 60);
const SEED = Number(process.env['TOLLGATE_TEST_SEED'] ?? 1);
/** No new sequence and no further shrinking begins after this time. */
const TIME_MS_MAX = Math.max(60_000, RUNS * 1_000);

t.setTimeout(4 * TIME_MS_MAX);

type Say = Omit<Extract<Step, { does: 'say' }>, 'does' | 'pools'> & { readonly pools: readonly string[] };

/** One sequence while it runs. */
class Run {
  readonly #twins: Twins;
  readonly #tally: Tally;
  readonly #seqs = new Map<string, number>();
  #lost: { readonly node: string; readonly session: number }[] = [];
  #epochs = { sim: 0, real: 0 };

  constructor(made: Twins, tally: Tally) {
    this.#twins = made;
    this.#tally = tally;
  }

  /** Does one step to both; throws where they differ. */
  async take(step: Step): Promise<void> {
    switch (step.does) {
      // Nothing is asked after these two: the first call after them, whichever it is, finds an emptied cell or what is overdue.
      case 'wait':
        return this.#twins.pass(step.ms);
      case 'empty':
        await this.#twins.empty();
        return this.#twins.pass(step.quietMs);
      case 'say':
        await this.#say(step);
        break;
      case 'reserve':
        this.#same('reserve', await this.#twins.reserve(step.requests), kindsOf);
        break;
      case 'release': {
        const names = this.#names(step);
        if (names.length > 0)
          await this.#ask('release', ({ leases }) => leases.releaseBatch(names), someOrNone);
        break;
      }
      case 'rebuild':
        await this.#ask('rebuild', ({ leases }) => leases.rebuild(step.open));
        break;
      case 'open':
        if (step.epoch === 'now') this.#epochs = await this.#twins.epochs();
        this.#same('open', await this.#twins.open(this.#epochs), (answer) => [String(answer)]);
        break;
      case 'progress': {
        const names = this.#names(step);
        await this.#ask(
          'progress',
          ({ leases }) => leases.progress(names),
          (found) => found,
        );
        break;
      }
      case 'take lost':
        this.#twins.hear(step.isListening);
        await this.#takeLost();
        this.#twins.hear(true);
        break;
      case 'forget':
        await this.#forget(step);
        break;
      case 'expire':
        await this.#ask('expire', ({ leases }) => leases.expireLeases(step.limit), someOrNone);
        break;
      case 'watch':
        await this.#watch(step);
    }
    await this.#compareBooks();
  }

  async #say({
    kind,
    node,
    session,
    order,
    slots,
    unnamed,
    pools,
    warm,
    namesItsOwn,
    others,
    isStreaming,
  }: Say) {
    const own = namesItsOwn ? this.#ownLeases(node, session, isStreaming) : [];
    // A worker names a lease once.
    const leases = [...own, ...others.filter(({ job }) => !own.some((mine) => mine.job === job))];
    const sender = `${node} ${session}`;
    const last = this.#seqs.get(sender) ?? 0;
    const seq = order === 'next' ? last + 1 : Math.max(1, order === 'repeated' ? last : last - 1);
    this.#seqs.set(sender, Math.max(last, seq));
    const message = this.#twins.real.message(node, kind, {
      session,
      seq,
      slots_total: slots,
      slots_in_use: leases.length + unnamed,
      pools: [...POOLS],
      warm_models: warm,
      leases,
    });
    await this.#ask(
      'apply',
      ({ registry }) => registry.apply(message, pools),
      (answer) => kindsOf([answer]),
    );
  }

  /** The sweep, several times; before each the living workers beat. */
  async #watch({
    rounds,
    everyMs,
    living,
    namesItsOwn,
    limit,
  }: Extract<Step, { does: 'watch' }>): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      await this.#twins.pass(everyMs);
      for (const node of living) {
        const worker = this.#twins.sim.workers.get(node);
        if (!worker) continue;
        await this.#say({
          kind: 'heartbeat',
          order: 'next',
          unnamed: 0,
          warm: [],
          namesItsOwn,
          others: [],
          isStreaming: round % 2 === 1,
          node,
          session: worker.session,
          slots: worker.slots,
          pools: worker.pools,
        });
      }
      await this.#takeLost();
      await this.#ask('expire', ({ leases }) => leases.expireLeases(limit), someOrNone);
    }
  }

  async #takeLost(): Promise<void> {
    const sorted = async ({ registry }: Side) => {
      const lost = await registry.takeLost();
      this.#lost = lost.toSorted((a, b) => (`${a.node} ${a.session}` < `${b.node} ${b.session}` ? -1 : 1));
      return this.#lost;
    };
    await this.#ask('take lost', sorted, (lost) => someOrNone(lost.length));
  }

  async #forget({ place, ...other }: Extract<Step, { does: 'forget' }>): Promise<void> {
    const { node, session } = this.#lost[place % this.#lost.length] ?? other;
    if (this.#isBackWhileLost(node, session)) return;
    await this.#ask('forget', ({ registry }) => registry.forget(node, session));
  }

  /**
   * A session that is served again while it is still to be forgotten: its node's newer session came and went meanwhile. `forget` then
   * takes away its record and leaves it in its pools, where the next reservation fails on it. The simulation has no such ghosts.
   */
  #isBackWhileLost(node: string, session: number): boolean {
    const { lost, workers } = this.#twins.sim;
    const worker = workers.get(node);
    return lost.has(`${node} ${session}`) && worker?.session === session && worker.state === 'live';
  }

  #ownLeases(node: string, session: number, isStreaming: boolean) {
    return this.#twins
      .simLeases()
      .filter((lease) => lease.node === node && lease.session === session)
      .map(({ jobId: job, attempt }) => ({ job, attempt, ...(isStreaming ? { tokens: 7 } : {}) }));
  }

  #names({ standing: picks, others }: Extract<Step, { does: 'release' | 'progress' }>): LeaseName[] {
    const standing = this.#twins.simLeases();
    const picked = picks.flatMap(({ place, wrong }): LeaseName[] => {
      const lease = standing[place % standing.length];
      if (!lease) return [];
      const { jobId, attempt, node, session } = lease;
      if (wrong === 'attempt') return [{ jobId, attempt: attempt + 1, node, session }];
      if (wrong === 'node') return [{ jobId, attempt, node: `${node}0`, session }];
      if (wrong === 'session') return [{ jobId, attempt, node, session: session * 10 }];
      return [{ jobId, attempt, node, session }];
    });
    return [...picked, ...others];
  }

  async #ask<T>(
    what: string,
    call: (side: Side) => Promise<T>,
    tell: (answer: T) => readonly string[] = () => [],
  ): Promise<void> {
    this.#same(what, await this.#twins.ask(call), tell);
  }

  #same<T>(what: string, { real, sim }: Deeds<T>, tell: (answer: T) => readonly string[]): void {
    this.#tally.calls += 1;
    deepStrictEqual(sim, real, `${what} in memory (+) and on Redis (-)`);
    for (const word of tell(real.answer)) this.#meet(`${what}: ${word}`);
    if (real.woken.length > 0) this.#meet(`${what} wakes`);
  }

  #meet(what: string): void {
    const { met } = this.#tally;
    met.set(what, (met.get(what) ?? 0) + 1);
  }

  async #compareBooks(): Promise<void> {
    const [real, sim] = [await realBooks(this.#twins), await simBooks(this.#twins)];
    deepStrictEqual(sim, real, 'the books in memory (+) and on Redis (-)');
    this.#meet(`state: ${real.state}`);
    for (const word of new Set(real.sessions)) this.#meet(`session: ${word}`);
    for (const { state } of real.records) this.#meet(`worker: ${state}`);
  }
}

function kindsOf(answers: readonly { readonly kind: string }[]): string[] {
  return answers.map(({ kind }) => kind);
}

function someOrNone(count: number): string[] {
  return [count === 0 ? 'none' : 'some'];
}

/** What a number of sequences met. */
interface Tally {
  sequences: number;
  calls: number;
  /** How often each kind of answer was given by both. */
  readonly met: Map<string, number>;
}

const emptyTally = (): Tally => ({ sequences: 0, calls: 0, met: new Map() });

/** That both do the same whatever happens; `bend` may break the one in memory. */
function sameFleets(made: Twins, tally: Tally, bend?: (fleet: SimFleet) => void) {
  return fc.asyncProperty(life, async ({ isOpen, steps }) => {
    await made.begin(bend);
    const run = new Run(made, tally);
    if (isOpen) await run.take({ does: 'open', epoch: 'now' });
    for (const step of steps) await run.take(step);
    tally.sequences += 1;
  });
}

/** Each must have been seen, or the sequences show little. */
const WANTED = [
  ...['applied', 'ignored', 'refused', 'superseded'].map((kind) => `apply: ${kind}`),
  ...['got', 'had', 'full', 'none', 'tried'].map((kind) => `reserve: ${kind}`),
  ...['release', 'expire', 'take lost'].flatMap((what) => [`${what}: some`, `${what}: none`]),
  ...['begun', 'streaming', 'unseen'].map((progress) => `progress: ${progress}`),
  ...['apply', 'reserve', 'release', 'open', 'expire'].map((what) => `${what} wakes`),
  ...['live', 'draining', 'gone', 'lost', 'none'].map((state) => `worker: ${state}`),
  ...['live', 'missing', 'unknown'].map((standing) => `session: ${standing}`),
  'open: true',
  'open: false',
  'state: warming',
  'state: ready',
];

await t.test('the fleet in memory does what the scripts do on Redis', async (t) => {
  const made = await twins(t);
  const tally = emptyTally();
  await fc.assert(sameFleets(made, tally), {
    numRuns: RUNS,
    seed: SEED,
    interruptAfterTimeLimit: TIME_MS_MAX,
    includeErrorInReport: true,
  });
  t.comment(`seed ${SEED}, ${tally.sequences} sequences, ${tally.calls} calls`);
  const met = [...tally.met].map(([what, times]) => `${what} ${times}`).toSorted();
  t.same(
    WANTED.filter((what) => !tally.met.has(what)),
    [],
    `met: ${met.join(', ')}`,
  );
});

/** Small faults of the kind that code written after a script has. */
const FAULTS: readonly { readonly what: string; readonly bend: (fleet: SimFleet) => void }[] = [
  {
    what: 'a release that does not compare',
    bend: (fleet) => {
      fleet.isLeaseOf = ({ jobId }) => fleet.leases.has(jobId);
    },
  },
  {
    what: 'a worker that said bye and is forgotten at once',
    bend: (fleet) => {
      const apply = fleet.apply.bind(fleet);
      fleet.apply = (message, pools) => {
        const answer = apply(message, pools);
        if (message.kind === 'bye' && answer.kind === 'applied') fleet.workers.delete(message.node);
        return answer;
      };
    },
  },
];

for (const { what, bend } of FAULTS) {
  await t.test(`noticed: ${what}`, async (t) => {
    const made = await twins(t);
    const found = await fc.check(sameFleets(made, emptyTally(), bend), {
      numRuns: RUNS,
      seed: SEED,
      endOnFailure: true,
    });
    t.type(found.errorInstance, AssertionError, `${found.numRuns} sequences`);
  });
}
