import { invariant } from '../errors.ts';
import { FLAWS, type Flaw, flawsOf } from './flaws.ts';
import { generatorOf } from './ngram.ts';
import { arranged, type Draft, type Scenario, type Sender, sendersOf, SUCCEEDED } from './scenario.ts';
import type { DemoModel, World } from './world.ts';

/** How much of everything, from the number of jobs. */
export interface Composition {
  readonly malformed: number;
  readonly misaddressed: number;
  readonly refused: number;
  readonly pennySmall: number;
  readonly pennyLarge: number;
  readonly orphan: number;
  readonly broken: number;
  readonly plain: number;
  /** Messages that repeat a plain job; they come on top. */
  readonly twin: number;
  readonly again: number;
  readonly otherBody: number;
  readonly otherAccount: number;
}

/** Fewer cannot hold one of everything. */
export const JOBS_MIN = 200;
/** More, and the large job of the account with little credit would not be larger than its credit any more. */
export const JOBS_MAX = 200_000;

/** Jobs per second at which the scenario is laid out. */
export const RATE = 150;
/** Share of the jobs that ask for the smaller of the two models. */
export const SMALL_SHARE = 0.6;
/** Share of the plain jobs that come all at once, at a quarter of the time: more than there are slots. */
const BURST_SHARE = 0.1;

const WAIT_MS = 300_000;
const ORPHAN_WAIT_MS = 1_500;

/** How many messages of each kind there are among `jobs` jobs. 1 % malformed, 1 % for the model nobody serves. */
export function compositionOf(jobs: number): Composition {
  const share = (part: number) => Math.max(1, Math.round(jobs * part));
  const special = {
    malformed: share(0.01),
    misaddressed: share(0.005),
    refused: share(0.005),
    pennySmall: share(0.01),
    pennyLarge: share(0.005),
    orphan: share(0.01),
    broken: share(0.005),
  };
  const plain = jobs - Object.values(special).reduce((sum, count) => sum + count, 0);
  const repeats = {
    twin: share(0.01),
    again: share(0.005),
    otherBody: share(0.005),
    otherAccount: share(0.005),
  };
  return { ...special, plain, ...repeats };
}

/** Lays out `jobs` jobs. */
export function scenarioOf(world: World, jobs: number, seed: number): Scenario {
  invariant(jobs >= JOBS_MIN && jobs <= JOBS_MAX, `${JOBS_MIN} to ${JOBS_MAX} jobs`);
  const plan = new Plan(world, jobs, seed);
  const count = compositionOf(jobs);
  plan.plain(count);
  for (const group of ['malformed', 'misaddressed', 'refused'] as const) plan.flawed(group, count[group]);
  plan.add(count.pennySmall, { kind: 'penny_small', ...pennyJob(world, world.small, 24) });
  plan.add(count.pennyLarge, {
    kind: 'penny_large',
    ...pennyJob(world, world.large, 100_000),
    expected: { state: 'refused', code: 'TG_CREDIT_INSUFFICIENT', field: 'account', row: 'refused' },
  });
  plan.add(count.orphan, {
    kind: 'orphan',
    model: world.orphan.name,
    waitMs: ORPHAN_WAIT_MS,
    expected: { state: 'expired', code: 'TG_JOB_EXPIRED', field: 'limits.wait_ms', row: 'expired' },
  });
  plan.add(count.broken, {
    kind: 'broken',
    model: world.broken.name,
    expected: { state: 'failed', code: 'TG_WORKER_ERROR', field: null, row: 'failed' },
  });
  return arranged(world, plan.drafts);
}

function pennyJob({ poor, poorPublisher }: World, model: DemoModel, outputTokensMax: number): Partial<Draft> {
  return {
    publisher: poorPublisher,
    account: poor.name,
    namespace: poor.namespaces[0] ?? '',
    model: model.name,
    priority: 'interactive',
    outputTokensMax,
  };
}

