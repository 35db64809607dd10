import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import type { JobRow, SimLedger } from '../../simulation/ledger.ts';
import type { Ledger } from '../../simulation/world.ts';
import { uuidV7Of } from '../../src/ids.ts';
import type { GiveUpRequest, LockRequest, PlaceRequest, SettleRequest } from '../../src/ledger/types.ts';
import { endUnlockedRequest } from '../support/ledger.ts';

/**
 * The calls of a coordinator, as drafts: small numbers alone, so that they can be shrunk and printed. A draft becomes a call when its
 * turn comes and it sees which jobs there are; the call is then made to either ledger.
 */
export interface Draft {
  readonly text: string;
  readonly prepare: (scene: Scene) => Step | null;
}

/** A call, or virtual time that passes. `isSet`: the order of its answers says nothing. */
export type Step =
  | {
      readonly name: keyof Ledger;
      readonly isSet: boolean;
      readonly ask: (of: SimLedger | Ledger) => unknown;
    }
  | { readonly passMs: number };

/** Model versions by what is special about them; all but `plain` are also fallbacks of a job of `plain`. */
export type Versions = Readonly<Record<'plain' | 'odd' | 'dear' | 'small' | 'free', number>>;

/** What drafts choose from. `asked`: every job that was ever asked for in this run. */
export interface Scene {
  readonly run: number;
  readonly baseMs: number;
  readonly sim: SimLedger;
  /** Virtual wall-clock time. */
  readonly nowMs: () => number;
  readonly accountIds: readonly number[];
  readonly versions: Versions;
  readonly asked: Map<string, LockRequest>;
  readonly lockRequest: (change: Partial<LockRequest>) => LockRequest;
  /** Jobs whose alarm was claimed: their next one is due by two times of the past, which ties with nothing predictable. */
  readonly claimed: Set<string>;
}

/** Tokens of each kind that a job may ask for of most models. */
export const TOKENS_MAX = 400;
/** Milliseconds that a job may ask for. */
export const TIMEOUT_MS_MAX = 600_000;
const NOBODY = 999_999_999;
const NO_VERSION = 999_999;
const DAY_MS = 86_400_000;
const ALL = 1_000;
/** Times that pass are whole tens of seconds and timeouts five more, so that what is close to a bound is never decided by the call's own time. */
const STEP_MS = 10_000;

const hash = (text: string): Buffer => createHash('sha256').update(text).digest();

/** An id whose order among the others is drawn, and that no other run has. */
function newId({ run, baseMs, asked }: Scene, ageMs: number): string {
  const bytes = hash(String(asked.size)).subarray(0, 16);
  bytes.writeUInt32BE(run, 12);
  return uuidV7Of(baseMs - ageMs, bytes);
}

const FRESH = [
  'plain',
  'odd',
  'dear',
  'free',
  'unknown',
  'beyond',
  'long',
  'old',
  'future',
  'nobody',
] as const;

const freshArb = fc.record({
  kind: fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom<(typeof FRESH)[number]>('plain', 'odd') },
    { weight: 3, arbitrary: fc.constantFrom(...FRESH) },
  ),
  account: fc.nat({ max: 2 }),
  ageMs: fc.nat({ max: 100_000 }),
  input: fc.integer({ min: 1, max: TOKENS_MAX }),
  output: fc.integer({ min: 1, max: TOKENS_MAX }),
  timeoutMs: fc.constantFrom(25_000, 65_000, 305_000),
  attemptsMax: fc.integer({ min: 1, max: 3 }),
  isBatch: fc.boolean(),
  isPlaced: fc.boolean(),
});
type Fresh = typeof freshArb extends fc.Arbitrary<infer T> ? T : never;

function freshRequest(scene: Scene, one: Fresh): LockRequest {
  const { kind } = one;
  const ageMs = kind === 'old' ? 8 * DAY_MS : kind === 'future' ? -DAY_MS : one.ageMs;
  const { versions } = scene;
  const version = new Map<string, number>([...Object.entries(versions), ['unknown', NO_VERSION]]).get(kind);
  const jobId = newId(scene, ageMs);
  const request = scene.lockRequest({
    jobId,
    digest: hash(jobId),
    accountId: kind === 'nobody' ? NOBODY : (scene.accountIds[one.account] ?? NOBODY),
    modelVersionId: version ?? versions.plain,
    inputTokensMax: kind === 'beyond' ? TOKENS_MAX + 1 : one.input,
    outputTokensMax: one.output,
    timeoutMs: kind === 'long' ? TIMEOUT_MS_MAX + 1 : one.timeoutMs,
    attemptsMax: one.attemptsMax,
    priority: one.isBatch ? 'batch' : 'interactive',
    poolSuffix: one.isPlaced ? '~r.eu-west' : null,
    replyTo: 'reply.p-first',
  });
  scene.asked.set(jobId, request);
  return request;
}

