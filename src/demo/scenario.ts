import { type JobMessage, WAIT_MS_MAX } from '../contracts/job.ts';
import type { Priority } from '../contracts/names.ts';
import { invariant } from '../errors.ts';
import { type Expected, FLAWS, type Flaw, type FlawName, flawsOf } from './flaws.ts';
import { generatorOf } from './ngram.ts';
import { PROMPT_TOKENS_MAX } from './prompts.ts';
import type { TraceArrival } from './trace-file.ts';
import {
  ACCOUNTS,
  BROKEN,
  type DemoModel,
  LARGE,
  lockMicro,
  ORPHAN,
  PENNY,
  PUBLISHERS,
  SMALL,
} from './world.ts';

/**
 * What the demo sends, decided before anything is sent: every message with its moment and with the end it must come to. Pure
 * and the same for the same seed. `flaws.ts` has what is wrong with the wrong ones.
 */

/** Why a message is in the demo; `flawed` ones name their flaw beside. */
export const KINDS = {
  plain: 'a job like any other',
  penny_small: 'a small job of the account with little credit: it fits',
  penny_large: 'a job that costs more than that account has',
  orphan: 'a job for a model that nobody serves',
  broken: 'a job whose model server fails',
  twin: 'the same job twice at once',
  again: 'the same job again after its end',
  other_body: 'the id of an ended job with another body',
  other_account: "the id of another account's job",
  flawed: 'a message that is wrong',
} as const;
export type Kind = keyof typeof KINDS;

/** One message. */
export interface ScenarioMessage {
  /** Place in the scenario, from 0. */
  readonly seq: number;
  /** Messages with the same number carry the same job id. */
  readonly job: number;
  readonly kind: Kind;
  readonly flaw: FlawName | null;
  /** When it is due, in milliseconds after the beginning. */
  readonly atMs: number;
  /** The message whose first answer it waits for, besides; null: none. */
  readonly after: number | null;
  readonly publisher: string;
  readonly account: string;
  readonly namespace: string;
  readonly model: string;
  readonly priority: Priority;
  /** The prompt: so many tokens of the corpus from there on. */
  readonly promptStart: number;
  readonly promptTokens: number;
  readonly inputTokensMax: number;
  readonly outputTokensMax: number;
  readonly waitMs: number;
  readonly expected: Expected;
}

/** All messages in the order of their moments, and the credit each account begins with, in micro-credits. */
export interface Scenario {
  readonly messages: readonly ScenarioMessage[];
  readonly creditMicro: ReadonlyMap<string, bigint>;
}

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
const RATE = 180;
/** Share of the plain jobs that come all at once, at a quarter of the time: more than there are slots. */
const BURST_SHARE = 0.1;

const SUCCEEDED: Expected = { state: 'succeeded', code: null, field: null, row: 'succeeded' };
const WAIT_MS = 300_000;
const ORPHAN_WAIT_MS = 1_500;
const TIMEOUT_MS = 60_000;

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

/** A message before all are sorted; `afterJob`: the job whose answer it waits for. */
type Draft = Omit<ScenarioMessage, 'seq' | 'after'> & { readonly afterJob: number | null };

/** Lays out `jobs` jobs. */
export function scenarioOf(jobs: number, seed: number): Scenario {
  invariant(jobs >= JOBS_MIN && jobs <= JOBS_MAX, `${JOBS_MIN} to ${JOBS_MAX} jobs`);
  const plan = new Plan(jobs, seed);
  const count = compositionOf(jobs);
  plan.plain(count);
  for (const group of ['malformed', 'misaddressed', 'refused'] as const) plan.flawed(group, count[group]);
  plan.add(count.pennySmall, () => ({ kind: 'penny_small', ...pennyJob(SMALL, 24) }));
  plan.add(count.pennyLarge, () => ({
    kind: 'penny_large',
    ...pennyJob(LARGE, 100_000),
    expected: { state: 'refused', code: 'TG_CREDIT_INSUFFICIENT', field: 'account', row: 'refused' },
  }));
  plan.add(count.orphan, () => ({
    kind: 'orphan',
    model: ORPHAN.name,
    waitMs: ORPHAN_WAIT_MS,
    expected: { state: 'expired', code: 'TG_JOB_EXPIRED', field: 'limits.wait_ms', row: 'expired' },
  }));
  plan.add(count.broken, () => ({
    kind: 'broken',
    model: BROKEN.name,
    expected: { state: 'failed', code: 'TG_WORKER_ERROR', field: null, row: 'failed' },
  }));
  return plan.finish();
}

function pennyJob(priced: DemoModel, outputTokensMax: number): Partial<Draft> {
  return {
    publisher: 'penny-app',
    account: PENNY,
    namespace: `${PENNY}/prod`,
    model: priced.name,
    priority: 'interactive',
    outputTokensMax,
  };
}

/** A scenario being written. */
class Plan {
  readonly #random: () => number;
  readonly #durationMs: number;
  #drafts: Draft[] = [];
  #jobs = 0;

