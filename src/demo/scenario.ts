import type { JobMessage } from '../contracts/job.ts';
import type { Priority } from '../contracts/names.ts';
import { invariant } from '../errors.ts';
import type { Expected, FlawName } from './flaws.ts';
import { lockMicro, type World } from './world.ts';

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
/** One of them. */
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

/** An ordinary end. */
export const SUCCEEDED: Expected = { state: 'succeeded', code: null, field: null, row: 'succeeded' };

const TIMEOUT_MS = 60_000;

/** A message before all are sorted; `afterJob`: the job whose answer it waits for. */
export type Draft = Omit<ScenarioMessage, 'seq' | 'after'> & { readonly afterJob: number | null };

/** Who sends a message, and for whom. */
export type Sender = Pick<ScenarioMessage, 'publisher' | 'account' | 'namespace'>;

/** Everybody who sends ordinary jobs: not for the account with little credit. */
export function sendersOf({ publishers, accounts, poor }: World): Sender[] {
  return publishers.flatMap(({ name: publisher, accounts: entitled }) =>
    accounts
      .filter(({ name }) => entitled.includes(name) && name !== poor.name)
      .flatMap(({ name: account, namespaces }) =>
        namespaces.map((namespace) => ({ publisher, account, namespace })),
      ),
  );
}

/** Puts messages into the order of their moments; what is due at the same one keeps its place, a job before its twin. */
export function arranged(world: World, drafts: readonly Draft[]): Scenario {
  const inOrder = drafts.toSorted((a, b) => a.atMs - b.atMs);
  const first = new Map<number, number>();
  for (const [seq, { job }] of inOrder.entries()) if (!first.has(job)) first.set(job, seq);
  const messages = inOrder.map(({ afterJob, ...draft }, seq): ScenarioMessage => {
    const after = afterJob === null ? null : (first.get(afterJob) ?? null);
    return { ...draft, seq, after };
  });
  return { messages, creditMicro: creditFor(world, messages) };
}

/**
 * The credit each account begins with. The poor one gets exactly what its small jobs set aside together: whatever the order,
 * each of them fits, because a charge is never more than its lock; and a large one costs more than all of it, so it never
 * does. The others get twice what all their jobs set aside.
 */
function creditFor(world: World, messages: readonly ScenarioMessage[]): ReadonlyMap<string, bigint> {
  const poor = world.poor.name;
  const credit = new Map(world.accounts.map(({ name }) => [name, 0n]));
  for (const message of messages) {
    if (message.expected.state !== 'succeeded') continue;
    const times = message.account === poor ? 1n : 2n;
    credit.set(message.account, (credit.get(message.account) ?? 0n) + times * lockOf(world, message));
  }
  const large = messages
    .filter(({ kind }) => kind === 'penny_large')
    .map((message) => lockOf(world, message));
  invariant(
    large.every((amount) => amount > (credit.get(poor) ?? 0n)),
    'a large job is beyond the small credit',
  );
  return credit;
}

/** What a job of one of the two ordinary models sets aside, in micro-credits. */
export function lockOf(
  { small, large }: World,
  { model, inputTokensMax, outputTokensMax }: ScenarioMessage,
): bigint {
  return lockMicro(model === large.name ? large : small, inputTokensMax, outputTokensMax);
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
