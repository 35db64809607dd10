import type {
  CancelRequest,
  GiveUpRequest,
  LockRequest,
  PlaceRequest,
  SettleRequest,
} from '../../src/ledger/types.ts';

/**
 * The ledger in plain values: what each function of `sql/` promises, in a few lines, without a database. A function takes the state
 * and the requests of one call, changes the state, and returns the answers in request order, in the short form that
 * `operations.ts` makes of PostgreSQL's.
 */
export interface ModelJob {
  readonly accountId: number;
  /** Null after a cancel that came first: it matches any body. */
  readonly digest: string | null;
  readonly modelVersionId: number;
  readonly lockedMicro: bigint;
  readonly limits: readonly [input: number, output: number];
  state: 'locked' | 'refused' | 'expired' | 'cancelled' | 'succeeded' | 'failed';
  code: string | null;
  /** The fence; attempt 0 never had one. */
  attempt: number;
  node: string | null;
  session: number | null;
  readonly attemptsMax: number;
  /** Attempts given up through no fault of job or node. */
  uncounted: number;
  /** The fallback that runs instead. */
  runVersionId: number | null;
  /** By attempt. */
  readonly givenUp: Map<number, GivenUp>;
  chargedMicro: bigint;
  /** How its lock ended. */
  resolution: 'capture' | 'void' | 'expire' | null;
  resultDigest: string | null;
  replyTo: string | null;
  isReplyOwed: boolean;
  isOverdue: boolean;
}

/** An attempt that was given up for a later one. */
export interface GivenUp {
  readonly node: string;
  readonly session: number;
  readonly outcome: string;
  readonly code: string;
  readonly isCounted: boolean;
  readonly digest: string | null;
  isOwed: boolean;
}

/** A price list entry; a version that was retired has none. */
export interface ModelPrice {
  readonly inputMicro: bigint | null;
  readonly outputMicro: bigint | null;
  readonly isRetired: boolean;
}

/** Everything that the ledger remembers of one run. `creditedMicro` and `capturedMicro` by account. */
export interface LedgerModel {
  readonly prices: ReadonlyMap<number, ModelPrice>;
  readonly credited: Map<number, bigint>;
  readonly captured: Map<number, bigint>;
  readonly jobs: Map<string, ModelJob>;
  readonly topUps: Map<string, { readonly accountId: number; readonly micro: bigint }>;
}

/** `timeout_ms` of every job: a retry that is due after it is none. */
export const TIMEOUT_MS = 60_000;

/** Attempts that may be given up without using up a try: `Config.ledger.uncountedMax` of the tests. */
const UNCOUNTED_MAX = 20;

/** Tokens that any version allows in and out. */
export const TOKENS_MAX = 4_096;

/** A copy that can be changed apart. */
export function copyOf(model: LedgerModel): LedgerModel {
  return structuredClone(model);
}

/** What jobs that are locked hold of an account. */
export function heldMicro({ jobs }: LedgerModel, accountId: number): bigint {
  return [...jobs.values()]
    .filter((job) => job.state === 'locked' && job.accountId === accountId)
    .reduce((sum, job) => sum + job.lockedMicro, 0n);
}

/** What an account may still set aside. */
export function freeMicro(model: LedgerModel, accountId: number): bigint {
  const spent = (model.captured.get(accountId) ?? 0n) + heldMicro(model, accountId);
  return (model.credited.get(accountId) ?? 0n) - spent;
}

/** Tokens at the price of a version, rounded up once. */
export function costMicro(model: LedgerModel, versionId: number, input: number, output: number): bigint {
  const { inputMicro, outputMicro } = model.prices.get(versionId) ?? { inputMicro: 0n, outputMicro: 0n };
  return (BigInt(input) * (inputMicro ?? 0n) + BigInt(output) * (outputMicro ?? 0n) + 999_999n) / 1_000_000n;
}

/** What anybody is told of an id that has a row. */
function existing(job: ModelJob, accountId: number, digest: string): string {
  if (job.accountId !== accountId) return 'conflict account';
  if (job.digest !== null && job.digest !== digest) return 'conflict body';
  return `exists ${job.state} ${job.attempt} ${job.node} ${job.code} ${job.chargedMicro}`;
}

