import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { TollgateError } from '../../src/errors.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { CreditLocksPg } from '../../src/ledger/credit-locks.ts';
import { SettlementsPg } from '../../src/ledger/settlements.ts';
import { SweepsPg } from '../../src/ledger/sweeps.ts';
import type {
  EndedJob,
  EndUnlockedAnswer,
  LockAnswer,
  LockRequest,
  SettleAnswer,
  SettleRequest,
} from '../../src/ledger/types.ts';
import type { Database } from '../../src/postgres/database.ts';
import { endUnlockedRequest, ledgerConfig, quietLog, type TestLedger } from '../support/ledger.ts';
import * as model from './model.ts';
import type { LedgerModel } from './model.ts';

/**
 * The calls that a coordinator makes, each as an operation that can be done to PostgreSQL and to the model. An arbitrary makes a
 * *draft* from small numbers alone, so that it can be shrunk and printed; the draft becomes an operation when its turn comes and it
 * sees which jobs there are. To add a call: a function in `model.ts`, a draft here, an entry in `DRAFTS`.
 */
export interface Operation {
  /** Does it to PostgreSQL over one of the two connections and returns the answers in short. */
  readonly run: (at: Coordinator) => Promise<readonly string[]>;
  /** Does it to the model and returns the answers that PostgreSQL must give. */
  readonly apply: (state: LedgerModel) => readonly string[];
}

/** Numbers that say what to do. */
export interface Draft {
  /** For the printed counterexample. */
  readonly text: string;
  readonly prepare: (scene: Scene) => Operation;
}

/** One coordinator: the same functions over a connection pool of its own. */
export interface Coordinator {
  readonly locks: CreditLocksPg;
  readonly settlements: SettlementsPg;
  readonly sweeps: SweepsPg;
}

/** Makes a coordinator on these connections; `settler` has the settler's role. */
export function coordinatorOn(dispatcher: Database, settler: Database): Coordinator {
  return {
    locks: new CreditLocksPg(ledgerConfig, quietLog, dispatcher),
    settlements: new SettlementsPg(quietLog, settler),
    sweeps: new SweepsPg(dispatcher),
  };
}

/** What drafts choose from. `asked`: every lock that was ever asked for in this run, also by the operation beside it. */
export interface Scene {
  readonly ledger: TestLedger;
  readonly accounts: readonly { readonly id: number; readonly name: string }[];
  readonly versions: Versions;
  readonly asked: LockRequest[];
  readonly topUps: { readonly id: string; readonly account: number; readonly micro: bigint }[];
}

/** Model versions by what is special about them. */
export interface Versions {
  readonly plain: number;
  /** With prices that make every amount a fraction. */
  readonly odd: number;
  readonly free: number;
  readonly retired: number;
}

const DAY_MS = 86_400_000;
/** Ids older than the window; the test made them. */
const oldIds = new Set<string>();
const isInWindow = (id: string): boolean => !oldIds.has(id);
/** Owed replies and overdue jobs that one call returns at most: all of a run. */
const ALL = 1_000;

