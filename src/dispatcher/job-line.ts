import type { KeyObject } from 'node:crypto';
import type { Publisher } from '../broker/types.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { StoreError } from '../errors.ts';
import { uuidV7TimeMs } from '../ids.ts';
import type { Attempts, CreditLocks } from '../ledger/types.ts';
import type { Directory, Wanted } from '../network/types.ts';
import type { Log, Metrics, Stage } from '../ops/types.ts';
import type { TraceSink, TraceStore } from '../traces/types.ts';
import type { SlotLeases } from '../workers/types.ts';
import { admitBatch, type DueRetry } from './admission.ts';
import { Batcher } from './batcher.ts';
import { Departures } from './departures.ts';
import { dispatch, type DispatchedBatch } from './dispatch.ts';
import type { FailureOwner } from './failure-owner.ts';
import type { FinishedJob } from './finished.ts';
import { farewell } from './leave.ts';
import { InFlight } from './in-flight.ts';
import type { IntakeLimits } from './intake-limits.ts';
import { leaseOf, lock } from './lock.ts';
import { type Ending, endUnlocked, lookUp } from './look-up.ts';
import type { NodeQueues } from './node-queues.ts';
import { payerOf } from './payer.ts';
import { place } from './place.ts';
import { PriorityQueue } from './priority-queue.ts';
import type { Replier } from './replies.ts';
import { reserve } from './reserve.ts';
import { resume } from './resume.ts';
import { anyLive, type StageRunner } from './stage-runner.ts';
import type { Admitted, Arrival, Dispatched, Exit, Locked, Reserved, Resumed } from './types.ts';
import { boundWaiting } from './waiting-bound.ts';

/** What the line is made of; each part is real in the daemon and may be another in a bench or the simulator. */
export interface JobLineDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly bounds: Config['line'] & Pick<Config['retries'], 'firstTokenMs'>;
  readonly digestKey: KeyObject;
  readonly directory: Directory;
  readonly limits: Pick<IntakeLimits, 'ofPublisher' | 'ofAccount' | 'ofWaiting' | 'countLock'>;
  /** Makes the records of pools; the directory shows them after a refresh. */
  readonly openPools: (wanted: readonly Wanted[]) => Promise<unknown>;
  readonly slots: SlotLeases;
  readonly locks: CreditLocks;
  readonly attempts: Attempts;
  readonly failures: FailureOwner;
  readonly publisher: Publisher;
  readonly nodeQueues: Pick<NodeQueues, 'declareAgain'>;
  readonly traces: TraceSink;
  readonly traceStore: TraceStore;
  readonly replier: Replier;
  readonly stages: StageRunner;
}

/** Pause before an unconfirmed dispatch is sent again, in milliseconds; its start window bounds how often. */
const RESEND_MS = 100;

/** A batch on its way: what came, what has left so far, and what only waits for the answer it had before. */
interface Batch {
  /** Without those that are turned away: they are answered apart. Written by the stage that admits only. */
  arrivals: readonly Arrival[];
  readonly exits: Exit[];
  readonly finished: FinishedJob[];
}

/**
 * The way out: from a delivered job to a dispatched one. `#stages` is the whole story, read it first.
 *
 * Money is safe because of the order alone: nothing is dispatched before its credit lock has committed, and nothing is
 * acknowledged before its dispatch is confirmed and its trace is durable. Whatever breaks in between, the broker delivers the
 * job again and every stage recognises it by its id. Source: design [1]–[4].
 */
export class JobLine {
  readonly #deps: JobLineDeps;
  readonly #waiting: PriorityQueue<Arrival>;
  readonly #batcher: Batcher<Arrival>;
  readonly #departures: Departures;
  readonly #inFlight = new InFlight();
  readonly #timers = new Set<CancelTimer>();
  #isOpen = true;

