import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { TollgateError } from '../../src/errors.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { AttemptsPg } from '../../src/ledger/attempts.ts';
import { CancellationsPg } from '../../src/ledger/cancellations.ts';
import { CreditLocksPg } from '../../src/ledger/credit-locks.ts';
import { SettlementsPg } from '../../src/ledger/settlements.ts';
import { SweepsPg } from '../../src/ledger/sweeps.ts';
import type {
  CancelAnswer,
  EndedJob,
  GiveUpAnswer,
  GiveUpRequest,
  PlaceAnswer,
  PlaceRequest,
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
  /**
   * For a call that may come while its jobs are being locked: as `apply`, but what was answered `unknown` comes before `between` and the
   * rest behind it. Such a batch is not one moment, and need not be: each job is answered, and moved, once.
   */
  readonly applyAround?: (
    state: LedgerModel,
    answers: readonly string[],
    between: () => void,
  ) => readonly string[];
}

/** Numbers that say what to do. */
export interface Draft {
  /** For the printed counterexample. */
  readonly text: string;
  readonly prepare: (scene: Scene, state: LedgerModel) => Operation;
}

/** One coordinator: the same functions over a connection pool of its own. */
export interface Coordinator {
  readonly locks: CreditLocksPg;
  readonly settlements: SettlementsPg;
  readonly sweeps: SweepsPg;
  readonly attempts: AttemptsPg;
  readonly cancellations: CancellationsPg;
}

/** Makes a coordinator on these connections; `settler` has the settler's role. */
export function coordinatorOn(dispatcher: Database, settler: Database): Coordinator {
  return {
    locks: new CreditLocksPg(ledgerConfig, quietLog, dispatcher),
    settlements: new SettlementsPg(quietLog, settler),
    sweeps: new SweepsPg(dispatcher),
    attempts: new AttemptsPg(ledgerConfig, quietLog, dispatcher),
    cancellations: new CancellationsPg(dispatcher),
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

/** An account that nobody has. */
const NOBODY = 999_999_999;
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

/** Like `recent`, but first among the jobs that a call can move: those that run, or those that wait for a node. */
function movable(
  scene: Scene,
  state: LedgerModel,
  back: number,
  isWaiting: boolean,
): LockRequest | undefined {
  const moved = scene.asked.filter(({ jobId }) => {
    const job = state.jobs.get(jobId);
    return job?.state === 'locked' && (job.node === null) === isWaiting;
  });
  return moved.at(-1 - back) ?? recent(scene, back);
}

function distinct(requests: readonly (LockRequest | undefined)[]): LockRequest[] {
  const byId = new Map(
    requests.flatMap((request) => (request === undefined ? [] : [[request.jobId, request]])),
  );
  return [...byId.values()];
}

/** `applyAround` of a batch. */
function around<Request>(
  batch: readonly Request[],
  apply: (state: LedgerModel, requests: readonly Request[]) => readonly string[],
): NonNullable<Operation['applyAround']> {
  return (state, answers, between) => {
    const isEarly = (_: Request, at: number) => answers[at] === 'unknown';
    const early = [...apply(state, batch.filter(isEarly))];
    between();
    const late = [
      ...apply(
        state,
        batch.filter((one, at) => !isEarly(one, at)),
      ),
    ];
    return batch.map((one, at) => (isEarly(one, at) ? early : late).shift() ?? '');
  };
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

function giveUpText(answer: GiveUpAnswer): string {
  if (!('isFirst' in answer)) return answer.kind;
  const told = answer.kind === 'retry' ? answer.givenUp.nextAttempt : toldText(answer.job);
  return `${answer.kind} ${answer.isFirst ? 'first' : 'again'} ${told}`;
}

function placeText(answer: PlaceAnswer): string {
  return answer?.kind === 'placed' || answer?.kind === 'unpayable' ? answer.kind : lockText(answer);
}

function cancelText(answer: CancelAnswer): string {
  if (answer.kind === 'cancelled') return `cancelled ${toldText(answer.job)}`;
  return answer.kind === 'ended' ? `ended ${answer.state}` : answer.kind;
}

// Drafts.

/** Whether a message of a node names the attempt that runs, or what it has wrong. */
type Fence = 'right' | 'attempt' | 'before' | 'node' | 'session';

const fenceArb: fc.Arbitrary<Fence> = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Fence>('right') },
  { weight: 4, arbitrary: fc.constantFrom<Fence>('attempt', 'before', 'before', 'node', 'session') },
);

/** The attempt of a job as it stands, or one that is not it; of a job that is not there the first. */
function fenceOf(state: LedgerModel, request: LockRequest, fence: Fence) {
  const job = state.jobs.get(request.jobId);
  const attempt = Math.max(1, job?.attempt ?? 1);
  const before = job?.givenUp.get(attempt - 1);
  if (fence === 'before' && before)
    return { attempt: attempt - 1, node: before.node, session: before.session };
  return {
    attempt: attempt + (fence === 'attempt' ? 1 : 0),
    node: fence === 'node' ? 'node-3' : (job?.node ?? request.node),
    session: (job?.session ?? request.session) + (fence === 'session' ? 1 : 0),
  };
}

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

/** How far back from the newest job: mostly the last few, so that one job meets several calls. */
const backArb = fc.oneof(
  { weight: 3, arbitrary: fc.nat({ max: 3 }) },
  { weight: 1, arbitrary: fc.nat({ max: 12 }) },
);
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
    accountId: kind === 'nobody' ? NOBODY : (accounts[account]?.id ?? 0),
    modelVersionId: special[kind],
    inputTokensMax: kind === 'beyond' ? model.TOKENS_MAX + tokens : tokens,
    outputTokensMax: tokens,
    replyTo: 'reply.p-first',
  });
}

