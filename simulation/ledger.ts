import { type Code, invariant } from '../src/errors.ts';
import { uuidV7TimeMs } from '../src/ids.ts';
import type {
  AttemptName,
  CancelAnswer,
  CancelRequest,
  EndedJob,
  EndUnlockedAnswer,
  EndUnlockedRequest,
  ExistingJob,
  GiveUpAnswer,
  GiveUpRequest,
  GivenUp,
  JobIdentity,
  JobState,
  LockAnswer,
  LockRequest,
  OpenAttempt,
  OwedAttempt,
  PlaceAnswer,
  PlaceRequest,
  RetryAlarm,
  RetryFacts,
  SettleAnswer,
  SettleRequest,
} from '../src/ledger/types.ts';
import type { ModelVersion } from '../src/network/types.ts';

/** A row of `jobs.jobs`. Times are virtual wall-clock milliseconds. */
export interface JobRow {
  readonly id: string;
  readonly accountId: number;
  readonly namespaceId: number;
  readonly digest: Buffer | null;
  readonly priority: 'interactive' | 'batch';
  readonly createdMs: number;
  readonly modelVersionId: number | null;
  readonly inputMax: number;
  readonly outputMax: number;
  readonly timeoutMs: number;
  readonly attemptsMax: number;
  readonly lockedMicro: bigint;
  readonly poolSuffix: string | null;
  readonly deadlineMs: number;
  replyTo: string | null;
  correlationId: string | null;
  state: JobState;
  code: Code | null;
  attempt: number;
  uncounted: number;
  node: string | null;
  session: number | null;
  runVersionId: number | null;
  startByMs: number;
  retryAtMs: number | null;
  chargedMicro: bigint;
  endedMs: number | null;
  isReplyOwed: boolean;
  isOverLimits: boolean;
}

/** A row of `jobs.attempts`. */
interface AttemptRow extends AttemptName {
  readonly outcome: 'failed' | 'lost';
  readonly class: GiveUpRequest['class'];
  readonly code: Code;
  readonly isCounted: boolean;
  readonly digest: Buffer | null;
  readonly endedMs: number;
  isOwed: boolean;
}

/** Counters of one account; free is credited - captured - held. */
export interface AccountRow {
  readonly creditedMicro: bigint;
  heldMicro: bigint;
  capturedMicro: bigint;
}

/** A row of `credits.transfers`. */
export interface Transfer {
  readonly phase: 0 | 1;
  readonly kind: 'lock' | 'capture' | 'void' | 'expire';
  readonly amountMicro: bigint;
  readonly digest: Buffer | null;
}

/** What the ledger is told of the world. */
interface LedgerInput {
  readonly nowMs: () => number;
  readonly models: readonly ModelVersion[];
  readonly namespaces: ReadonlyMap<number, string>;
  readonly credit: ReadonlyMap<number, bigint>;
  readonly bounds: {
    readonly startWindowMs: number;
    readonly deadlineGraceMs: number;
    readonly uncountedMax: number;
  };
}

const WINDOW_BEFORE_MS = 7 * 86_400_000;
const WINDOW_AFTER_MS = 600_000;
const ALARM_GRACE_MS = 2_000;

type Existing = ExistingJob | { kind: 'conflict'; field: 'body' | 'account' };

/**
 * The functions of `sql/` in memory, word for word where money moves: each method is one transaction. It is the model, too: it
 * remembers every transfer, and what it finds broken in itself is an invariant of the simulation.
 */
export class SimLedger {
  readonly jobs = new Map<string, JobRow>();
  readonly attempts: AttemptRow[] = [];
  readonly accounts = new Map<number, AccountRow>();
  readonly transfers = new Map<string, Transfer[]>();
  readonly #input: LedgerInput;

  constructor(input: LedgerInput) {
    this.#input = input;
    for (const [id, creditedMicro] of input.credit)
      this.accounts.set(id, { creditedMicro, heldMicro: 0n, capturedMicro: 0n });
  }