const backArb = fc.oneof(
  { weight: 3, arbitrary: fc.nat({ max: 3 }) },
  { weight: 1, arbitrary: fc.nat({ max: 12 }) },
);
const againArb = fc.record({
  back: backArb,
  how: fc.constantFrom('same', 'same', 'body', 'account', 'reply', 'price'),
});
type Again = typeof againArb extends fc.Arbitrary<infer T> ? T : never;

function againRequest(scene: Scene, { back, how }: Again): LockRequest[] {
  const request = [...scene.asked.values()].at(-1 - back);
  if (request === undefined) return [];
  const { accountId, jobId } = request;
  const other = scene.accountIds.find((id) => id !== accountId) ?? NOBODY;
  const changes = {
    same: {},
    body: { digest: hash(`another body of ${jobId}`) },
    account: { accountId: other },
    reply: { replyTo: 'reply.p-second', correlationId: 'again' },
    price: { modelVersionId: scene.versions.dear, inputTokensMax: TOKENS_MAX },
  } as const;
  return [{ ...request, ...changes[how] }];
}

function distinct<T extends { readonly jobId: string }>(requests: readonly T[]): T[] {
  return [...new Map(requests.map((request) => [request.jobId, request])).values()];
}

/** The nth job from the newest that is in this condition, else of all. */
function pick({ sim }: Scene, back: number, isWanted: (row: JobRow) => boolean): JobRow | undefined {
  const all = [...sim.jobs.values()];
  return all.filter(isWanted).at(-1 - back) ?? all.at(-1 - back);
}

const isRunning = (row: JobRow): boolean => row.state === 'locked' && row.node !== null;
const isWaiting = (row: JobRow): boolean => row.state === 'locked' && row.node === null;

const fenceArb = fc.oneof(
  { weight: 8, arbitrary: fc.constant('right') },
  {
    weight: 4,
    arbitrary: fc.constantFrom('ended', 'ended', 'attempt', 'before', 'before', 'node', 'session', 'job'),
  },
);

function beforeOf({ sim }: Scene, { id, attempt }: JobRow) {
  return sim.attempts.find((one) => one.jobId === id && one.attempt === attempt - 1);
}

/** The jobs that a message with this fence is about, if there are any. */
function wantedBy(fence: string): (row: JobRow) => boolean {
  if (fence === 'right') return isRunning;
  if (fence === 'before') return ({ attempt }) => attempt > 1;
  return fence === 'ended' ? ({ endedMs, node }) => endedMs !== null && node !== null : () => false;
}

/** The attempt of a job as it stands, or one that is not it. */
function fenceOf(scene: Scene, row: JobRow, fence: string) {
  const before = beforeOf(scene, row);
  if (fence === 'before' && before)
    return { jobId: row.id, attempt: before.attempt, node: before.node, session: before.session };
  return {
    jobId: fence === 'job' ? newId(scene, 1) : row.id,
    attempt: Math.max(1, row.attempt + (fence === 'attempt' ? 1 : 0)),
    node: fence === 'node' ? 'node-9' : (row.node ?? 'node-1'),
    session: (row.session ?? 1) + (fence === 'session' ? 1 : 0),
  };
}

/** A draft of this arbitrary's numbers. */
function drafts<T>(name: string, numbers: fc.Arbitrary<T>, prepare: (scene: Scene, of: T) => Step | null) {
  return numbers.map(
    (of): Draft => ({ text: `${name} ${JSON.stringify(of)}`, prepare: (scene) => prepare(scene, of) }),
  );
}

/** A call that is not made where there is nothing to ask for. */
function batch(
  name: keyof Ledger,
  requests: readonly unknown[],
  ask: (of: SimLedger | Ledger) => unknown,
): Step | null {
  return requests.length === 0 ? null : { name, isSet: false, ask };
}

const jobs = fc.record({
  again: fc.array(againArb, { maxLength: 2 }),
  fresh: fc.array(freshArb, { maxLength: 3 }),
});
function requestsOf(scene: Scene, { again, fresh }: { again: readonly Again[]; fresh: readonly Fresh[] }) {
  return distinct([
    ...again.flatMap((one) => againRequest(scene, one)),
    ...fresh.map((one) => freshRequest(scene, one)),
  ]);
}

const lock = drafts('lock', jobs, (scene, of) => {
  const requests = requestsOf(scene, of);
  return batch('lockBatch', requests, (on) => on.lockBatch(requests));
});