function againOf(scene: Scene, state: LedgerModel, { back, how }: Again): LockRequest | undefined {
  const request = recent(scene, back);
  if (request === undefined) return undefined;
  if (how === 'body') return { ...request, digest: hash(`another body of ${request.jobId}`) };
  if (how === 'reply') return { ...request, replyTo: 'reply.p-second' };
  // A job that loses its id to another account at that very moment still counts against those behind it (sql/README.md): no order
  // explains that, so the other account comes later.
  const other = state.jobs.has(request.jobId) && scene.accounts.find(({ id }) => id !== request.accountId);
  return how === 'account' && other ? { ...request, accountId: other.id } : request;
}

const lock = fc
  .record({ fresh: fc.array(newJobArb, { maxLength: 8 }), again: fc.array(againArb, { maxLength: 3 }) })
  .map(
    ({ fresh, again }): Draft => ({
      text: `lock ${JSON.stringify({ fresh, again })}`,
      prepare: (scene, state) => {
        const made = fresh.map((one) => newRequest(scene, one));
        const requests = distinct([...again.map((one) => againOf(scene, state, one)), ...made]);
        scene.asked.push(...made);
        return {
          run: async ({ locks }) => (await locks.lockBatch(requests)).map(lockText),
          apply: (held) => model.lockBatch(held, requests, isInWindow),
        };
      },
    }),
  );

/** A result: how much it used compared with its limits, which of two results it is, and what is wrong with its fence. */
const resultArb = fc.record({
  back: backArb,
  share: fc.double({ min: 0, max: 2, noNaN: true }),
  tag: fc.nat({ max: 1 }),
  fence: fenceArb,
  isCompleted: fc.boolean(),
});

const settle = fc.array(resultArb, { minLength: 1, maxLength: 6 }).map(
  (results): Draft => ({
    text: `settle ${JSON.stringify(results)}`,
    prepare: (scene, state) => {
      const requests = new Map<string, SettleRequest>();
      for (const { back, share, tag, fence, isCompleted } of results) {
        const request = fence === 'right' ? movable(scene, state, back, false) : recent(scene, back);
        if (request === undefined || requests.has(request.jobId)) continue;
        const tokens = Math.floor(request.inputTokensMax * share);
        requests.set(request.jobId, {
          jobId: request.jobId,
          ...fenceOf(state, request, fence),
          status: isCompleted ? 'completed' : 'failed',
          inputTokens: tokens,
          outputTokens: tokens,
          digest: hash(`${tag} ${request.jobId}`),
        });
      }
      const batch = [...requests.values()];
      return {
        run: async ({ settlements }) => (await settlements.settleBatch(batch)).map(settleText),
        apply: (at) => model.settleBatch(at, batch),
        applyAround: around(batch, model.settleBatch),
      };
    },
  }),
);

/** Gives attempts up: with a next try or without, by a result or without one, through whose fault, and with whom behind it. */
const giveUpArb = fc.record({
  back: backArb,
  fence: fenceArb,
  isCounted: fc.boolean(),
  delayMs: fc.constantFrom(null, 0, 0, 5, model.TIMEOUT_MS + 1),
  tag: fc.constantFrom(null, 0, 1),
  isOwed: fc.boolean(),
});

const giveUp = fc.array(giveUpArb, { minLength: 1, maxLength: 4 }).map(
  (ends): Draft => ({
    text: `give up ${JSON.stringify(ends)}`,
    prepare: (scene, state) => {
      const batch = new Map<string, GiveUpRequest>();
      for (const { back, fence, tag, ...change } of ends) {
        const request = fence === 'right' ? movable(scene, state, back, false) : recent(scene, back);
        if (request === undefined || batch.has(request.jobId)) continue;
        const digest = tag === null ? null : hash(`${tag} ${request.jobId}`);
        const name = fenceOf(state, request, fence);
        batch.set(request.jobId, scene.ledger.giveUpRequest(request, { ...name, ...change, digest }));
      }
      const requests = [...batch.values()];
      return {
        run: async ({ attempts }) => (await attempts.giveUpBatch(requests)).map(giveUpText),
        apply: (at) => model.giveUpBatch(at, requests),
        applyAround: around(requests, model.giveUpBatch),
      };
    },
  }),
);

