import type { Publisher } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { StoreError } from '../errors.ts';
import { uuidV7TimeMs } from '../ids.ts';
import type { CreditLocks } from '../ledger/types.ts';
import type { Directory } from '../network/types.ts';
import type { Log, Metrics } from '../ops/types.ts';
import type { TraceSink, TraceStore } from '../traces/types.ts';
import type { LeaseName, SlotLeases } from '../workers/types.ts';
import { admitBatch } from './admission.ts';
import { Batcher } from './batcher.ts';
import { dispatch } from './dispatch.ts';
import { buryDead, countExits, farewell, replyToExits, traceBatch } from './leave.ts';
import { lock, leaseOf } from './lock.ts';
import { endUnlocked, lookUp } from './look-up.ts';
import { PriorityQueue } from './priority-queue.ts';
import type { Replier } from './replies.ts';
import { reserve } from './reserve.ts';
import { anyLive, type StageRunner } from './stage-runner.ts';
import type { Admitted, Arrival, Dispatched, Exit, Locked, Reserved } from './types.ts';

/** What the line is made of; each part is real in the daemon and may be another in a bench or the simulator. */
export interface JobLineDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly bounds: Config['line'];
  readonly digestKey: Buffer;
  readonly directory: Directory;
  readonly slots: SlotLeases;
  readonly locks: CreditLocks;
  readonly publisher: Publisher;
  readonly traces: TraceSink;
  readonly traceStore: TraceStore;
  readonly replier: Replier;
  readonly stages: StageRunner;
}