/** A request for a job that has a row: answered, and a locked one replies to the newest address. */
function asked(
  job: ModelJob,
  request: { accountId: number; digest: Buffer; replyTo: string | null },
): string {
  const answer = existing(job, request.accountId, request.digest.toString('hex'));
  if (answer.startsWith('exists') && job.state === 'locked') job.replyTo = request.replyTo;
  return answer;
}

function verdictOf(model: LedgerModel, request: LockRequest, isInWindow: boolean): string {
  const price = model.prices.get(request.modelVersionId);
  if (!isInWindow) return '-TG_JOB_ID_WINDOW';
  if (!model.credited.has(request.accountId)) return '-TG_ACCOUNT_UNKNOWN';
  if (price === undefined || price.isRetired) return 'repriced';
  if (price.inputMicro === null) return 'TG_MODEL_NO_PRICE';
  if (request.inputTokensMax > TOKENS_MAX || request.outputTokensMax > TOKENS_MAX) return 'TG_JOB_LIMITS';
  return 'lock';
}

/** `lock_batch`: each new job of the batch in its order, as long as the credit of its account lasts. */
export function lockBatch(
  model: LedgerModel,
  requests: readonly LockRequest[],
  isInWindow: (id: string) => boolean,
): string[] {
  return requests.map((request) => {
    const known = model.jobs.get(request.jobId);
    if (known !== undefined) return asked(known, request);
    const verdict = verdictOf(model, request, isInWindow(request.jobId));
    if (verdict.startsWith('-')) return `refused ${verdict.slice(1)} unrecorded`;
    if (verdict === 'repriced') return verdict;
    const { accountId, inputTokensMax, outputTokensMax, modelVersionId } = request;
    const amount =
      verdict === 'lock' ? costMicro(model, modelVersionId, inputTokensMax, outputTokensMax) : 0n;
    const code =
      verdict !== 'lock' ? verdict : amount > freeMicro(model, accountId) ? 'TG_CREDIT_INSUFFICIENT' : null;
    model.jobs.set(
      request.jobId,
      code === null ? lockedJob(request, amount) : endedJob(request, 'refused', code),
    );
    return code === null ? `new ${amount}` : `refused ${code} recorded`;
  });
}

function lockedJob(request: LockRequest, lockedMicro: bigint): ModelJob {
  const { node, session, inputTokensMax, outputTokensMax, modelVersionId, attemptsMax } = request;
  const limits = [inputTokensMax, outputTokensMax] as const;
  return {
    ...endedJob(request, 'locked', null),
    lockedMicro,
    limits,
    modelVersionId,
    attemptsMax,
    attempt: 1,
    node,
    session,
  };
}

function endedJob(
  request: { accountId: number; digest: Buffer | null; replyTo: string | null },
  state: ModelJob['state'],
  code: string | null,
): ModelJob {
  return {
    accountId: request.accountId,
    digest: request.digest?.toString('hex') ?? null,
    modelVersionId: 0,
    attemptsMax: 0,
    uncounted: 0,
    runVersionId: null,
    givenUp: new Map(),
    lockedMicro: 0n,
    limits: [0, 0],
    state,
    code,
    attempt: 0,
    node: null,
    session: null,
    chargedMicro: 0n,
    resolution: null,
    resultDigest: null,
    replyTo: request.replyTo,
    isReplyOwed: false,
    isOverdue: false,
  };
}

/** `end_unlocked_batch`: a refusal or an expiry is remembered by whoever comes first. */
export function endUnlockedBatch(
  model: LedgerModel,
  requests: readonly {
    jobId: string;
    accountId: number;
    digest: Buffer;
    replyTo: string | null;
    state: 'refused' | 'expired';
    code: string;
  }[],
  isInWindow: (id: string) => boolean,
): string[] {
  return requests.map((request) => {
    const known = model.jobs.get(request.jobId);
    if (known !== undefined) return asked(known, request);
    if (!isInWindow(request.jobId)) return 'refused TG_JOB_ID_WINDOW unrecorded';
    model.jobs.set(request.jobId, endedJob(request, request.state, request.code));
    return 'recorded';
  });
}

/** `look_up_batch`. */
export function lookUpBatch(
  model: LedgerModel,
  requests: readonly { jobId: string; accountId: number; digest: Buffer }[],
): string[] {
  return requests.map(({ jobId, accountId, digest }) => {
    const job = model.jobs.get(jobId);
    return job === undefined ? 'null' : existing(job, accountId, digest.toString('hex'));
  });
}