  lockBatch(requests: readonly LockRequest[]): LockAnswer[] {
    return requests.map((request) => {
      const row = this.jobs.get(request.jobId);
      if (row) {
        this.#replaceReply(row, request);
        return this.#existing(row, request);
      }
      if (!this.#isInWindow(request.jobId))
        return { kind: 'refused', code: 'TG_JOB_ID_WINDOW', isRecorded: false };
      const account = this.accounts.get(request.accountId);
      if (!account) return { kind: 'refused', code: 'TG_ACCOUNT_UNKNOWN', isRecorded: false };
      const model = this.#input.models.find(({ id }) => id === request.modelVersionId);
      if (!model) return { kind: 'repriced' };
      const amountMicro = this.#cost(request.modelVersionId, request.inputTokensMax, request.outputTokensMax);
      const freeMicro = account.creditedMicro - account.capturedMicro - account.heldMicro;
      const code = refusalOf(model, request) ?? (amountMicro > freeMicro ? 'TG_CREDIT_INSUFFICIENT' : null);
      this.#insert(request, code === null ? 'locked' : 'refused', code, {
        modelVersionId: request.modelVersionId,
        inputMax: request.inputTokensMax,
        outputMax: request.outputTokensMax,
        timeoutMs: request.timeoutMs,
        attemptsMax: request.attemptsMax,
        poolSuffix: request.poolSuffix ?? null,
        lockedMicro: code === null ? amountMicro : 0n,
        node: code === null ? request.node : null,
        session: code === null ? request.session : null,
      });
      if (code !== null) return { kind: 'refused', code, isRecorded: true };
      account.heldMicro += amountMicro;
      this.#transfer(request.jobId, { phase: 0, kind: 'lock', amountMicro, digest: null });
      const { startWindowMs: startMs } = this.#input.bounds;
      const { node, session, timeoutMs: remainingMs } = request;
      return { kind: 'new', attempt: 1, node, session, startMs, remainingMs, amountMicro };
    });
  }

  lookUpBatch(jobs: readonly Pick<JobIdentity, 'jobId' | 'accountId' | 'digest'>[]): (Existing | null)[] {
    return jobs.map((job) => {
      const row = this.jobs.get(job.jobId);
      return row ? this.#existing(row, job) : null;
    });
  }

  endUnlockedBatch(requests: readonly EndUnlockedRequest[]): EndUnlockedAnswer[] {
    return requests.map((request) => {
      const row = this.jobs.get(request.jobId);
      if (row) {
        this.#replaceReply(row, request);
        return this.#existing(row, request);
      }
      if (!this.#isInWindow(request.jobId))
        return { kind: 'refused', code: 'TG_JOB_ID_WINDOW', isRecorded: false };
      this.#insert(request, request.state, request.code, {});
      return { kind: 'recorded' };
    });
  }

  settleBatch(requests: readonly SettleRequest[]): SettleAnswer[] {
    return requests.map((request) => {
      const row = this.jobs.get(request.jobId);
      if (!row) return { kind: 'unknown' };
      if (row.endedMs === null && this.isFence(row, request)) {
        const isGood = request.status === 'completed';
        const cost = this.#cost(
          row.runVersionId ?? row.modelVersionId,
          Math.min(request.inputTokens, row.inputMax),
          Math.min(request.outputTokens, row.outputMax),
        );
        row.isOverLimits = request.inputTokens > row.inputMax || request.outputTokens > row.outputMax;
        const charge = !isGood ? 0n : cost < row.lockedMicro ? cost : row.lockedMicro;
        this.#end(row, isGood ? 'succeeded' : 'failed', isGood ? null : 'TG_WORKER_ERROR');
        this.#resolve(row, isGood ? 'capture' : 'void', charge, request.digest);
        return { kind: 'settled', job: this.#ended(row), isCapped: row.isOverLimits };
      }
      const namespace = this.#namespace(row);
      const digest = this.transfers.get(row.id)?.find(({ phase }) => phase === 1)?.digest ?? null;
      if (request.attempt < row.attempt) return { kind: 'late', namespace, state: row.state };
      if (!this.isFence(row, request)) return { kind: 'stale', namespace };
      if (digest === null) return { kind: 'late', namespace, state: row.state };
      if (!digest.equals(request.digest)) return { kind: 'different', namespace };
      return { kind: 'same', job: this.#ended(row), isCapped: row.isOverLimits };
    });
  }

  giveUpBatch(requests: readonly GiveUpRequest[]): GiveUpAnswer[] {
    return requests.map((request) => {
      const row = this.jobs.get(request.jobId);
      if (!row) return { kind: 'unknown' };
      if (row.endedMs === null && this.isFence(row, request)) {
        if (this.#mayRetry(row, request)) return this.moveFence(row, request);
        this.#end(row, 'failed', request.code);
        row.isReplyOwed = request.isOwed;
        this.#resolve(row, 'void', 0n, request.digest);
        return { kind: 'ended', isFirst: true, job: this.#ended(row) };
      }
      return this.#gaveUpBefore(row, request);
    });
  }

  /** Attempt n + 1, without a node: from now on results of n are late. */
  moveFence(row: JobRow, request: GiveUpRequest): GiveUpAnswer {
    const { jobId, attempt, node, session, outcome, code, isCounted, digest, isOwed } = request;
    row.attempt += 1;
    if (!isCounted) row.uncounted += 1;
    row.node = null;
    row.session = null;
    row.retryAtMs = this.#input.nowMs() + (request.delayMs ?? 0);
    const before = {
      jobId,
      attempt,
      node,
      session,
      outcome,
      class: request.class,
      code,
      isCounted,
      digest,
      isOwed,
    };
    this.attempts.push({ ...before, endedMs: this.#input.nowMs() });
    return { kind: 'retry', isFirst: true, givenUp: this.#givenUp(row, request) };
  }

  readRetries(jobIds: readonly string[]): (RetryFacts | null)[] {
    return jobIds.map((jobId) => {
      const row = this.jobs.get(jobId);
      if (!row || row.modelVersionId === null) return null;
      const before = this.attempts.filter((one) => one.jobId === jobId);
      const last = before.find(({ attempt }) => attempt === row.attempt - 1);
      return {
        jobId,
        state: row.state,
        attempt: row.attempt,
        node: row.node,
        namespace: this.#namespace(row),
        modelVersionId: row.modelVersionId,
        remainingMs: this.#remainingMs(row),
        tried: [...new Set(before.map(({ node }) => node))].toSorted(),
        last: last ? { class: last.class, code: last.code, node: last.node } : null,
      };
    });
  }

  placeBatch(requests: readonly PlaceRequest[]): PlaceAnswer[] {
    return requests.map(({ jobId, attempt, node, session, modelVersionId }) => {
      const row = this.jobs.get(jobId);
      if (!row) return null;
      const isWaiting = row.endedMs === null && row.node === null;
      if (isWaiting && !this.#isPayable(row, modelVersionId)) return { kind: 'unpayable' };
      const isInTime = this.#input.nowMs() < row.createdMs + row.timeoutMs;
      if (!isWaiting || row.attempt !== attempt || !isInTime)
        return { ...this.#exists(row), modelVersionId: row.runVersionId ?? row.modelVersionId };
      const { startWindowMs: startMs } = this.#input.bounds;
      row.node = node;
      row.session = session;
      row.retryAtMs = null;
      row.runVersionId = modelVersionId === row.modelVersionId ? null : modelVersionId;
      row.startByMs = this.#input.nowMs() + startMs;
      return { kind: 'placed', startMs, remainingMs: this.#remainingMs(row) };
    });
  }

  claimRetries(limit: number): RetryAlarm[] {
    const nowMs = this.#input.nowMs();
    const due = [...this.jobs.values()].filter(
      (row) => row.state === 'locked' && row.retryAtMs !== null && row.retryAtMs < nowMs - ALARM_GRACE_MS,
    );
    const first = due.toSorted((a, b) => (a.retryAtMs ?? 0) - (b.retryAtMs ?? 0)).slice(0, limit);
    return first.map((row) => {
      const before = this.attempts.find((one) => one.jobId === row.id && one.attempt === row.attempt - 1);
      row.retryAtMs = nowMs + Math.max(1_000, nowMs - (before?.endedMs ?? nowMs));
      return this.#alarm(row, 0);
    });
  }

  owedAttempts(limit: number): OwedAttempt[] {
    const owed = this.attempts.filter(({ isOwed }) => isOwed).toSorted((a, b) => order(a.jobId, b.jobId));
    return owed.slice(0, limit).flatMap((one) => {
      const row = this.jobs.get(one.jobId);
      if (!row) return [];
      const { outcome, class: failureClass, code, isCounted, endedMs } = one;
      const givenUp = this.#givenUp(row, one);
      return [{ ...givenUp, outcome, class: failureClass, code, isCounted, endedAtMs: endedMs }];
    });
  }

  clearOwedAttempts(attempts: readonly Pick<AttemptName, 'jobId' | 'attempt'>[]): void {
    for (const { jobId, attempt } of attempts)
      for (const one of this.attempts) if (one.jobId === jobId && one.attempt === attempt) one.isOwed = false;
  }

  cancelBatch(requests: readonly CancelRequest[]): CancelAnswer[] {
    return requests.map((request) => {
      const row = this.jobs.get(request.jobId);
      if (!row) {
        if (!this.#isInWindow(request.jobId)) return { kind: 'window' };
        const identity = {
          ...request,
          digest: null,
          priority: 'interactive',
          replyTo: null,
          correlationId: null,
        } as const;
        this.#insert(identity, 'cancelled', 'TG_JOB_CANCELLED', {});
        return { kind: 'recorded' };
      }
      if (row.accountId !== request.accountId) return { kind: 'account' };
      if (row.endedMs !== null) return { kind: 'ended', state: row.state };
      this.#end(row, 'cancelled', 'TG_JOB_CANCELLED');
      row.isReplyOwed = true;
      this.#resolve(row, 'void', 0n, null);
      return { kind: 'cancelled', job: this.#ended(row) };
    });
  }

  sweepOverdue(limit: number): EndedJob[] {
    const nowMs = this.#input.nowMs();
    const overdue = [...this.jobs.values()].filter((row) => row.state === 'locked' && row.deadlineMs < nowMs);
    const first = overdue.toSorted(byDeadline).slice(0, limit);
    return first.map((row) => {
      this.#end(row, 'failed', 'TG_JOB_OVERDUE');
      row.isReplyOwed = true;
      this.#resolve(row, 'expire', 0n, null);
      return this.#ended(row);
    });
  }

  owedReplies(limit: number): EndedJob[] {
    return [...this.jobs.values()]
      .filter(({ isReplyOwed }) => isReplyOwed)
      .toSorted((a, b) => order(a.id, b.id))
      .slice(0, limit)
      .map((row) => this.#ended(row));
  }

  clearOwed(jobIds: readonly string[]): void {
    for (const id of jobIds) {
      const row = this.jobs.get(id);
      if (row) row.isReplyOwed = false;
    }
  }

  openAttempts(after: string | null, limit: number): OpenAttempt[] {
    const nowMs = this.#input.nowMs();
    const last = after === null ? undefined : this.jobs.get(after);
    // A job that was never locked has no deadline to go on from.
    const isBehind = (row: JobRow) => last === undefined || last.attempt === 0 || byDeadline(row, last) > 0;
    return [...this.jobs.values()]
      .filter((row) => row.state === 'locked' && row.node !== null && isBehind(row))
      .toSorted(byDeadline)
      .slice(0, limit)
      .map((row) => ({
        jobId: row.id,
        attempt: row.attempt,
        node: row.node ?? '',
        session: row.session ?? 0,
        pool: this.#pool(row, row.runVersionId ?? row.modelVersionId),
        deadlineInMs: row.deadlineMs - nowMs,
        startOverMs: nowMs - row.startByMs,
      }));
  }

  /** True if (attempt, node, session) is the one that runs. */
  isFence(row: JobRow, { attempt, node, session }: AttemptName): boolean {
    return row.attempt === attempt && row.node === node && row.session === session;
  }

  #mayRetry(row: JobRow, { delayMs, isCounted }: GiveUpRequest): boolean {
    if (delayMs === null || row.attempt >= 100) return false;
    const hasTry = isCounted
      ? row.attempt - row.uncounted < row.attemptsMax
      : row.uncounted < this.#input.bounds.uncountedMax;
    return hasTry && delayMs < row.createdMs + row.timeoutMs - this.#input.nowMs();
  }

  #gaveUpBefore(row: JobRow, request: GiveUpRequest): GiveUpAnswer {
    const namespace = this.#namespace(row);
    const isSame = (digest: Buffer | null) =>
      digest === null || request.digest === null ? digest === request.digest : digest.equals(request.digest);
    const before = this.attempts.find((one) => one.jobId === row.id && one.attempt === request.attempt);
    const isThis = before?.node === request.node && before.session === request.session;
    if (before && isThis && isSame(before.digest))
      return { kind: 'retry', isFirst: false, givenUp: this.#givenUp(row, request) };
    if (request.attempt < row.attempt)
      return { kind: before && isThis && before.digest !== null ? 'different' : 'late', namespace };
    if (!this.isFence(row, request)) return { kind: 'stale', namespace };
    const digest = this.transfers.get(row.id)?.find(({ phase }) => phase === 1)?.digest ?? null;
    if (digest === null) return { kind: 'late', namespace };
    return isSame(digest)
      ? { kind: 'ended', isFirst: false, job: this.#ended(row) }
      : { kind: 'different', namespace };
  }

  #insert(
    job: Pick<
      JobIdentity,
      'jobId' | 'accountId' | 'namespaceId' | 'priority' | 'replyTo' | 'correlationId'
    > & {
      readonly digest: Buffer | null;
    },
    state: JobState,
    code: Code | null,
    terms: Partial<JobRow>,
  ): void {
    const nowMs = this.#input.nowMs();
    const { startWindowMs, deadlineGraceMs } = this.#input.bounds;
    this.jobs.set(job.jobId, {
      id: job.jobId,
      accountId: job.accountId,
      namespaceId: job.namespaceId,
      digest: job.digest,
      priority: job.priority,
      createdMs: nowMs,
      modelVersionId: null,
      inputMax: 0,
      outputMax: 0,
      timeoutMs: 0,
      attemptsMax: 0,
      lockedMicro: 0n,
      poolSuffix: null,
      deadlineMs: nowMs + startWindowMs + (terms.timeoutMs ?? 0) + deadlineGraceMs,
      replyTo: job.replyTo,
      correlationId: job.correlationId,
      state,
      code,
      attempt: state === 'locked' ? 1 : 0,
      uncounted: 0,
      node: null,
      session: null,
      runVersionId: null,
      startByMs: nowMs + startWindowMs,
      retryAtMs: null,
      chargedMicro: 0n,
      endedMs: state === 'locked' ? null : nowMs,
      isReplyOwed: false,
      isOverLimits: false,
      ...terms,
    });
  }

  #end(row: JobRow, state: JobState, code: Code | null): void {
    row.state = state;
    row.code = code;
    row.endedMs = this.#input.nowMs();
  }

  #resolve(row: JobRow, kind: Transfer['kind'], chargedMicro: bigint, digest: Buffer | null): void {
    const account = this.accounts.get(row.accountId);
    invariant(account !== undefined, `job ${row.id} has no account`);
    account.heldMicro -= row.lockedMicro;
    account.capturedMicro += chargedMicro;
    row.chargedMicro = chargedMicro;
    this.#transfer(row.id, { phase: 1, kind, amountMicro: chargedMicro, digest });
  }

  #transfer(jobId: string, transfer: Transfer): void {
    this.transfers.set(jobId, [...(this.transfers.get(jobId) ?? []), transfer]);
  }

  #replaceReply(row: JobRow, job: JobIdentity): void {
    if (row.endedMs !== null || row.accountId !== job.accountId || row.digest?.equals(job.digest) !== true)
      return;
    row.replyTo = job.replyTo;
    row.correlationId = job.correlationId;
  }

  #existing(row: JobRow, job: Pick<JobIdentity, 'accountId' | 'digest'>): Existing {
    if (row.accountId !== job.accountId) return { kind: 'conflict', field: 'account' };
    if (row.digest !== null && !row.digest.equals(job.digest)) return { kind: 'conflict', field: 'body' };
    return this.#exists(row);
  }

  #exists(row: JobRow): ExistingJob {
    const isOpen = row.endedMs === null;
    return {
      kind: 'exists',
      state: row.state,
      attempt: row.attempt,
      node: row.node,
      session: row.session,
      startMs: isOpen ? Math.max(0, Math.floor(row.startByMs - this.#input.nowMs())) : 0,
      remainingMs: isOpen ? this.#remainingMs(row) : 0,
      modelVersionId: row.modelVersionId,
      chargedMicro: row.chargedMicro,
      code: row.code,
    };
  }

  #ended(row: JobRow): EndedJob {
    const { state, modelVersionId, endedMs } = row;
    invariant(
      state === 'succeeded' || state === 'failed' || state === 'cancelled',
      `job ${row.id} in state ${state} has not ended`,
    );
    invariant(modelVersionId !== null && endedMs !== null, `job ${row.id} was never locked`);
    const { id: jobId, accountId, namespaceId, replyTo, correlationId, code, attempt, node, session } = row;
    return {
      jobId,
      accountId,
      namespaceId,
      replyTo,
      correlationId,
      code,
      attempt,
      node,
      session,
      state,
      namespace: this.#namespace(row),
      publisher: 'web',
      traceparent: null,
      modelVersionId: row.runVersionId ?? modelVersionId,
      lockedMicro: row.lockedMicro,
      chargedMicro: row.chargedMicro,
      endedAtMs: endedMs,
    };
  }

  #givenUp(row: JobRow, name: AttemptName): GivenUp {
    const { jobId, attempt, node, session } = name;
    const isWaiting = row.endedMs === null && row.node === null && row.attempt === attempt + 1;
    const dueMs = Math.max(0, (row.retryAtMs ?? 0) - this.#input.nowMs());
    return {
      jobId,
      attempt,
      node,
      session,
      namespace: this.#namespace(row),
      lockedMicro: row.lockedMicro,
      nextAttempt: attempt + 1,
      alarm: isWaiting ? this.#alarm(row, dueMs) : null,
    };
  }

  #alarm(row: JobRow, delayMs: number): RetryAlarm {
    const pool = this.#pool(row, row.modelVersionId);
    const { id: jobId, attempt, priority } = row;
    return { jobId, attempt, pool, priority, delayMs, remainingMs: this.#remainingMs(row) };
  }

  #remainingMs(row: JobRow): number {
    return Math.max(0, Math.floor(row.createdMs + row.timeoutMs - this.#input.nowMs()));
  }

  #namespace(row: JobRow): string {
    return this.#input.namespaces.get(row.namespaceId) ?? '';
  }

  #pool({ poolSuffix }: JobRow, versionId: number | null): string {
    return this.#model(versionId).model + (poolSuffix ?? '');
  }

  /** Whether the lock of this job pays for a run of this version. */
  #isPayable(row: JobRow, versionId: number): boolean {
    if (versionId === row.modelVersionId) return true;
    const model = this.#input.models.find(({ id }) => id === versionId);
    if (model === undefined) return false;
    const asked = { inputTokensMax: row.inputMax, outputTokensMax: row.outputMax, timeoutMs: 0 };
    return (
      refusalOf(model, asked) === null &&
      this.#cost(versionId, row.inputMax, row.outputMax) <= row.lockedMicro
    );
  }

  #model(versionId: number | null): ModelVersion {
    const model = this.#input.models.find(({ id }) => id === versionId);
    invariant(model !== undefined, `no model version ${versionId}`);
    return model;
  }

  #cost(versionId: number | null, inputTokens: number, outputTokens: number): bigint {
    const { inputPriceMicro, outputPriceMicro } = this.#model(versionId);
    const micro =
      BigInt(inputTokens) * (inputPriceMicro ?? 0n) + BigInt(outputTokens) * (outputPriceMicro ?? 0n);
    return (micro + 999_999n) / 1_000_000n;
  }

  #isInWindow(id: string): boolean {
    const atMs = uuidV7TimeMs(id);
    const nowMs = this.#input.nowMs();
    return atMs >= nowMs - WINDOW_BEFORE_MS && atMs < nowMs + WINDOW_AFTER_MS;
  }
}

/** Why no job like this runs on this version, if none does. */
function refusalOf(
  model: ModelVersion,
  asked: Pick<LockRequest, 'inputTokensMax' | 'outputTokensMax' | 'timeoutMs'>,
): Code | null {
  if (model.inputPriceMicro === null || model.outputPriceMicro === null) return 'TG_MODEL_NO_PRICE';
  const isBeyond =
    asked.inputTokensMax > model.inputTokensMax ||
    asked.outputTokensMax > model.outputTokensMax ||
    asked.timeoutMs > model.timeoutMsMax;
  return isBeyond ? 'TG_JOB_LIMITS' : null;
}

function order(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** The order of the index of open jobs. */
function byDeadline(a: JobRow, b: JobRow): number {
  return a.deadlineMs - b.deadlineMs || order(a.id, b.id);
}