/** Pause before a nacked or unconfirmed dispatch is sent again, in milliseconds; its start window bounds how often. */
const RESEND_MS = 100;

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
  /** Ids between admit and their last stage: a second delivery of one waits in `#twins` until the first is through. */
  readonly #inFlight = new Set<string>();
  readonly #twins = new Map<string, Arrival[]>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #isOpen = true;

  constructor(deps: JobLineDeps) {
    this.#deps = deps;
    this.#waiting = new PriorityQueue(deps.bounds.batchShare);
    this.#batcher = new Batcher(
      deps.bounds,
      (countMax) => this.#waiting.take(countMax),
      (batch) => this.#run(batch),
    );
  }

  /** Jobs delivered and not yet in a batch. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Jobs inside a batch, or waiting for a confirm to be asked for again. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Takes a delivery. Its prefetch is the bound of what waits here. */
  offer(arrival: Arrival): void {
    if (!this.#isOpen) return arrival.delivery.requeue();
    this.#waiting.push(arrival);
    this.#batcher.nudge();
  }

  /** Puts back in front those that were held for a slot. */
  offerAgain(arrivals: readonly Arrival[]): void {
    if (!this.#isOpen) return arrivals.forEach((arrival) => arrival.delivery.requeue());
    this.#waiting.putBack(arrivals);
    this.#batcher.nudge();
  }

  /** Begins no new batch, hands back what has not begun, and resolves when the batches under way have ended. */
  async stop(): Promise<void> {
    this.#isOpen = false;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const arrival of this.#waiting.take(this.#waiting.size)) arrival.delivery.requeue();
    await this.#batcher.close();
    for (const twins of this.#twins.values()) for (const twin of twins) twin.delivery.requeue();
  }

  /** The stages. Each takes what the one before let through; what leaves on the way is gathered in `exits`. */
  async #stages(arrivals: readonly Arrival[], exits: Exit[]): Promise<void> {
    const admitted = await this.#admit(arrivals, exits); //              bytes → a job that may ask for money
    const looked = await this.#lookUp(admitted, exits); //               delivered before? then obey the first answer
    const reserved = await this.#reserve(looked.fresh, exits); //        one slot each (Redis)
    const locked = await this.#lock(reserved, exits); //                 COMMIT of the credit locks (PostgreSQL)
    const sent = await this.#dispatch([...looked.again, ...locked], exits); // to the node's queue, confirmed (RabbitMQ)
    await this.#finish(sent, exits); //                                  reply to those that left, trace, acknowledge
  }

  async #run(arrivals: readonly Arrival[]): Promise<void> {
    const exits: Exit[] = [];
    try {
      await this.#stages(arrivals, exits);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#handBack(arrivals, error);
    }
  }

  async #admit(arrivals: readonly Arrival[], exits: Exit[]): Promise<{ on: Admitted[]; again: Locked[] }> {
    const { clock, metrics } = this.#deps;
    const startMs = clock.monotonicMs();
    const batch = await this.#deps.stages.run(
      'admit',
      arrivals.length,
      () => anyLive(arrivals),
      () => admitBatch(arrivals, this.#deps),
    );
    exits.push(...batch.off);
    const on = batch.on.filter((one) => this.#claim(one.arrival));
    const endings = [...batch.endings.keys()].filter((one) => this.#claim(one.known.arrival));
    if (endings.length === 0) return { on, again: [] };
    const ended = await this.#deps.stages.run(
      'lock',
      endings.length,
      () => anyLive(arrivals),
      () => endUnlocked(endings, batch.endings, this.#deps),
    );
    exits.push(...ended.off);
    metrics.stage('admit', 0, clock.monotonicMs() - startMs);
    return { on, again: [...ended.again] };
  }

  async #lookUp(
    admitted: { on: Admitted[]; again: Locked[] },
    exits: Exit[],
  ): Promise<{ fresh: readonly Admitted[]; again: Locked[] }> {
    if (!admitted.on.some((one) => one.arrival.delivery.redelivered))
      return { fresh: admitted.on, again: admitted.again };
    const found = await this.#deps.stages.run(
      'lock',
      admitted.on.length,
      () => anyLive(admitted.on.map((one) => one.arrival)),
      () => lookUp(admitted.on, this.#deps),
    );
    exits.push(...found.off);
    return { fresh: found.fresh, again: [...admitted.again, ...found.again] };
  }

  async #reserve(admitted: readonly Admitted[], exits: Exit[]): Promise<readonly Reserved[]> {
    if (admitted.length === 0) return [];
    const split = await this.#deps.stages.run(
      'reserve',
      admitted.length,
      () => anyLive(admitted.map((one) => one.arrival)),
      () => reserve(admitted, this.#deps.slots),
    );
    exits.push(...split.off);
    return split.on;
  }

  async #lock(reserved: readonly Reserved[], exits: Exit[]): Promise<readonly Locked[]> {
    if (reserved.length === 0) return [];
    try {
      const batch = await this.#deps.stages.run(
        'lock',
        reserved.length,
        () => anyLive(reserved.map((one) => one.admitted.arrival)),
        () => lock(reserved, this.#deps),
      );
      exits.push(...batch.off);
      await this.#release(batch.give);
      if (batch.repriced.length > 0) await this.#askAgain(batch.repriced);
      return batch.on;
    } catch (error) {
      // Whether the locks committed is unknown; the redelivery looks them up. Slots are only advice, so they go back now.
      await this.#release(reserved.filter((one) => one.isTaken).map(leaseOf));
      throw error;
    }
  }

  async #dispatch(locked: readonly Locked[], exits: Exit[]): Promise<readonly Dispatched[]> {
    if (locked.length === 0) return [];
    const batch = await this.#deps.stages.run(
      'dispatch',
      locked.length,
      () => anyLive(locked.map((one) => one.admitted.arrival)),
      () => dispatch(locked, this.#deps),
    );
    if (batch.returned.length > 0) exits.push(...(await this.#endReturned(batch.returned)));
    for (const one of batch.again) this.#sendAgain(one);
    for (const { locked: one, dispatchMs } of batch.on) this.#countDispatch(one, dispatchMs);
    return batch.on;
  }

  async #finish(sent: readonly Dispatched[], exits: readonly Exit[]): Promise<void> {
    const settled = await buryDead(exits, this.#deps);
    await replyToExits(settled, this.#deps);
    await traceBatch(sent, settled, this.#deps);
    countExits(settled, this.#deps.metrics);
    for (const { locked } of sent) {
      locked.admitted.arrival.delivery.acknowledge();
      this.#free(locked.admitted.identity.jobId);
    }
    for (const exit of settled) this.#part(exit);
  }

  /** Answers the broker for one that left, frees its id, and lets a twin of it in. */
  #part(exit: Exit): void {
    const { arrival } = exit;
    if (arrival.parsed) this.#free(arrival.parsed.id);
    switch (farewell(exit)) {
      case 'acknowledge':
        return arrival.delivery.acknowledge();
      case 'requeue':
        return arrival.delivery.requeue();
      case 'hold':
        return arrival.room.hold([arrival]);
      case 'ask_again':
        arrival.asked += 1;
        return this.#after(exit.outcome.kind === 'later' ? exit.outcome.delayMs : 0, () =>
          this.offer(arrival),
        );
    }
  }

  /** A server stayed away: the broker keeps these jobs, and brings them again as redelivered. */
  #handBack(arrivals: readonly Arrival[], error: StoreError): void {
    this.#deps.log.warn(
      { jobs: arrivals.length, store: error.store, reason: error.message },
      'batch handed back',
    );
    for (const arrival of arrivals) {
      if (arrival.parsed) this.#free(arrival.parsed.id);
      arrival.delivery.requeue();
    }
  }

  /** The node's queue is gone: the job ends here, its lock void, and the client hears that it may try again. */
  async #endReturned(returned: readonly Locked[]): Promise<Exit[]> {
    const answers = await this.#deps.stages.run(
      'lock',
      returned.length,
      () => true,
      () =>
        this.#deps.locks.endJobs(
          returned.map(({ admitted, attempt, node, session }) => ({
            jobId: admitted.identity.jobId,
            attempt,
            node,
            session,
            code: 'TG_NODE_UNREACHABLE' as const,
            isReplyOwed: false,
          })),
        ),
    );
    await this.#release(
      returned.map(({ admitted, attempt, node, session }) => ({
        jobId: admitted.identity.jobId,
        attempt,
        node,
        session,
      })),
    );
    return returned.map((locked, i): Exit => {
      const answer = answers[i];
      const { arrival } = locked.admitted;
      if (answer?.kind === 'ended') return { arrival, outcome: { kind: 'failed', job: answer.job, locked } };
      return { arrival, outcome: { kind: 'done' } };
    });
  }

  /** Sends the same attempt again a little later, apart from the batch, until its start window closes. */
  #sendAgain(one: Locked): void {
    const { arrival, identity } = one.admitted;
    if (!arrival.delivery.isLive) return this.#free(identity.jobId);
    this.#after(RESEND_MS, () => {
      const exits: Exit[] = [];
      this.#dispatch([one], exits)
        .then((sent) => this.#finish(sent, exits))
        .catch((error: unknown) => {
          if (!(error instanceof StoreError)) throw error;
          this.#handBack([arrival], error);
        });
    });
  }

  /** The price moved between admit and lock: a fresh directory, then from the start. */
  async #askAgain(repriced: readonly Reserved[]): Promise<void> {
    await this.#deps.directory.refresh();
    for (const { admitted } of repriced) {
      this.#free(admitted.identity.jobId);
      this.#after(RESEND_MS, () => this.offer(admitted.arrival));
    }
  }

  /** Gives slots back; if Redis is away they come free by their lease's end. */
  async #release(leases: readonly LeaseName[]): Promise<void> {
    if (leases.length === 0) return;
    try {
      await this.#deps.slots.releaseBatch(leases);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#deps.log.warn({ slots: leases.length, reason: error.message }, 'slots left to their lease end');
    }
  }

  /** True if the job may go on now; a twin of a job in flight is parked until that one is through. */
  #claim(arrival: Arrival): boolean {
    const id = arrival.parsed?.id;
    if (id === undefined) return true;
    if (!this.#inFlight.has(id)) {
      this.#inFlight.add(id);
      return true;
    }
    this.#twins.set(id, [...(this.#twins.get(id) ?? []), arrival]);
    return false;
  }

  #free(id: string): void {
    this.#inFlight.delete(id);
    const twins = this.#twins.get(id);
    if (!twins) return;
    this.#twins.delete(id);
    this.offerAgain(twins);
  }

  #after(delayMs: number, call: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      call();
    }, delayMs);
    this.#timers.add(timer);
  }

  #countDispatch({ admitted }: Locked, dispatchMs: number | null): void {
    if (dispatchMs === null) return;
    const waitMs = this.#deps.clock.nowMs() - uuidV7TimeMs(admitted.identity.jobId);
    this.#deps.metrics.dispatched(Math.max(0, waitMs), dispatchMs);
  }
}
