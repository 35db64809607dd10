import type { CancelTimer, Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { StoreError } from '../errors.ts';
import type { EndedJob, OpenAttempt, Sweeps as LedgerSweeps } from '../ledger/types.ts';
import type { Directory } from '../network/types.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { TraceSink } from '../traces/types.ts';
import type { FleetRegistry, LeaseUpkeep, SessionLookup } from '../workers/types.ts';
import { endedWithoutResult } from './documents.ts';
import { type FailureOwner, hasWorker } from './failure-owner.ts';
import type { Failure } from './failure-policy.ts';
import { addressed, failureReply, type Replier } from './replies.ts';
import { NO_DOCUMENTS, writeDocuments } from './trace.ts';

/** What the sweeps touch. */
export interface SweepsDeps {
  readonly ledger: LedgerSweeps;
  readonly failures: FailureOwner;
  readonly registry: FleetRegistry;
  readonly directory: Pick<Directory, 'node'>;
  /** True while this coordinator hears the workers and their results: silence means something only then. */
  readonly isListening: () => boolean;
  readonly leases: Pick<LeaseUpkeep, 'expireLeases' | 'rebuild' | 'open' | 'progress'>;
  readonly traces: TraceSink;
  readonly replier: Replier;
  readonly bounds: Config['sweeps'] &
    Pick<Config['fleet'], 'lostAfterMs' | 'heartbeatMs'> &
    Pick<Config['retries'], 'firstTokenMs'> &
    Pick<Config['ledger'], 'startWindowMs'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Walks over the open attempts per `lostAfterMs`, unless a lost worker asks for one at once. */
const WALKS_PER_LIMIT = 3;

/**
 * Periodic repair, the same on every coordinator and safe on several at once, because each step is guarded by state and attempt
 * in PostgreSQL: overdue jobs, attempts of lost or idle workers and of nodes whose drain is over, what rows owe, alarms that may
 * be lost, leases past their end, slots of an emptied Redis. What a sweep finds failed it hands to the owner of failure. Source: design [10], [15], [24].
 */
export class Sweeps implements Service {
  readonly #deps: SweepsDeps;
  /** Sessions that no live worker stands behind, and since when (monotonic): a goodbye leaves results on their way. */
  readonly #missingSince = new Map<string, number>();
  #timer: CancelTimer | null = null;
  #running: Promise<void> | null = null;
  /** Monotonic time of the last walk over all open attempts, and how many there were. */
  #walkedMs = Number.NEGATIVE_INFINITY;
  #openAttemptsSeen = 0;
  /** Monotonic time since which this coordinator has heard workers and their results without a break. */
  #hearingSinceMs: number | null = null;
  /** How far the open job with the oldest deadline was past it, as of the last walk. */
  #overdueMs = 0;
  /** Monotonic time at which a step of a sweep or a page of a walk last ended. */
  #movedMs = 0;

  constructor(deps: SweepsDeps) {
    this.#deps = deps;
  }

  async start(): Promise<void> {
    this.#movedMs = this.#deps.clock.monotonicMs();
    this.#timer = this.#deps.clock.every(this.#deps.bounds.everyMs, () => this.#tick());
    // At once, because a Redis that is new gives no slots before the first.
    this.#tick();
  }

  async stop(): Promise<void> {
    this.#timer?.();
    this.#timer = null;
    await this.#running;
  }

  /** Locked jobs, as of the last walk. */
  get openAttempts(): number {
    return this.#openAttemptsSeen;
  }

  /** How far the most overdue open job is past its deadline, in milliseconds, as of the last walk; 0 if none is. */
  get overdueMs(): number {
    return this.#overdueMs;
  }

  /** Milliseconds since a step ended, also one that found a server away; 0 while nothing is swept. */
  stillMs(): number {
    return this.#timer === null ? 0 : this.#deps.clock.monotonicMs() - this.#movedMs;
  }

  /** Runs every sweep once; for tests and for the end of a drain. */
  async sweepOnce(): Promise<void> {
    this.#hearingSinceMs = this.#deps.isListening()
      ? (this.#hearingSinceMs ?? this.#deps.clock.monotonicMs())
      : null;
    await this.#step('rebuild', () => this.#rebuild());
    await this.#step('lost', () => this.#endLost());
    await this.#step('overdue', () => this.#endOverdue());
    await this.#step('owed', () => this.#payReplies());
    await this.#step('owed attempts', () => this.#deps.failures.payOwed(this.#deps.bounds.batchJobsMax));
    await this.#step('alarms', () => this.#deps.failures.ringOverdue(this.#deps.bounds.batchJobsMax));
    await this.#step('leases', async () => {
      await this.#deps.leases.expireLeases(this.#deps.bounds.batchJobsMax);
    });
  }

  #tick(): void {
    if (this.#running) return;
    this.#running = this.sweepOnce().finally(() => {
      this.#running = null;
    });
  }

  /** A server that is away only puts this step off. */
  async #step(name: string, step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#deps.log.debug({ sweep: name, reason: error.message }, 'sweep put off');
    }
    this.#movedMs = this.#deps.clock.monotonicMs();
  }

  /**
   * A cell that is not open is new or was emptied, perhaps again while it warms: the leases of running attempts come back from
   * PostgreSQL before it gives a slot to a new job.
   */
  async #rebuild(): Promise<void> {
    const { registry, leases } = this.#deps;
    const shut = new Map<number, number>();
    for (const [cell, standing] of (await registry.cells()).entries())
      if (standing.state !== 'away' && !standing.isOpen) shut.set(cell, standing.epochMs);
    if (shut.size === 0) return;
    for await (const page of this.#walk())
      await leases.rebuild(page.filter(({ node }) => shut.has(registry.cellOf(node))));
    for (const [cell, epochMs] of shut) await leases.open(cell, epochMs);
  }

  /**
   * Gives up the attempts of sessions that the registry gives up: silent, replaced, or gone with leases left. A slow walk besides
   * finds attempts of sessions that nobody remembers any more, and those that live workers do not get on with.
   */
  async #endLost(): Promise<void> {
    const { registry, bounds, clock } = this.#deps;
    const lost = await registry.takeLost();
    const isDue = clock.monotonicMs() - this.#walkedMs > bounds.lostAfterMs / WALKS_PER_LIMIT;
    if (lost.length === 0 && !isDue) return;
    this.#walkedMs = clock.monotonicMs();
    const gone = new Set(lost.map(sessionKey));
    const missing = new Set<string>();
    let open = 0;
    for await (const page of this.#walk()) {
      open += page.length;
      const lookUp = await this.#sessions(page);
      const alive: OpenAttempt[] = [];
      for (const attempt of page) {
        const standing = lookUp(attempt.node, attempt.session);
        if (standing === 'live') alive.push(attempt);
        if (standing === 'missing') missing.add(sessionKey(attempt));
      }
      const orphans = page.filter(
        (attempt) => gone.has(sessionKey(attempt)) || this.#isForgotten(attempt, missing),
      );
      await this.#giveUp(orphans, { kind: 'worker_lost' });
      const standing = alive.filter((attempt) => !gone.has(sessionKey(attempt)));
      const [drained, held] = this.#byDrain(standing);
      await this.#giveUp(drained, { kind: 'drained' });
      await this.#deps.failures.tellWorkers(drained);
      await this.#giveUpIdle(held);
    }
    this.#openAttemptsSeen = open;
    for (const key of this.#missingSince.keys()) if (!missing.has(key)) this.#missingSince.delete(key);
    for (const { node, session } of lost) {
      this.#deps.failures.noteLost({ node, session });
      await registry.forget(node, session);
    }
  }

  /** Those of nodes that should have been empty by now, and the others. */
  #byDrain(attempts: readonly OpenAttempt[]): [drained: OpenAttempt[], held: OpenAttempt[]] {
    const nowMs = this.#deps.clock.monotonicMs();
    const [drained, held]: [OpenAttempt[], OpenAttempt[]] = [[], []];
    for (const attempt of attempts) {
      const drainByMs = this.#deps.directory.node(attempt.node)?.drainByMs ?? Number.POSITIVE_INFINITY;
      (drainByMs <= nowMs ? drained : held).push(attempt);
    }
    return [drained, held];
  }

  /**
   * Attempts of live workers that no heartbeat has named though their start window is over, or that give no token for too long. Two
   * heartbeats are allowed for what is on its way: the worker's word, or its result. What was placed before we began to hear without a
   * break may have been lost with the broker's memory, and is nobody's fault.
   */
  async #giveUpIdle(alive: readonly OpenAttempt[]): Promise<void> {
    const { leases, bounds, clock } = this.#deps;
    if (this.#hearingSinceMs === null) return;
    const heardMs = clock.monotonicMs() - this.#hearingSinceMs;
    if (heardMs < bounds.lostAfterMs) return;
    const late = alive.filter(({ startOverMs }) => startOverMs > 2 * bounds.heartbeatMs);
    if (late.length === 0) return;
    const progress = await leases.progress(late);
    const isSlow = ({ startOverMs }: OpenAttempt) =>
      startOverMs > bounds.firstTokenMs + 2 * bounds.heartbeatMs;
    const unseen = late.filter((_, i) => progress[i] === 'unseen');
    const isOlderThanHearing = ({ startOverMs }: OpenAttempt) => startOverMs + bounds.startWindowMs > heardMs;
    await this.#giveUp(unseen.filter(isOlderThanHearing), { kind: 'undelivered' });
    await this.#giveUp(
      unseen.filter((one) => !isOlderThanHearing(one)),
      { kind: 'not_started' },
    );
    const slow = late.filter((one, i) => progress[i] === 'begun' && isSlow(one));
    await this.#giveUp(slow, { kind: 'no_first_token' });
    await this.#deps.failures.tellWorkers(slow);
  }

  /** Silence means nothing while nobody listens. */
  async #sessions(attempts: readonly OpenAttempt[]): Promise<SessionLookup> {
    const { registry, isListening } = this.#deps;
    return isListening() ? await registry.sessions(attempts.map(({ node }) => node)) : () => 'unknown';
  }

  /** True once a session has been missing for `lostAfterMs`: a goodbye leaves results on their way. */
  #isForgotten(attempt: OpenAttempt, missing: ReadonlySet<string>): boolean {
    const key = sessionKey(attempt);
    if (!missing.has(key)) return false;
    const nowMs = this.#deps.clock.monotonicMs();
    const sinceMs = this.#missingSince.get(key) ?? nowMs;
    this.#missingSince.set(key, sinceMs);
    return nowMs - sinceMs > this.#deps.bounds.lostAfterMs;
  }

  async #giveUp(attempts: readonly OpenAttempt[], failure: Failure): Promise<void> {
    if (attempts.length === 0) return;
    await this.#deps.failures.decide(
      attempts.map(({ jobId, attempt, node, session }) => ({
        jobId,
        attempt,
        node,
        session,
        failure,
        digest: null,
      })),
      true,
    );
    this.#deps.log.warn({ attempts: attempts.length, failure: failure.kind }, 'attempts given up');
  }

  async #endOverdue(): Promise<void> {
    const { batchJobsMax } = this.#deps.bounds;
    const ended = await this.#deps.ledger.sweepOverdue(batchJobsMax);
    if (ended.length > 0) this.#deps.log.warn({ jobs: ended.length }, 'overdue jobs ended');
    for (let i = 0; i < ended.length; i++) this.#deps.metrics.ended('failed');
  }

  /** Reply, slot, trace, then the mark is cleared: a crash in between does it again. */
  async #payReplies(): Promise<void> {
    const { ledger, replier, failures, traces, log, bounds } = this.#deps;
    const owed = await ledger.owedReplies(bounds.batchJobsMax);
    if (owed.length === 0) return;
    const replies = owed.map(replyOf);
    const sent = await replier.send(replies.filter((reply) => reply !== null));
    if (sent.includes(false)) return;
    const last = owed.filter(hasWorker);
    // Without Redis slots come free when their leases end: no reason to pay a reply again with every sweep until it is back.
    await failures.release(last);
    await writeDocuments({ ...NO_DOCUMENTS, attempts: owed.map(endedWithoutResult) }, traces, log);
    await ledger.clearOwed(owed.map((job) => job.jobId));
  }

  async *#walk(): AsyncGenerator<readonly OpenAttempt[]> {
    const { ledger, bounds } = this.#deps;
    for (let after: string | null = null; ; ) {
      const page: readonly OpenAttempt[] = await ledger.openAttempts(after, bounds.batchJobsMax);
      // Pages come in the order of deadlines.
      if (after === null) this.#overdueMs = Math.max(0, -(page[0]?.deadlineInMs ?? 0));
      this.#movedMs = this.#deps.clock.monotonicMs();
      if (page.length > 0) yield page;
      after = page.at(-1)?.jobId ?? null;
      if (page.length < bounds.batchJobsMax) return;
    }
  }
}

function sessionKey({ node, session }: { node: string; session: number }): string {
  return `${node}#${session}`;
}

function replyOf(job: EndedJob) {
  return addressed(job, failureReply(job.jobId, job.state, job.code ?? 'TG_JOB_OVERDUE'));
}