  constructor(deps: JobLineDeps) {
    this.#deps = deps;
    this.#waiting = new PriorityQueue(deps.bounds.batchShare, payerOf);
    this.#batcher = new Batcher(
      deps.clock,
      deps.bounds,
      (countMax) => this.#waiting.take(countMax),
      (arrivals) => this.#run(arrivals),
    );
    this.#departures = new Departures(deps, {
      acknowledge: (arrival) => this.#answer(arrival, 'acknowledge'),
      part: (exit) => this.#part(exit),
      handBack: (arrivals, error) => this.#handBack(arrivals, error),
    });
  }

  /** Jobs delivered and not yet in a batch. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Jobs inside a batch, or whose dispatch waits to be sent again. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Takes a delivery. Its consumer's prefetch bounds what waits here. */
  offer(arrival: Arrival): void {
    if (!this.#isOpen) return this.#answer(arrival, 'requeue');
    this.#waiting.push(arrival);
    this.#batcher.nudge();
  }

  /** Puts in front those that were held for a slot, in their order. */
  offerAgain(arrivals: readonly Arrival[]): void {
    if (!this.#isOpen) return arrivals.forEach((arrival) => this.#answer(arrival, 'requeue'));
    this.#waiting.pushFirst(arrivals);
    this.#batcher.nudge();
  }

  /** Begins no new batch, hands back what has not begun, and resolves when the batches under way have ended. */
  async stop(): Promise<void> {
    this.#isOpen = false;
    for (const cancel of this.#timers) cancel();
    for (const arrival of this.#waiting.take(this.#waiting.size)) this.#answer(arrival, 'requeue');
    await this.#batcher.close();
    await this.#departures.close();
    for (const arrival of this.#inFlight.drain()) this.#answer(arrival, 'requeue');
  }

  /**
   * The stages. Each takes what the one before let through; what leaves on the way is gathered in `batch.exits`. With the
   * dispatch confirmed the batch makes room for the next: its end, in `#run`, goes on beside it.
   */
  async #stages(batch: Batch): Promise<readonly Dispatched[]> {
    const { jobs, due, endings } = await this.#admit(batch); //     bytes → a job that may ask for money, or a later attempt
    const { fresh, again } = await this.#lookUp(batch, jobs, endings); // came before? then the first answer holds
    const resumed = await this.#resume(batch, due); //              a later attempt: its row and its input
    const reserved = await this.#reserve(batch, [...fresh, ...resumed]); // one slot each (Redis)
    const locked = await this.#lock(batch, reserved); //            COMMIT: credit locks, or places under them (PostgreSQL)
    return this.#dispatch(batch, [...again, ...locked]); //         to the node's queue, confirmed (RabbitMQ)
  }

  async #run(arrivals: readonly Arrival[]): Promise<void> {
    const batch: Batch = { arrivals, exits: [], finished: [] };
    try {
      const sent = await this.#stages(batch);
      await this.#departures.take(sent, batch.exits, batch.finished); // reply to those that left; trace, acknowledge
    } catch (error) {
      this.#handBack(batch.arrivals, error);
    }
  }

  async #admit(batch: Batch): Promise<{
    jobs: readonly Admitted[];
    due: readonly DueRetry[];
    endings: ReadonlyMap<Ending, Exit>;
  }> {
    const admit = async () => admitBatch(batch.arrivals, this.#deps);
    const admitted = await this.#call(batch, 'admit', batch.arrivals.length, admit);
    const turnedAway = admitted.off.filter(({ outcome }) => outcome.kind === 'limited');
    if (turnedAway.length > 0) {
      const away = new Set(turnedAway.map(({ arrival }) => arrival));
      batch.arrivals = batch.arrivals.filter((arrival) => !away.has(arrival));
      this.#departures.turnAway(turnedAway);
    }
    batch.exits.push(...admitted.off.filter(({ outcome }) => outcome.kind !== 'limited'));
    if (admitted.unsure.length > 0) void this.#refreshFor(admitted.unsure, admitted.unopened);
    return {
      jobs: admitted.on.filter((one) => this.#inFlight.claim(one.arrival)),
      due: admitted.due.filter((one) => this.#inFlight.claim(one.arrival)),
      endings: new Map([...admitted.endings].filter(([one]) => this.#inFlight.claim(one.known.arrival))),
    };
  }

  async #lookUp(
    batch: Batch,
    jobs: readonly Admitted[],
    endings: ReadonlyMap<Ending, Exit>,
  ): Promise<{ fresh: readonly Admitted[]; again: readonly Locked[] }> {
    const hasBefore = jobs.some((one) => one.arrival.delivery.redelivered);
    if (!hasBefore && endings.size === 0) return { fresh: jobs, again: [] };
    const found = await this.#call(batch, 'lock', jobs.length, () => lookUp(jobs, this.#deps));
    const ended = await this.#call(batch, 'lock', endings.size, () => endUnlocked(endings, this.#deps));
    batch.exits.push(...found.off, ...ended.off);
    batch.finished.push(...found.finished, ...ended.finished);
    return { fresh: found.fresh, again: [...found.again, ...ended.again] };
  }

  async #resume(batch: Batch, due: readonly DueRetry[]): Promise<readonly Resumed[]> {
    if (due.length === 0) return [];
    const split = await this.#call(batch, 'lock', due.length, () => resume(due, this.#deps));
    batch.exits.push(...split.off);
    return split.on;
  }

  async #reserve(batch: Batch, attempts: readonly (Admitted | Resumed)[]): Promise<readonly Reserved[]> {
    if (attempts.length === 0) return [];
    const split = await this.#call(batch, 'reserve', attempts.length, () => reserve(attempts, this.#deps));
    batch.exits.push(...boundWaiting(split.off, this.#deps));
    return split.on;
  }

  async #lock(batch: Batch, reserved: readonly Reserved[]): Promise<readonly Locked[]> {
    if (reserved.length === 0) return [];
    const first = reserved.filter((one): one is Reserved<Admitted> => one.admitted.resumed === null);
    const later = reserved.filter((one): one is Reserved<Resumed> => one.admitted.resumed !== null);
    try {
      return [...(await this.#lockFirst(batch, first)), ...(await this.#placeLater(batch, later))];
    } catch (error) {
      // Whether the locks committed is unknown; the redelivery looks them up. Slots are only advice, so they go back now.
      await this.#deps.failures.release(reserved.filter((one) => one.isTaken).map(leaseOf));
      throw error;
    }
  }

  async #lockFirst(batch: Batch, first: readonly Reserved<Admitted>[]): Promise<readonly Locked[]> {
    if (first.length === 0) return [];
    const locked = await this.#call(batch, 'lock', first.length, () => lock(first, this.#deps));
    batch.exits.push(...locked.off);
    batch.finished.push(...locked.finished);
    for (const accountId of locked.newOf) this.#deps.limits.countLock(accountId, 1);
    await this.#deps.failures.release(locked.give);
    if (locked.repriced.length > 0) await this.#admitAgain(locked.repriced);
    return locked.on;
  }

  async #placeLater(batch: Batch, later: readonly Reserved<Resumed>[]): Promise<readonly Locked[]> {
    if (later.length === 0) return [];
    const placed = await this.#call(batch, 'lock', later.length, () => place(later, this.#deps));
    batch.exits.push(...placed.off);
    await this.#deps.failures.release(placed.give);
    return placed.on;
  }

  async #dispatch(batch: Batch, locked: readonly Locked[]): Promise<readonly Dispatched[]> {
    if (locked.length === 0) return [];
    const { publisher, clock, bounds } = this.#deps;
    const sent = await this.#call(batch, 'dispatch', locked.length, () =>
      dispatch(locked, { publisher, clock, firstTokenMs: bounds.firstTokenMs }),
    );
    if (sent.failed.length > 0) batch.exits.push(...(await this.#giveUp(batch, sent.failed)));
    for (const one of sent.again) this.#dispatchAgain(one);
    for (const one of sent.on) this.#countDispatch(one);
    return sent.on;
  }

  /** Answers the broker for one that left, and frees its id. */
  #part(exit: Exit): void {
    const { arrival, outcome } = exit;
    const goodbye = farewell(exit);
    switch (goodbye) {
      case 'acknowledge':
      case 'requeue':
        return this.#answer(arrival, goodbye);
      case 'hold':
        this.#free(arrival);
        return arrival.room.hold(arrival);
      case 'ask_again':
        this.#free(arrival);
        arrival.asked += 1;
        return this.#after(outcome.kind === 'later' ? outcome.delayMs : 0, () => this.offer(arrival));
    }
  }

  /** A server stayed away: the broker keeps these jobs, and brings them again marked as redelivered. */
  #handBack(arrivals: readonly Arrival[], error: unknown): void {
    if (!(error instanceof StoreError)) throw error;
    this.#deps.log.warn(
      { jobs: arrivals.length, store: error.store, reason: error.message },
      'batch handed back',
    );
    for (const arrival of arrivals.filter((one) => !this.#inFlight.isParked(one))) {
      this.#answer(arrival, 'requeue');
    }
  }

  /** Answers the broker and frees the id. The only place that does either at the end of a job. */
  #answer(arrival: Arrival, how: 'acknowledge' | 'requeue'): void {
    arrival.delivery[how]();
    arrival.room.left(arrival);
    this.#free(arrival);
  }

  /**
   * The node has no queue, or no room in it: the attempt is given up. Its row owes what follows: were the answer to this call lost,
   * the next try would find the fence moved and nobody would know by whom.
   */
  async #giveUp(batch: Batch, failed: DispatchedBatch['failed']): Promise<Exit[]> {
    for (const { locked, why } of failed)
      if (why === 'returned') this.#deps.nodeQueues.declareAgain(locked.node);
    const attempts = failed.map(({ locked, why }) => ({
      jobId: locked.admitted.jobId,
      attempt: locked.attempt,
      node: locked.node,
      session: locked.session,
      failure: { kind: why },
      digest: null,
    }));
    await this.#call(batch, 'lock', attempts.length, () => this.#deps.failures.decide(attempts, true));
    await this.#deps.failures.release(attempts);
    return failed.map(({ locked }) => ({
      arrival: locked.admitted.arrival,
      outcome: { kind: 'given_up', locked },
    }));
  }

  /** Sends the same attempt again a little later, apart from its batch, until its start window closes. */
  #dispatchAgain(one: Locked): void {
    const { arrival } = one.admitted;
    if (!arrival.delivery.isLive) return this.#answer(arrival, 'requeue');
    this.#after(RESEND_MS, () => {
      const batch: Batch = { arrivals: [arrival], exits: [], finished: [] };
      this.#dispatch(batch, [one])
        .then((sent) => this.#departures.take(sent, batch.exits, batch.finished))
        .catch((error: unknown) => this.#handBack([arrival], error));
    });
  }

  /**
   * Opens the pools that are wanted and reads the directory again for names it does not know, apart from the batch, then lets those
   * jobs in once more.
   */
  async #refreshFor(unsure: readonly Arrival[], unopened: readonly Wanted[]): Promise<void> {
    try {
      if (unopened.length > 0) await this.#deps.openPools(unopened);
      await this.#deps.directory.refresh();
      for (const arrival of unsure) arrival.isRefreshed = true;
      this.offerAgain(unsure);
    } catch (error) {
      // Not at once: they would be back in a moment, with PostgreSQL still away.
      this.#after(this.#deps.bounds.stageRetryDelayMsMax, () => this.#handBack(unsure, error));
    }
  }

  /** The price moved between admit and lock: a fresh directory, then from the start. */
  async #admitAgain(repriced: readonly Reserved<Admitted>[]): Promise<void> {
    await this.#deps.directory.refresh();
    for (const { admitted } of repriced) {
      this.#free(admitted.arrival);
      this.#after(RESEND_MS, () => this.offer(admitted.arrival));
    }
  }

  #call<T>(batch: Batch, stage: Stage, jobs: number, call: () => Promise<T>): Promise<T> {
    return this.#deps.stages.run(stage, jobs, () => anyLive(batch.arrivals), call);
  }

  #free(arrival: Arrival): void {
    const twins = this.#inFlight.free(arrival);
    if (twins.length > 0) this.offerAgain(twins);
  }

  #after(delayMs: number, call: () => void): void {
    const cancel = this.#deps.clock.after(delayMs, () => {
      this.#timers.delete(cancel);
      call();
    });
    this.#timers.add(cancel);
  }

  #countDispatch({ locked, dispatchMs }: Dispatched): void {
    if (dispatchMs === null) return;
    const { jobId, resumed } = locked.admitted;
    // A later attempt did not wait in the queue since its job was made.
    const waitMs = resumed === null ? this.#deps.clock.nowMs() - uuidV7TimeMs(jobId) : dispatchMs;
    this.#deps.metrics.dispatched(Math.max(0, waitMs), dispatchMs);
  }
}