type Fence = Pick<SettleRequest, 'attempt' | 'node' | 'session'>;

function fits(job: ModelJob, { attempt, node, session }: Fence): boolean {
  return job.attempt === attempt && job.node === node && job.session === session;
}

/** `settle_batch`: the result of the attempt that runs ends the job, once. */
export function settleBatch(model: LedgerModel, requests: readonly SettleRequest[]): string[] {
  return requests.map((request) => {
    const job = model.jobs.get(request.jobId);
    const digest = request.digest.toString('hex');
    if (job === undefined) return 'unknown';
    if (job.state === 'locked' && fits(job, request)) return `settled ${settled(model, job, request)}`;
    if (request.attempt < job.attempt) return 'late';
    if (!fits(job, request)) return 'stale';
    if (job.resultDigest === null) return 'late';
    return job.resultDigest === digest ? `same ${toldOf(job)}` : 'different';
  });
}

function settled(
  model: LedgerModel,
  job: ModelJob,
  { status, inputTokens, outputTokens, digest }: SettleRequest,
): string {
  const isCompleted = status === 'completed';
  const [inputMax, outputMax] = job.limits;
  const tokens = [Math.min(inputTokens, inputMax), Math.min(outputTokens, outputMax)] as const;
  const cost = isCompleted ? costMicro(model, job.runVersionId ?? job.modelVersionId, ...tokens) : 0n;
  job.chargedMicro = cost < job.lockedMicro ? cost : job.lockedMicro;
  job.state = isCompleted ? 'succeeded' : 'failed';
  job.code = isCompleted ? null : 'TG_WORKER_ERROR';
  job.resolution = isCompleted ? 'capture' : 'void';
  job.resultDigest = digest.toString('hex');
  model.captured.set(job.accountId, (model.captured.get(job.accountId) ?? 0n) + job.chargedMicro);
  return toldOf(job);
}

/** What the caller is told of a job that ended. */
export function toldOf(job: ModelJob): string {
  return `${job.state} ${job.code} ${job.lockedMicro} ${job.chargedMicro} ${job.replyTo}`;
}

/** `give_up_batch`: the next attempt where a try and time are left, else the end of the job; the same again changes nothing. */
export function giveUpBatch(model: LedgerModel, requests: readonly GiveUpRequest[]): string[] {
  return requests.map((request) => {
    const job = model.jobs.get(request.jobId);
    if (job === undefined) return 'unknown';
    if (job.state === 'locked' && fits(job, request)) return givenUp(job, request);
    const digest = request.digest?.toString('hex') ?? null;
    const before = job.givenUp.get(request.attempt);
    const isIt = before?.node === request.node && before.session === request.session;
    if (isIt && before.digest === digest) return `retry again ${request.attempt + 1}`;
    if (request.attempt < job.attempt) return isIt && before.digest !== null ? 'different' : 'late';
    if (!fits(job, request)) return 'stale';
    if (job.resultDigest === null) return 'late';
    return job.resultDigest === digest ? `ended again ${toldOf(job)}` : 'different';
  });
}

function givenUp(job: ModelJob, request: GiveUpRequest): string {
  const { attempt, node, session, outcome, code, isCounted, delayMs, isOwed } = request;
  const digest = request.digest?.toString('hex') ?? null;
  const hasTry = isCounted ? attempt - job.uncounted < job.attemptsMax : job.uncounted < UNCOUNTED_MAX;
  if (delayMs === null || !hasTry || delayMs >= TIMEOUT_MS) {
    Object.assign(job, {
      state: 'failed',
      code,
      resolution: 'void',
      resultDigest: digest,
      isReplyOwed: isOwed,
    });
    return `ended first ${toldOf(job)}`;
  }
  job.givenUp.set(attempt, { node, session, outcome, code, isCounted, digest, isOwed });
  job.uncounted += isCounted ? 0 : 1;
  Object.assign(job, { attempt: attempt + 1, node: null, session: null });
  return `retry first ${attempt + 1}`;
}

/** `place_batch`: an attempt without a node gets one, under the lock that stands. */
export function placeBatch(model: LedgerModel, requests: readonly PlaceRequest[]): string[] {
  return requests.map(({ jobId, attempt, node, session, modelVersionId }) => {
    const job = model.jobs.get(jobId);
    if (job === undefined) return 'null';
    const isWaiting = job.state === 'locked' && job.node === null;
    if (isWaiting && !isPaidBy(model, job, modelVersionId)) return 'unpayable';
    if (!isWaiting || job.attempt !== attempt)
      return `exists ${job.state} ${job.attempt} ${job.node} ${job.code} ${job.chargedMicro}`;
    const runVersionId = modelVersionId === job.modelVersionId ? null : modelVersionId;
    Object.assign(job, { node, session, runVersionId });
    return 'placed';
  });
}