const lookUp = drafts('look up', jobs, (scene, of) => {
  const requests = requestsOf(scene, of);
  return batch('lookUpBatch', requests, (on) => on.lookUpBatch(requests));
});

const end = { state: fc.constantFrom('refused', 'expired'), jobs };
const endUnlocked = drafts('end unlocked', fc.record(end), (scene, of) => {
  const { state } = of;
  const code = state === 'refused' ? 'TG_MODEL_UNKNOWN' : 'TG_JOB_EXPIRED';
  const requests = requestsOf(scene, of.jobs).map((one) => endUnlockedRequest(one, { state, code }));
  return batch('endUnlockedBatch', requests, (on) => on.endUnlockedBatch(requests));
});

const resultArb = fc.record({
  back: backArb,
  fence: fenceArb,
  inputPercent: fc.integer({ min: 0, max: 200 }),
  outputPercent: fc.integer({ min: 0, max: 200 }),
  tag: fc.nat({ max: 1 }),
  isCompleted: fc.boolean(),
});
const settle = drafts('settle', fc.array(resultArb, { minLength: 1, maxLength: 3 }), (scene, of) => {
  const requests = of.flatMap(
    ({ back, fence, inputPercent, outputPercent, tag, isCompleted }): SettleRequest[] => {
      const row = pick(scene, back, wantedBy(fence));
      if (row === undefined) return [];
      return [
        {
          ...fenceOf(scene, row, fence),
          status: isCompleted ? 'completed' : 'failed',
          inputTokens: Math.floor((row.inputMax * inputPercent) / 100),
          outputTokens: Math.floor((row.outputMax * outputPercent) / 100),
          digest: hash(`${tag} ${row.id}`),
        },
      ];
    },
  );
  return batch('settleBatch', requests, (on) => on.settleBatch(distinct(requests)));
});

const failureArb = fc.record({
  back: backArb,
  fence: fenceArb,
  isCounted: fc.boolean(),
  delayMs: fc.constantFrom(0, STEP_MS, STEP_MS, 4 * STEP_MS, null),
  tag: fc.constantFrom(null, null, 0, 1, 'again'),
  isOwed: fc.boolean(),
  isLost: fc.boolean(),
});
const giveUp = drafts('give up', fc.array(failureArb, { minLength: 1, maxLength: 3 }), (scene, of) => {
  const requests = of.flatMap(({ back, fence, tag, isLost, ...terms }): GiveUpRequest[] => {
    const row = pick(scene, back, wantedBy(fence));
    if (row === undefined) return [];
    const before = beforeOf(scene, row);
    return [
      {
        ...terms,
        ...fenceOf(scene, row, fence),
        ...(isLost
          ? ({ outcome: 'lost', class: 'node', code: 'TG_WORKER_LOST' } as const)
          : ({ outcome: 'failed', class: 'unknown', code: 'TG_WORKER_ERROR' } as const)),
        digest: tag === 'again' ? (before?.digest ?? null) : tag === null ? null : hash(`${tag} ${row.id}`),
      },
    ];
  });
  return batch('giveUpBatch', requests, (on) => on.giveUpBatch(distinct(requests)));
});

const CONDITIONS = {
  waiting: isWaiting,
  fallback: ({ runVersionId }: JobRow) => runVersionId !== null,
  any: () => false,
} as const;
const placementArb = fc.record({
  back: backArb,
  wanted: fc.constantFrom<keyof typeof CONDITIONS>('waiting', 'waiting', 'waiting', 'fallback', 'any'),
  ahead: fc.constantFrom(0, 0, 0, 1),
  node: fc.integer({ min: 1, max: 3 }),
  version: fc.constantFrom('own', 'own', 'plain', 'odd', 'dear', 'small', 'free', 'unknown'),
});
const place = drafts('place', fc.array(placementArb, { minLength: 1, maxLength: 3 }), (scene, of) => {
  const { plain, odd, dear, small, free } = scene.versions;
  const requests = of.flatMap(({ back, wanted, ahead, node, version }): PlaceRequest[] => {
    const row = pick(scene, back, CONDITIONS[wanted]);
    if (row === undefined) return [];
    const own = row.modelVersionId ?? plain;
    const modelVersionId = { own, plain, odd, dear, small, free, unknown: NO_VERSION }[version];
    const attempt = Math.max(1, row.attempt) + ahead;
    return [
      { jobId: row.id, attempt, node: `node-${node}`, session: 1_700_000_000_000 + node, modelVersionId },
    ];
  });
  return batch('placeBatch', requests, (on) => on.placeBatch(distinct(requests)));
});