/** A scenario being written. */
class Plan {
  readonly #random: () => number;
  readonly #durationMs: number;
  readonly #world: World;
  readonly #senders: readonly Sender[];
  /** What has been written, in no order but that a job comes before what repeats it. */
  drafts: Draft[] = [];
  #jobs = 0;

  constructor(world: World, jobs: number, seed: number) {
    this.#world = world;
    this.#senders = sendersOf(world);
    this.#random = generatorOf(seed);
    this.#durationMs = (jobs / RATE) * 1_000;
  }

  /** The jobs that just run, a burst among them, and the messages that repeat some of them. */
  plain(count: Composition): void {
    const inBurst = Math.round(count.plain * BURST_SHARE);
    const burstMs = Math.round(this.#durationMs / 4);
    const plain = Array.from({ length: count.plain }, (_, i) =>
      i < inBurst ? { ...this.#ordinary(), atMs: burstMs } : this.#ordinary(),
    );
    this.drafts = this.drafts.concat(plain);
    // Those of the burst are not repeated: a repeat is due soon after its job.
    const originals = plain.slice(inBurst);
    const repeat = (times: number, change: (original: Draft) => Draft) => {
      for (let i = 0; i < times; i++) {
        const [original] = originals.splice(this.#below(originals.length), 1);
        if (original !== undefined) this.drafts.push(change(original));
      }
    };
    repeat(count.twin, (original) => ({ ...original, kind: 'twin' }));
    repeat(count.again, (original) => ({ ...original, kind: 'again', afterJob: original.job }));
    repeat(count.otherBody, (original) => ({
      ...original,
      kind: 'other_body',
      afterJob: original.job,
      promptStart: original.promptStart + 1,
      expected: { state: 'refused', code: 'TG_JOB_ID_REUSED', field: 'id', row: 'succeeded' },
    }));
    repeat(count.otherAccount, (original) => ({
      ...original,
      ...this.#sender(original.account),
      kind: 'other_account',
      afterJob: original.job,
      expected: { state: 'refused', code: 'TG_JOB_ID_IN_USE', field: 'id', row: 'succeeded' },
    }));
  }

  /** Jobs at any time that differ from ordinary ones by `change`. */
  add(count: number, change: Partial<Draft>): void {
    for (let i = 0; i < count; i++) this.drafts.push({ ...this.#ordinary(), ...change });
  }

  /** Messages with the flaws of a group, in turn. */
  flawed(group: Flaw['group'], count: number): void {
    const names = flawsOf(group);
    const first = this.#below(names.length);
    for (let i = 0; i < count; i++) {
      const flaw = names[(first + i) % names.length] ?? 'not_json';
      this.add(1, { kind: 'flawed', flaw, priority: 'interactive', expected: FLAWS[flaw].expected });
    }
  }

  /** A job like any other. */
  #ordinary(): Draft {
    const promptTokens = 12 + this.#below(84);
    return {
      job: this.#jobs++,
      kind: 'plain',
      flaw: null,
      atMs: this.#below(this.#durationMs),
      afterJob: null,
      ...this.#sender(),
      model: this.#random() < SMALL_SHARE ? this.#world.small.name : this.#world.large.name,
      priority: this.#random() < 0.8 ? 'interactive' : 'batch',
      promptStart: this.#below(1_000_000),
      promptTokens,
      // As a client would: a round number above what it needs. What is not used comes back.
      inputTokensMax: Math.ceil(promptTokens / 32) * 32,
      outputTokensMax: 8 + this.#below(33),
      waitMs: WAIT_MS,
      expected: SUCCEEDED,
    };
  }

  /** A publisher and one of its accounts with a namespace, but not `notAccount`. */
  #sender(notAccount?: string): Sender {
    const senders = this.#senders.filter(({ account }) => account !== notAccount);
    const sender = senders[this.#below(senders.length)];
    invariant(sender !== undefined, 'the world has senders');
    return sender;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}