/** Whether a version may run under the lock of a job: its own always, another if its price for the job's limits fits. */
function isPaidBy(
  model: LedgerModel,
  { modelVersionId, limits, lockedMicro }: ModelJob,
  versionId: number,
): boolean {
  const price = model.prices.get(versionId);
  if (versionId === modelVersionId) return true;
  return (
    price !== undefined &&
    !price.isRetired &&
    price.inputMicro !== null &&
    costMicro(model, versionId, ...limits) <= lockedMicro
  );
}

/** `cancel_batch`: ends what is open, remembers what never came. */
export function cancelBatch(
  model: LedgerModel,
  requests: readonly CancelRequest[],
  isInWindow: (id: string) => boolean,
): string[] {
  return requests.map(({ jobId, accountId }) => {
    const job = model.jobs.get(jobId);
    const code = 'TG_JOB_CANCELLED';
    if (job === undefined) {
      if (!isInWindow(jobId)) return 'window';
      model.jobs.set(jobId, endedJob({ accountId, digest: null, replyTo: null }, 'cancelled', code));
      return 'recorded';
    }
    if (job.accountId !== accountId) return 'account';
    if (job.state !== 'locked') return `ended ${job.state}`;
    Object.assign(job, { state: 'cancelled', code, resolution: 'void', isReplyOwed: true });
    return `cancelled ${toldOf(job)}`;
  });
}

/** `owed_attempts`: given up with nobody behind it; with an alarm while the next attempt waits for a node. */
export function owedAttempts({ jobs }: LedgerModel): string[] {
  const owed = [...jobs].flatMap(([id, job]) =>
    [...job.givenUp].flatMap(([attempt, { isOwed, code }]) => {
      const isWaiting = job.state === 'locked' && job.node === null && job.attempt === attempt + 1;
      return isOwed ? [`${id} ${attempt} ${code} ${isWaiting ? 'alarm' : 'no alarm'}`] : [];
    }),
  );
  return owed.toSorted();
}

/** `clear_owed_attempts`. */
export function clearOwedAttempts(
  { jobs }: LedgerModel,
  names: readonly { jobId: string; attempt: number }[],
): void {
  for (const { jobId, attempt } of names) {
    const before = jobs.get(jobId)?.givenUp.get(attempt);
    if (before !== undefined) before.isOwed = false;
  }
}

/** `sweep_overdue`: the ids of those that it ends, sorted. */
export function sweepOverdue(model: LedgerModel): string[] {
  const overdue = [...model.jobs].filter(([, job]) => job.state === 'locked' && job.isOverdue);
  for (const [, job] of overdue)
    Object.assign(job, { state: 'failed', code: 'TG_JOB_OVERDUE', resolution: 'expire', isReplyOwed: true });
  return overdue.map(([id, job]) => `${id} ${toldOf(job)}`).toSorted();
}

/** `owed_replies`: the ids of those whose client has not been told, sorted. */
export function owedReplies(model: LedgerModel): string[] {
  return [...model.jobs]
    .filter(([, job]) => job.isReplyOwed)
    .map(([id, job]) => `${id} ${toldOf(job)}`)
    .toSorted();
}

/** `clear_owed`. */
export function clearOwed(model: LedgerModel, ids: readonly string[]): void {
  for (const id of ids) {
    const job = model.jobs.get(id);
    if (job !== undefined) job.isReplyOwed = false;
  }
}

/** `top_up`: once per id. */
export function topUp(model: LedgerModel, id: string, accountId: number, micro: bigint): string {
  const before = model.topUps.get(id);
  if (before !== undefined && (before.accountId !== accountId || before.micro !== micro))
    return 'TG_ALREADY_EXISTS';
  if (before === undefined) {
    model.topUps.set(id, { accountId, micro });
    model.credited.set(accountId, (model.credited.get(accountId) ?? 0n) + micro);
  }
  return `${before === undefined ? 'new' : 'again'} ${freeMicro(model, accountId)}`;
}