function oldId(): string {
  const id = newUuidV7({ nowMs: () => Date.now() - 8 * DAY_MS, monotonicMs: () => 0 });
  oldIds.add(id);
  return id;
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** The nth request from the newest, if there are so many. */
function recent(scene: Scene, back: number): LockRequest | undefined {
  return scene.asked.at(-1 - back);
}

function distinct(requests: readonly (LockRequest | undefined)[]): LockRequest[] {
  const byId = new Map(
    requests.flatMap((request) => (request === undefined ? [] : [[request.jobId, request]])),
  );
  return [...byId.values()];
}

// Answers in short, as the model says them.

function lockText(answer: LockAnswer | EndUnlockedAnswer | null): string {
  switch (answer?.kind) {
    case undefined:
      return 'null';
    case 'new':
      return `new ${answer.amountMicro}`;
    case 'refused':
      return `refused ${answer.code} ${answer.isRecorded ? 'recorded' : 'unrecorded'}`;
    case 'conflict':
      return `conflict ${answer.field}`;
    case 'exists':
      return `exists ${answer.state} ${answer.attempt} ${answer.node} ${answer.code} ${answer.chargedMicro}`;
    case 'repriced':
    case 'recorded':
      return answer.kind;
    default:
      return answer satisfies never;
  }
}

function toldText({ state, code, lockedMicro, chargedMicro, replyTo }: EndedJob): string {
  return `${state} ${code} ${lockedMicro} ${chargedMicro} ${replyTo}`;
}

function settleText(answer: SettleAnswer): string {
  return 'job' in answer ? `${answer.kind} ${toldText(answer.job)}` : answer.kind;
}

// Drafts.

/** How one job of a batch is asked for: what is odd about it. */
const LOCK_KINDS = ['plain', 'odd', 'free', 'retired', 'beyond', 'old', 'nobody'] as const;
type LockKind = (typeof LOCK_KINDS)[number];

interface NewJob {
  readonly account: number;
  readonly kind: LockKind;
  readonly tokens: number;
}

/** A job asked for again: as it was, with another body, by another account, or to be answered elsewhere. */
interface Again {
  readonly back: number;
  readonly how: 'same' | 'body' | 'account' | 'reply';
}

const backArb = fc.nat({ max: 12 });
const newJobArb: fc.Arbitrary<NewJob> = fc.record({
  account: fc.nat({ max: 2 }),
  kind: fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom<LockKind>('plain', 'odd') },
    { weight: 2, arbitrary: fc.constantFrom(...LOCK_KINDS) },
  ),
  tokens: fc.integer({ min: 1, max: 400 }),
});
const againArb: fc.Arbitrary<Again> = fc.record({
  back: backArb,
  how: fc.constantFrom('same', 'same', 'body', 'account', 'reply'),
});

function newRequest({ ledger, accounts, versions }: Scene, { account, kind, tokens }: NewJob): LockRequest {
  const special = { beyond: versions.plain, old: versions.plain, nobody: versions.plain, ...versions };
  return ledger.lockRequest({
    ...(kind === 'old' ? { jobId: oldId() } : {}),
    accountId: kind === 'nobody' ? 999_999_999 : (accounts[account]?.id ?? 0),
    modelVersionId: special[kind],
    inputTokensMax: kind === 'beyond' ? model.TOKENS_MAX + tokens : tokens,
    outputTokensMax: tokens,
    replyTo: 'reply.p-first',
  });
}

function againOf(scene: Scene, { back, how }: Again): LockRequest | undefined {
  const request = recent(scene, back);
  if (request === undefined) return undefined;
  if (how === 'body') return { ...request, digest: hash(`another body of ${request.jobId}`) };
  if (how === 'reply') return { ...request, replyTo: 'reply.p-second' };
  const other = scene.accounts.find(({ id }) => id !== request.accountId);
  return how === 'account' && other ? { ...request, accountId: other.id } : request;
}

const lock = fc
  .record({ fresh: fc.array(newJobArb, { maxLength: 8 }), again: fc.array(againArb, { maxLength: 3 }) })
  .map(
    ({ fresh, again }): Draft => ({
      text: `lock ${JSON.stringify({ fresh, again })}`,
      prepare: (scene) => {
        const made = fresh.map((one) => newRequest(scene, one));
        const requests = distinct([...again.map((one) => againOf(scene, one)), ...made]);
        scene.asked.push(...made);
        return {
          run: async ({ locks }) => (await locks.lockBatch(requests)).map(lockText),
          apply: (state) => model.lockBatch(state, requests, isInWindow),
        };
      },
    }),
  );

/** A result: how much it used compared with its limits, which of two results it is, and what is wrong with its fence. */
const resultArb = fc.record({
  back: backArb,
  share: fc.double({ min: 0, max: 2, noNaN: true }),
  tag: fc.nat({ max: 1 }),
  fence: fc.oneof(
    { weight: 8, arbitrary: fc.constant('right') },
    { weight: 3, arbitrary: fc.constantFrom('attempt', 'node', 'session') },
  ),
  isCompleted: fc.boolean(),
});

