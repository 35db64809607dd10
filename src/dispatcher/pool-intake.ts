import type { Broker, ConsumerChannel, Consumption, Delivery } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { jobQueue, PRIORITIES, type Priority } from '../contracts/names.ts';
import { isRefusal, StoreError, type TollgateError } from '../errors.ts';
import type { Log, Metrics } from '../ops/types.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { IntakeLimits } from './intake-limits.ts';
import type { JobLine } from './job-line.ts';
import { payerOf } from './payer.ts';
import { PriorityQueue } from './priority-queue.ts';
import type { SeenJobs } from './seen-jobs.ts';
import type { Suspects } from './suspects.ts';
import type { Arrival, WaitingRoom } from './types.ts';

/** Slots of a pool's live workers. */
export interface PoolSlots {
  readonly total: number;
  readonly free: number;
}

/** A pool whose queues the broker refuses is tried again after this, in milliseconds. */
export const REFUSED_RETRY_MS = 5_000;

/** How many held jobs a wake-up lets try; every one placed lets another try. */
const WAKE_JOBS = 64;

interface PoolIntakeDeps {
  readonly broker: Broker;
  /** As in `Pools`. */
  readonly declarePool: (pool: string) => Promise<void>;
  readonly forgetPool: (pool: string) => void;
  readonly line: Pick<JobLine, 'offer' | 'offerAgain'>;
  readonly bounds: Config['line'];
  readonly budget: ByteBudget;
  readonly suspects: Suspects;
  readonly seen: SeenJobs;
  readonly limits: Pick<IntakeLimits, 'isRefusing'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'jobsReceived' | 'redelivered'>;
}

/**
 * The consumer of one pool's two queues. States and moves:
 *
 *     paused ──free slot, or retryPausedMs──▶ open ──no slot──▶ full ──slot──▶ open
 *        ▲                                                      │
 *        └──── no slot for pauseAfterMs: cancel the consumers, hand everything back in order ◀┘
 *
 * paused: no consumer; jobs wait in RabbitMQ, where they are durable, ordered and visible, and where `wait_ms` is judged. It is
 *         left now and then without a free slot, too: a job that was locked and not dispatched before a crash needs none, and
 *         when such jobs have all the slots of the pool, nobody else will free one before their start windows close.
 * open:   deliveries go straight to the line.
 * full:   deliveries wait here, unacknowledged; a wake-up lets the first of them try again.
 * Nothing is held longer than `holdMsMax`, and a pool without a worker is never consumed. Source: design [16], [18].
 */
export class PoolIntake implements WaitingRoom {
  readonly pool: string;
  readonly #deps: PoolIntakeDeps;
  readonly #held: PriorityQueue<Arrival>;
  /** Came back from the line without a slot: older than what is held since, so they go in front of it at the next offer. */
  #returned: Arrival[] = [];
  #state: 'paused' | 'open' | 'full' = 'paused';
  /**
   * A slot came free since something last returned. The wake-up may have overtaken a job that was refused a slot before it and is
   * still on its way back here; nobody would be told of that slot again.
   */
  #isWoken = false;
  #channel: ConsumerChannel | null = null;
  #prefetch: number;
  #consumptions: Consumption[] = [];
  /** Monotonic time since which jobs have been held and none of the pool was placed; null while there is movement. */
  #heldSinceMs: number | null = null;
  /** Monotonic time of the last pause; of old before the first, and after a lost channel, which may have left such jobs behind. */
  #pausedMs = Number.NEGATIVE_INFINITY;
  /** Monotonic time at which the broker last refused this pool's queues or consumers; null once it is consumed. */
  #refusedMs: number | null = null;
  /** Deliveries of the channel whose bytes are in the count: one that is answered twice gives them back once. */
  readonly #counted = new Set<Delivery>();
  /** Jobs that have had to wait for a slot and are still in our hands, and how many there are of each account. */
  readonly #waited = new Set<Arrival>();
  readonly #waitedBy = new Map<string, number>();
  /** The change of state under way; one at a time. */
  #changing: Promise<void> | null = null;

  constructor(pool: string, deps: PoolIntakeDeps) {
    this.pool = pool;
    this.#deps = deps;
    this.#held = new PriorityQueue(deps.bounds.batchShare, payerOf);
    this.#prefetch = deps.bounds.prefetchMin;
  }

  get state(): 'paused' | 'open' | 'full' {
    return this.#state;
  }

  get prefetch(): number {
    return this.#prefetch;
  }

  get held(): number {
    return this.#held.size + this.#returned.length;
  }