const placeArb = fc.record({
  back: backArb,
  isAhead: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  version: fc.constantFrom('locked', 'locked', 'locked', 'locked', 'plain', 'odd', 'free', 'retired'),
  node: fc.constantFrom('node-1', 'node-2'),
});

const place = fc.array(placeArb, { minLength: 1, maxLength: 4 }).map(
  (places): Draft => ({
    text: `place ${JSON.stringify(places)}`,
    prepare: (scene, state) => {
      const batch = new Map<string, PlaceRequest>();
      for (const { back, isAhead, version, node } of places) {
        const request = movable(scene, state, back, true);
        if (request === undefined) continue;
        const { jobId, session } = request;
        const attempt = (state.jobs.get(jobId)?.attempt ?? 1) + (isAhead ? 1 : 0);
        const modelVersionId = version === 'locked' ? request.modelVersionId : scene.versions[version];
        batch.set(jobId, { jobId, attempt, node, session, modelVersionId });
      }
      const requests = [...batch.values()];
      return {
        run: async ({ attempts }) => (await attempts.placeBatch(requests)).map(placeText),
        apply: (at) => model.placeBatch(at, requests),
      };
    },
  }),
);

/** Cancels jobs that are there, that come later, or that are another's. */
const cancel = fc
  .record({
    fresh: fc.array(newJobArb, { maxLength: 2 }),
    backs: fc.array(backArb, { maxLength: 3 }),
    isOther: fc.boolean(),
  })
  .map(
    ({ fresh, backs, isOther }): Draft => ({
      text: `cancel ${JSON.stringify({ fresh, backs, isOther })}`,
      prepare: (scene, state) => {
        const made = fresh.filter(({ kind }) => kind !== 'nobody').map((one) => newRequest(scene, one));
        const jobs = distinct([
          ...backs.map((back) => againOf(scene, state, { back, how: isOther ? 'account' : 'same' })),
          ...made,
        ]);
        const requests = jobs.filter(({ accountId }) => accountId !== NOBODY);
        scene.asked.push(...made);
        return {
          run: async ({ cancellations }) => (await cancellations.cancelBatch(requests)).map(cancelText),
          apply: (at) => model.cancelBatch(at, requests, isInWindow),
        };
      },
    }),
  );

const owedAttempts = fc.constant<Draft>({
  text: 'owed attempts',
  prepare: () => ({
    run: async ({ attempts }) => {
      const owing = await attempts.owedAttempts(ALL);
      const texts = owing.map(
        ({ jobId, attempt, code, alarm }) => `${jobId} ${attempt} ${code} ${alarm ? 'alarm' : 'no alarm'}`,
      );
      return texts.toSorted();
    },
    apply: model.owedAttempts,
  }),
});

const clearAttempts = fc.array(backArb, { minLength: 1, maxLength: 6 }).map(
  (backs): Draft => ({
    text: `clear attempts ${backs.join()}`,
    prepare: (scene) => {
      const names = distinct(backs.map((back) => recent(scene, back))).map(({ jobId }) => ({
        jobId,
        attempt: 1,
      }));
      return {
        run: async ({ attempts }) => {
          await attempts.clearOwedAttempts(names);
          return [];
        },
        apply: (state) => {
          model.clearOwedAttempts(state, names);
          return [];
        },
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
      prepare: (scene, state) => {
        const made = fresh.filter(({ kind }) => kind !== 'nobody').map((one) => newRequest(scene, one));
        const change = isExpired
          ? ({ state: 'expired', code: 'TG_JOB_EXPIRED' } as const)
          : ({ state: 'refused', code: 'TG_MODEL_UNKNOWN' } as const);
        const all = distinct([...again.map((one) => againOf(scene, state, one)), ...made]);
        const requests = all
          .filter(({ accountId }) => accountId !== NOBODY)
          .map((one) => endUnlockedRequest(one, change));
        scene.asked.push(...made);
        return {
          run: async ({ locks }) => (await locks.endUnlockedBatch(requests)).map(lockText),
          apply: (held) => model.endUnlockedBatch(held, requests, isInWindow),
        };
      },
    }),
  );

const lookUp = fc.array(againArb, { minLength: 1, maxLength: 4 }).map(
  (again): Draft => ({
    text: `look up ${JSON.stringify(again)}`,
    prepare: (scene, state) => {
      const requests = distinct(again.map((one) => againOf(scene, state, one)));
      return {
        run: async ({ locks }) => (await locks.lookUpBatch(requests)).map(lockText),
        apply: (held) => model.lookUpBatch(held, requests),
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
  { weight: 5, arbitrary: giveUp },
  { weight: 6, arbitrary: place },
  { weight: 2, arbitrary: cancel },
  { weight: 1, arbitrary: owedAttempts },
  { weight: 1, arbitrary: clearAttempts },
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
  { weight: 3, arbitrary: giveUp },
  { weight: 2, arbitrary: place },
  { weight: 2, arbitrary: cancel },
  { weight: 1, arbitrary: endUnlocked },
  { weight: 1, arbitrary: topUp },
];