const settle = fc.array(resultArb, { minLength: 1, maxLength: 6 }).map(
  (results): Draft => ({
    text: `settle ${JSON.stringify(results)}`,
    prepare: (scene) => {
      const requests = new Map<string, SettleRequest>();
      for (const { back, share, tag, fence, isCompleted } of results) {
        const request = recent(scene, back);
        if (request === undefined || requests.has(request.jobId)) continue;
        const tokens = Math.floor(request.inputTokensMax * share);
        requests.set(request.jobId, {
          jobId: request.jobId,
          attempt: fence === 'attempt' ? 2 : 1,
          node: fence === 'node' ? 'node-2' : request.node,
          session: request.session + (fence === 'session' ? 1 : 0),
          status: isCompleted ? 'completed' : 'failed',
          inputTokens: tokens,
          outputTokens: tokens,
          digest: hash(`${tag} ${request.jobId}`),
        });
      }
      const batch = [...requests.values()];
      return {
        run: async ({ settlements }) => (await settlements.settleBatch(batch)).map(settleText),
        apply: (state) => model.settleBatch(state, batch),
      };
    },
  }),
);

const end = fc
  .array(fc.record({ back: backArb, isStale: fc.boolean(), isReplyOwed: fc.boolean() }), {
    minLength: 1,
    maxLength: 4,
  })
  .map(
    (ends): Draft => ({
      text: `end ${JSON.stringify(ends)}`,
      prepare: (scene) => {
        const batch = ends.flatMap(({ back, isStale, isReplyOwed }) => {
          const request = recent(scene, back);
          if (request === undefined) return [];
          const { jobId, node } = request;
          const session = request.session + (isStale ? 1 : 0);
          return [{ jobId, attempt: 1, node, session, code: 'TG_WORKER_LOST' as const, isReplyOwed }];
        });
        const requests = [...new Map(batch.map((one) => [one.jobId, one])).values()];
        return {
          run: async ({ locks }) => {
            const answers = await locks.endJobs(requests);
            return answers.map((answer) =>
              answer.kind === 'ended' ? `ended ${toldText(answer.job)}` : answer.kind,
            );
          },
          apply: (state) => model.endJobs(state, requests),
        };
      },
    }),
  );

const endUnlocked = fc
  .record({
    fresh: fc.array(newJobArb, { maxLength: 3 }),
    again: fc.array(againArb, { maxLength: 3 }),
    isExpired: fc.boolean(),
  })
  .map(
    ({ fresh, again, isExpired }): Draft => ({
      text: `end unlocked ${JSON.stringify({ fresh, again, isExpired })}`,
      prepare: (scene) => {
        const made = fresh.filter(({ kind }) => kind !== 'nobody').map((one) => newRequest(scene, one));
        const change = isExpired
          ? ({ state: 'expired', code: 'TG_JOB_EXPIRED' } as const)
          : ({ state: 'refused', code: 'TG_MODEL_UNKNOWN' } as const);
        const all = distinct([...again.map((one) => againOf(scene, one)), ...made]);
        const requests = all
          .filter(({ accountId }) => accountId !== 999_999_999)
          .map((one) => endUnlockedRequest(one, change));
        scene.asked.push(...made);
        return {
          run: async ({ locks }) => (await locks.endUnlockedBatch(requests)).map(lockText),
          apply: (state) => model.endUnlockedBatch(state, requests, isInWindow),
        };
      },
    }),
  );

const lookUp = fc.array(againArb, { minLength: 1, maxLength: 4 }).map(
  (again): Draft => ({
    text: `look up ${JSON.stringify(again)}`,
    prepare: (scene) => {
      const requests = distinct(again.map((one) => againOf(scene, one)));
      return {
        run: async ({ locks }) => (await locks.lookUpBatch(requests)).map(lockText),
        apply: (state) => model.lookUpBatch(state, requests),
      };
    },
  }),
);