  /** The delivery of a job that is in our hands, held or under way. O(deliveries of the pool). */
  find(jobId: string): { readonly priority: Priority; readonly forMs: number } | null {
    for (const { messageId, queue, receivedMs } of this.#counted) {
      if (messageId !== jobId) continue;
      const priority = queue === jobQueue(this.pool, 'batch') ? 'batch' : 'interactive';
      return { priority, forMs: Math.round(this.#deps.clock.monotonicMs() - receivedMs) };
    }
    return null;
  }

  hold(arrival: Arrival): void {
    this.#deps.suspects.left(arrival.delivery);
    if (this.#state === 'paused' || !arrival.delivery.isLive) return this.#handBack([arrival]);
    this.#state = 'full';
    this.#heldSinceMs ??= this.#deps.clock.monotonicMs();
    this.#returned.push(arrival);
    this.#countWaited(arrival);
    if (!this.#isWoken) return;
    this.#isWoken = false;
    // Once the rest of its batch is back, too.
    queueMicrotask(() => this.#offerHeld(WAKE_JOBS));
  }

  heldBy(account: string): number {
    return this.#waitedBy.get(account) ?? 0;
  }

  isAwaited(delivery: Delivery): boolean {
    return this.#deps.suspects.isWatched(delivery);
  }

  placed(count: number): void {
    this.#heldSinceMs = null;
    this.#offerHeld(count);
  }

  left(arrival: Arrival): void {
    this.#deps.suspects.left(arrival.delivery);
    if (this.#counted.delete(arrival.delivery)) this.#deps.budget.add(-arrival.delivery.body.length);
    const account = arrival.parsed?.account;
    if (!this.#waited.delete(arrival) || account === undefined) return;
    const left = this.heldBy(account) - 1;
    if (left > 0) this.#waitedBy.set(account, left);
    else this.#waitedBy.delete(account);
  }

  #countWaited(arrival: Arrival): void {
    const account = arrival.parsed?.account;
    if (account === undefined || this.#waited.has(arrival)) return;
    this.#waited.add(arrival);
    this.#waitedBy.set(account, this.heldBy(account) + 1);
  }

  /** A slot came free somewhere in the pool. */
  wake(): void {
    this.#isWoken = true;
    this.#offerHeld(WAKE_JOBS);
  }

  /** Regular look, a few times a second: resume, pause, let the held try again, and give up what was held for too long. */
  look(slots: PoolSlots | undefined): void {
    const nowMs = this.#deps.clock.monotonicMs();
    if (this.#state === 'paused') {
      if (this.#refusedMs !== null && nowMs - this.#refusedMs < REFUSED_RETRY_MS) return;
      const { total = 0, free = 0 } = slots ?? {};
      const isDue = total > 0 && nowMs - this.#pausedMs > this.#deps.bounds.retryPausedMs;
      if ((free > 0 || isDue) && !this.#deps.budget.isOver) this.#change(() => this.#resume(total));
      return;
    }
    const heldMs = this.#heldSinceMs === null ? 0 : nowMs - this.#heldSinceMs;
    const isStuck = this.held > 0 && heldMs > this.#deps.bounds.pauseAfterMs;
    if (isStuck || this.#deps.budget.isOver) return this.#change(() => this.#pause());
    this.#handBack(this.#inOrder().remove((arrival) => this.#isHeldTooLong(arrival, nowMs)));
    this.#offerHeld(WAKE_JOBS);
  }

  /** Cancels the consumers and hands back what waits here. The channel stays for the answers of what is under way. */
  async stop(): Promise<void> {
    await this.#changing;
    await this.#pause();
  }

  #receive(delivery: Delivery, priority: Priority): void {
    this.#counted.add(delivery);
    this.#deps.budget.add(delivery.body.length);
    this.#deps.metrics.jobsReceived(1);
    if (delivery.redelivered) this.#deps.metrics.redelivered(1);
    this.#deps.suspects.pass(delivery, (isPoison) => this.#take(delivery, priority, isPoison));
  }

  #take(delivery: Delivery, priority: Priority, isPoison: boolean): void {
    const arrival: Arrival = {
      delivery,
      source: 'pool',
      priority,
      room: this,
      parsed: null,
      jobId: null,
      resumed: null,
      isPoison,
      isRefreshed: false,
      asked: 0,
    };
    if (this.#state === 'paused') return this.#handBack([arrival]);
    if (this.#state === 'full' && !this.#goesOnWithoutSlot(delivery)) return this.#held.push(arrival);
    this.#held.note(arrival);
    this.#deps.line.offer(arrival);
  }

  /**
   * A suspect: others wait for its end, it may have been locked, and the line holds it if not. What a flood brings: most of it is
   * refused, and until then it would fill our hands.
   */
  #goesOnWithoutSlot(delivery: Delivery): boolean {
    return this.#deps.suspects.isWatched(delivery) || this.#deps.limits.isRefusing(delivery.userId);
  }

  #offerHeld(countMax: number): void {
    if (this.held === 0) return;
    const again = this.#inOrder().take(countMax);
    if (this.held === 0) this.#state = 'open';
    this.#deps.line.offerAgain(again);
  }

  /** All that is held, in the order in which it came. */
  #inOrder(): PriorityQueue<Arrival> {
    const returned = this.#returned.toSorted((a, b) => a.delivery.receivedMs - b.delivery.receivedMs);
    this.#returned = [];
    this.#held.putBack(returned);
    return this.#held;
  }

  /** The broker judges `wait_ms` only at the head of its queue, so a job past it goes back there. */
  #isHeldTooLong({ delivery, parsed, resumed }: Arrival, nowMs: number): boolean {
    const heldMs = nowMs - delivery.receivedMs;
    // A later attempt waits for as long as its job has time.
    const waitMs = resumed === null ? parsed?.limits.wait_ms : undefined;
    return heldMs > this.#deps.bounds.holdMsMax || heldMs > (waitMs ?? Number.POSITIVE_INFINITY);
  }

  #change(move: () => Promise<void>): void {
    if (this.#changing) return;
    this.#changing = move()
      .catch((error: unknown) => {
        if (isRefusal(error)) return this.#noteRefusal(error);
        if (!(error instanceof StoreError)) throw error;
        this.#deps.log.debug({ pool: this.pool, reason: error.message }, 'intake waits for the broker');
      })
      .finally(() => {
        this.#changing = null;
      });
  }

  /** Told once, until the pool is consumed again. */
  #noteRefusal({ code, message: reason }: TollgateError): void {
    if (this.#refusedMs === null)
      this.#deps.log.error({ pool: this.pool, code, reason }, 'the queues of a pool cannot be consumed');
    this.#refusedMs = this.#deps.clock.monotonicMs();
    this.#leave();
  }

  async #resume(slotsTotal: number): Promise<void> {
    if (!this.#deps.broker.isUp) return;
    await this.#deps.declarePool(this.pool);
    const { prefetchMin, prefetchMax } = this.#deps.bounds;
    const prefetch = Math.min(Math.max(slotsTotal, prefetchMin), prefetchMax);
    this.#prefetch = prefetch;
    const channel = this.#channel ?? (await this.#open());
    this.#state = 'open';
    this.#heldSinceMs = null;
    for (const priority of PRIORITIES) {
      const queue = jobQueue(this.pool, priority);
      const consumption = await channel.consume(
        queue,
        prefetch,
        (delivery) => this.#receive(delivery, priority),
        () => this.#leave(),
      );
      this.#consumptions.push(consumption);
    }
    this.#refusedMs = null;
    this.#deps.log.debug({ pool: this.pool, prefetch }, 'intake open');
  }

  async #open(): Promise<ConsumerChannel> {
    const channel = await this.#deps.broker.openChannel(() => this.#gone(channel));
    this.#channel = channel;
    return channel;
  }

  /** A queue is gone: both are declared again before they are consumed, and what is unanswered of the other goes back to it. */
  #leave(): void {
    this.#deps.forgetPool(this.pool);
    const channel = this.#channel;
    if (channel === null) return;
    this.#gone(channel);
    void channel.close();
  }

  /** The channel went, and with it every delivery in our hands: the broker brings them again. */
  #gone(channel: ConsumerChannel): void {
    if (this.#channel !== channel) return;
    this.#channel = null;
    this.#consumptions = [];
    this.#state = 'paused';
    this.#pausedMs = Number.NEGATIVE_INFINITY;
    for (const { delivery } of this.#inOrder().take(this.held)) this.#deps.suspects.left(delivery);
    for (const { body } of this.#counted) this.#deps.budget.add(-body.length);
    this.#counted.clear();
    this.#waited.clear();
    this.#waitedBy.clear();
  }

  async #pause(): Promise<void> {
    const consumptions = this.#consumptions;
    this.#consumptions = [];
    this.#state = 'paused';
    this.#pausedMs = this.#deps.clock.monotonicMs();
    await Promise.all(consumptions.map((one) => one.cancel()));
    this.#handBack(this.#inOrder().take(this.held));
  }

  #handBack(arrivals: readonly Arrival[]): void {
    for (const arrival of arrivals) {
      this.#deps.seen.note(arrival.delivery.messageId, this.pool, arrival.priority);
      arrival.delivery.requeue();
      this.left(arrival);
      this.#deps.suspects.handedBack(arrival.delivery);
    }
  }
}