const cancellationArb = fc.record({ back: backArb, isOther: fc.constantFrom(false, false, true) });
const cancels = fc.record({
  again: fc.array(cancellationArb, { maxLength: 2 }),
  fresh: fc.array(freshArb, { maxLength: 1 }),
});
const cancel = drafts('cancel', cancels, (scene, { again, fresh }) => {
  const known = again.flatMap(({ back, isOther }) =>
    againRequest(scene, { back, how: isOther ? 'account' : 'same' }),
  );
  const requests = distinct([...known, ...fresh.map((one) => freshRequest(scene, one))]);
  return batch('cancelBatch', requests, (on) => on.cancelBatch(requests));
});

const readRetries = drafts('read retries', fc.constant(null), (scene) => {
  const ids = [...scene.asked.keys()];
  return batch('readRetries', ids, (on) => on.readRetries(ids));
});

const pass = drafts('pass', fc.constantFrom(1, 1, 2, 6, 6), (_, steps) => ({ passMs: steps * STEP_MS }));

const limitArb = fc.constantFrom(1, 2, ALL);
/** Where two would be as good as each other for the last place, PostgreSQL may take either: then all are asked for. */
const untied = (limit: number, keys: readonly unknown[]): number =>
  new Set(keys).size === keys.length ? limit : ALL;
const open = ({ sim }: Scene): JobRow[] => [...sim.jobs.values()].filter(({ state }) => state === 'locked');

const sweep = drafts('sweep', limitArb, (scene, most) => {
  const overdue = open(scene).filter(({ deadlineMs }) => deadlineMs < scene.nowMs());
  const limit = untied(
    most,
    overdue.map(({ deadlineMs }) => deadlineMs),
  );
  return { name: 'sweepOverdue', isSet: true, ask: (on) => on.sweepOverdue(limit) };
});

const claim = drafts('claim', limitArb, (scene, most) => {
  const due = open(scene).filter(({ retryAtMs }) => retryAtMs !== null && retryAtMs < scene.nowMs());
  const isSure = !due.some(({ id }) => scene.claimed.has(id));
  const limit = untied(
    isSure ? most : ALL,
    due.map(({ retryAtMs }) => retryAtMs),
  );
  const ask = (on: SimLedger | Ledger) => {
    const answers = on.claimRetries(limit);
    if (Array.isArray(answers)) for (const { jobId } of answers) scene.claimed.add(jobId);
    return answers;
  };
  return { name: 'claimRetries', isSet: true, ask };
});

const owedReplies = drafts('owed replies', limitArb, (_, limit) => ({
  name: 'owedReplies',
  isSet: true,
  ask: (on) => on.owedReplies(limit),
}));

const owedAttempts = drafts('owed attempts', limitArb, ({ sim }, most) => {
  const limit = untied(
    most,
    sim.attempts.filter(({ isOwed }) => isOwed).map(({ jobId }) => jobId),
  );
  return { name: 'owedAttempts', isSet: true, ask: (on) => on.owedAttempts(limit) };
});

const clearOwed = drafts('clear replies', fc.array(backArb, { maxLength: 3 }), (scene, backs) => {
  const ids = backs.flatMap((back) => pick(scene, back, ({ isReplyOwed }) => isReplyOwed)?.id ?? []);
  return batch('clearOwed', ids, (on) => on.clearOwed(ids));
});

const clearOwedAttempts = drafts('clear attempts', fc.array(backArb, { maxLength: 3 }), ({ sim }, backs) => {
  const named = backs.flatMap((back) => sim.attempts.at(-1 - back) ?? []);
  return batch('clearOwedAttempts', named, (on) => on.clearOwedAttempts(named));
});

const openAttempts = drafts(
  'open',
  fc.record({ back: backArb, limit: limitArb }),
  (scene, { back, limit }) => {
    const after = [...scene.sim.jobs.keys()].at(-1 - back) ?? null;
    return { name: 'openAttempts', isSet: false, ask: (on) => on.openAttempts(after, limit) };
  },
);

/** One call, or time that passes. */
export const callArb: fc.Arbitrary<Draft> = fc.oneof(
  { weight: 6, arbitrary: lock },
  { weight: 6, arbitrary: giveUp },
  { weight: 5, arbitrary: place },
  { weight: 3, arbitrary: settle },
  { weight: 3, arbitrary: pass },
  { weight: 2, arbitrary: cancel },
  { weight: 2, arbitrary: sweep },
  { weight: 2, arbitrary: claim },
  ...[endUnlocked, lookUp, readRetries, owedReplies, owedAttempts, clearOwed, clearOwedAttempts].map(
    (arbitrary) => ({ weight: 1, arbitrary }),
  ),
  { weight: 1, arbitrary: openAttempts },
);