const sweep = fc.constant<Draft>({
  text: 'sweep',
  prepare: () => ({
    run: async ({ sweeps }) =>
      (await sweeps.sweepOverdue(ALL)).map((job) => `${job.jobId} ${toldText(job)}`).toSorted(),
    apply: model.sweepOverdue,
  }),
});

const owed = fc.constant<Draft>({
  text: 'owed',
  prepare: () => ({
    run: async ({ sweeps }) =>
      (await sweeps.owedReplies(ALL)).map((job) => `${job.jobId} ${toldText(job)}`).toSorted(),
    apply: model.owedReplies,
  }),
});

const clear = fc.array(backArb, { minLength: 1, maxLength: 6 }).map(
  (backs): Draft => ({
    text: `clear ${backs.join()}`,
    prepare: (scene) => {
      const ids = distinct(backs.map((back) => recent(scene, back))).map(({ jobId }) => jobId);
      return {
        run: async ({ sweeps }) => {
          await sweeps.clearOwed(ids);
          return [];
        },
        apply: (state) => {
          model.clearOwed(state, ids);
          return [];
        },
      };
    },
  }),
);

/** A top-up: new, the same again, or the id of an earlier one for another account or amount. */
const topUp = fc
  .record({
    account: fc.nat({ max: 2 }),
    micro: fc.integer({ min: 1, max: 3_000 }),
    how: fc.constantFrom('new', 'new', 'same', 'account', 'micro'),
    back: fc.nat({ max: 2 }),
  })
  .map(
    ({ account, micro, how, back }): Draft => ({
      text: `top up ${JSON.stringify({ account, micro, how, back })}`,
      prepare: (scene) => {
        const before = how === 'new' ? undefined : scene.topUps.at(-1 - back);
        const one = {
          id: before?.id ?? newUuidV7(),
          account: before?.account ?? account,
          micro: before?.micro ?? BigInt(micro),
        };
        if (before === undefined) scene.topUps.push(one);
        if (how === 'account' && before) one.account = (before.account + 1) % scene.accounts.length;
        if (how === 'micro' && before) one.micro += 1n;
        const { id = 0, name = '' } = scene.accounts[one.account] ?? {};
        return {
          run: async () => [await toppedUp(scene.ledger, one.id, name, one.micro)],
          apply: (state) => [model.topUp(state, one.id, id, one.micro)],
        };
      },
    }),
  );

async function toppedUp({ accounts }: TestLedger, id: string, name: string, micro: bigint): Promise<string> {
  try {
    const { isNew, freeMicro } = await accounts.topUp(id, name, micro);
    return `${isNew ? 'new' : 'again'} ${freeMicro}`;
  } catch (error) {
    if (error instanceof TollgateError) return error.code;
    throw error;
  }
}

/** Everything that a coordinator does, by weight. */
export const DRAFTS: readonly { readonly weight: number; readonly arbitrary: fc.Arbitrary<Draft> }[] = [
  { weight: 8, arbitrary: lock },
  { weight: 8, arbitrary: settle },
  { weight: 3, arbitrary: end },
  { weight: 2, arbitrary: endUnlocked },
  { weight: 2, arbitrary: lookUp },
  { weight: 2, arbitrary: sweep },
  { weight: 1, arbitrary: owed },
  { weight: 1, arbitrary: clear },
  { weight: 3, arbitrary: topUp },
];

/** Those that two coordinators may do at the same moment; a sweep answers nothing while another one sweeps. */
export const RACERS: readonly { readonly weight: number; readonly arbitrary: fc.Arbitrary<Draft> }[] = [
  { weight: 4, arbitrary: lock },
  { weight: 4, arbitrary: settle },
  { weight: 2, arbitrary: end },
  { weight: 1, arbitrary: endUnlocked },
  { weight: 1, arbitrary: topUp },
];