  constructor(jobs: number, seed: number) {
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
    this.#drafts = this.#drafts.concat(plain);
    // Those of the burst are not repeated: a repeat is due soon after its job.
    const originals = plain.slice(inBurst);
    const repeat = (times: number, change: (original: Draft) => Draft) => {
      for (let i = 0; i < times; i++) {
        const [original] = originals.splice(this.#below(originals.length), 1);
        if (original !== undefined) this.#drafts.push(change(original));
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
  add(count: number, change: () => Partial<Draft>): void {
    for (let i = 0; i < count; i++) this.#drafts.push({ ...this.#ordinary(), ...change() });
  }

  /** Messages with the flaws of a group, in turn. */
  flawed(group: Flaw['group'], count: number): void {
    const names = flawsOf(group);
    let next = this.#below(names.length);
    this.add(count, () => {
      const flaw = names[next++ % names.length] ?? 'not_json';
      return { kind: 'flawed', flaw, priority: 'interactive', expected: FLAWS[flaw].expected };
    });
  }

  finish(): Scenario {
    return sorted(this.#drafts);
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
      model: this.#random() < 0.6 ? SMALL.name : LARGE.name,
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
    const senders = SENDERS.filter(({ account }) => account !== notAccount);
    const sender = senders[this.#below(senders.length)];
    invariant(sender !== undefined, 'the world has senders');
    return sender;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}

type Sender = Pick<ScenarioMessage, 'publisher' | 'account' | 'namespace'>;

/** Everybody who sends ordinary jobs: not the account with little credit. */
const SENDERS: readonly Sender[] = PUBLISHERS.flatMap(({ name, accounts }) =>
  accounts.flatMap((account) =>
    namespacesOf(account).map((namespace) => ({ publisher: name, account, namespace })),
  ),
).filter(({ account }) => account !== PENNY);

/** Puts messages into the order of their moments; what is due at the same one keeps its place, a job before its twin. */
function sorted(drafts: readonly Draft[]): Scenario {
  const inOrder = drafts.toSorted((a, b) => a.atMs - b.atMs);
  const first = new Map<number, number>();
  for (const [seq, { job }] of inOrder.entries()) if (!first.has(job)) first.set(job, seq);
  const messages = inOrder.map(({ afterJob, ...draft }, seq): ScenarioMessage => {
    const after = afterJob === null ? null : (first.get(afterJob) ?? null);
    return { ...draft, seq, after };
  });
  return { messages, creditMicro: creditFor(messages) };
}

/** Lays out the arrivals of a trace as ordinary jobs of the stated sizes. `speed` 60 makes a minute of an hour. */
export function scenarioOfTrace(arrivals: readonly TraceArrival[], speed: number, seed: number): Scenario {
  const random = generatorOf(seed);
  const drafts = arrivals.map(({ atMs, contextTokens, generatedTokens }, job): Draft => {
    const sender = SENDERS[job % SENDERS.length];
    invariant(sender !== undefined, 'the world has senders');
    return {
      job,
      kind: 'plain',
      flaw: null,
      atMs: Math.round(atMs / speed),
      afterJob: null,
      ...sender,
      model: random() < 0.6 ? SMALL.name : LARGE.name,
      priority: 'interactive',
      promptStart: Math.floor(random() * 1_000_000),
      promptTokens: Math.min(contextTokens, PROMPT_TOKENS_MAX),
      inputTokensMax: Math.max(1, contextTokens),
      outputTokensMax: Math.max(1, generatedTokens),
      waitMs: WAIT_MS_MAX.interactive,
      expected: SUCCEEDED,
    };
  });
  return sorted(drafts);
}

function namespacesOf(account: string): readonly string[] {
  return ACCOUNTS.find(({ name }) => name === account)?.namespaces ?? [];
}

/**
 * The credit each account begins with. The poor one gets exactly what its small jobs set aside together: whatever the order,
 * each of them fits, because a charge is never more than its lock; and a large one costs more than all of it, so it never
 * does. The others get twice what all their jobs set aside.
 */
function creditFor(messages: readonly ScenarioMessage[]): ReadonlyMap<string, bigint> {
  const credit = new Map(ACCOUNTS.map(({ name }) => [name, 0n]));
  for (const message of messages) {
    if (message.expected.state !== 'succeeded') continue;
    const times = message.account === PENNY ? 1n : 2n;
    credit.set(message.account, (credit.get(message.account) ?? 0n) + times * lockOf(message));
  }
  const cheapest = messages.filter(({ kind }) => kind === 'penny_large').map(lockOf);
  invariant(
    cheapest.every((amount) => amount > (credit.get(PENNY) ?? 0n)),
    'a large job is beyond the small credit',
  );
  return credit;
}

/** What a job of an ordinary model sets aside, in micro-credits. */
export function lockOf({ model, inputTokensMax, outputTokensMax }: ScenarioMessage): bigint {
  return lockMicro(model === LARGE.name ? LARGE : SMALL, inputTokensMax, outputTokensMax);
}

/** The body of a message, before its flaw. `prompt` is the text its numbers stand for. */
export function jobOf(message: ScenarioMessage, id: string, prompt: string): JobMessage {
  return {
    v: 1,
    id,
    account: message.account,
    namespace: message.namespace,
    model: message.model,
    kind: 'chat',
    input: { messages: [{ role: 'user', content: prompt }] },
    limits: {
      input_tokens_max: message.inputTokensMax,
      output_tokens_max: message.outputTokensMax,
      timeout_ms: TIMEOUT_MS,
      wait_ms: message.waitMs,
      attempts_max: 1,
    },
    constraints: { subcloud: null, region: null, vram_gb_min: null },
    priority: message.priority,
    stream: false,
  };
}
