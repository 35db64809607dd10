import type { Broker } from '../broker/types.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import type { Priority } from '../contracts/names.ts';
import { isRefusal, StoreError, type TollgateError } from '../errors.ts';
import type { Directory } from '../network/types.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { SlotLeases } from '../workers/types.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { IntakeLimits } from './intake-limits.ts';
import type { JobLine } from './job-line.ts';
import { PoolIntake, REFUSED_RETRY_MS } from './pool-intake.ts';
import type { SeenJobs } from './seen-jobs.ts';
import type { Suspects } from './suspects.ts';

interface PoolsDeps {
  readonly broker: Broker;
  /** Declares both queues of a pool; may be called again and again. */
  readonly declarePool: (pool: string) => Promise<void>;
  /** Makes the next `declarePool` of a pool ask the broker, though it was declared before. */
  readonly forgetPool: (pool: string) => void;
  readonly directory: Directory;
  readonly slots: SlotLeases;
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

/** One intake per model of the directory and per open pool with a constraint; looks at the slots of all pools with one call to Redis, a few times a second. */
export class Pools implements Service {
  readonly #deps: PoolsDeps;
  readonly #pools = new Map<string, PoolIntake>();
  #slots: Awaited<ReturnType<SlotLeases['poolSlots']>> = new Map();
  #endSubscriptions: (() => void)[] = [];
  #timer: CancelTimer | null = null;
  #isLooking = false;
  #mustLookAgain = false;
  #isRunning = false;
  /** Pools whose queues stand. */
  readonly #declared = new Set<string>();
  /** Those that the broker refuses, why, and from which monotonic time on it is asked again. */
  readonly #refused = new Map<string, { readonly error: TollgateError; readonly againMs: number }>();
  #hasToldBound = false;
  /** Monotonic time at which the last look ended, also one that found a server away. */
  #lookedMs = 0;

  constructor(deps: PoolsDeps) {
    this.#deps = deps;
  }

  /** Pools in whose queues jobs may wait, whether they are consumed or not. */
  get names(): readonly string[] {
    return [...this.#declared, ...this.#refused.keys()];
  }

  /** Every intake, for metrics and health. */
  get intakes(): readonly PoolIntake[] {
    return [...this.#pools.values()];
  }

  /** Slots of every pool with a live worker, as of the last look. */
  get slots(): Awaited<ReturnType<SlotLeases['poolSlots']>> {
    return this.#slots;
  }

  /** The pool of a job that is in our hands (`isHere`), or that went back to its queue and how long ago. For explaining only. */
  seen(jobId: string): { pool: string; priority: Priority; forMs: number; isHere: boolean } | null {
    for (const [pool, intake] of this.#pools) {
      const found = intake.find(jobId);
      if (found !== null) return { pool, ...found, isHere: true };
    }
    const before = this.#deps.seen.find(jobId);
    if (before === null) return null;
    const { pool, priority, agoMs } = before;
    return { pool, priority, forMs: agoMs, isHere: false };
  }

  /** Milliseconds since the last look ended; 0 while nobody looks. */
  stillMs(): number {
    return this.#isRunning ? this.#deps.clock.monotonicMs() - this.#lookedMs : 0;
  }

  /** Rejects where the broker is away, and where it refuses every pool. */
  async start(): Promise<void> {
    const { directory, slots, bounds } = this.#deps;
    this.#isRunning = true;
    this.#lookedMs = this.#deps.clock.monotonicMs();
    const outage = await this.#addNew();
    if (outage !== null) throw outage;
    const [refused] = this.#refused.values();
    if (refused !== undefined && this.#declared.size === 0) throw refused.error;
    this.#endSubscriptions = [
      directory.onChange(() => void this.#look()),
      slots.onWake((pool) => this.#wake(pool)),
    ];
    const everyMs = Math.min(bounds.retryPausedMs, bounds.pauseAfterMs) / 2;
    this.#timer = this.#deps.clock.every(everyMs, () => void this.#look());
    await this.#look();
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    this.#timer?.();
    for (const end of this.#endSubscriptions) end();
    this.#endSubscriptions = [];
    await Promise.all(this.intakes.map((intake) => intake.stop()));
  }

  #wake(pool: string): void {
    const intake = this.#pools.get(pool);
    if (intake?.state === 'paused') void this.#look();
    else intake?.wake();
  }

  /** One look at a time; a wake-up during one makes another follow it. */
  async #look(): Promise<void> {
    if (this.#isLooking) {
      this.#mustLookAgain = true;
      return;
    }
    this.#isLooking = true;
    try {
      do {
        this.#mustLookAgain = false;
        await this.#lookOnce();
      } while (this.#mustLookAgain && this.#isRunning);
    } finally {
      this.#isLooking = false;
    }
  }

  async #lookOnce(): Promise<void> {
    try {
      const outage = await this.#addNew();
      if (outage !== null) this.#deps.log.debug({ reason: outage.message }, 'new pools wait for the broker');
      this.#slots = await this.#deps.slots.poolSlots();
      if (!this.#isRunning) return;
      for (const [pool, intake] of this.#pools) intake.look(this.#slots.get(pool));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#deps.log.debug({ reason: error.message }, 'pools wait for a server');
    }
    this.#lookedMs = this.#deps.clock.monotonicMs();
  }

  /**
   * A pool's queues are declared before anything consumes them, and stay when its model is retired: jobs may wait there. One that
   * cannot be declared, or that there is no room for, stands in no other's way. Returns why the broker could not be asked, if so.
   */
  async #addNew(): Promise<StoreError | null> {
    const { directory, bounds } = this.#deps;
    const names = [
      ...directory.models().map(({ model }) => model),
      ...directory.pools().map(({ name }) => name),
    ];
    let outage: StoreError | null = null;
    for (const pool of names) {
      if (this.#pools.has(pool)) continue;
      try {
        if (!(await this.#declare(pool))) continue;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        outage = error;
        continue;
      }
      if (this.#pools.size >= bounds.intakesMax) this.#tellTooMany();
      else this.#pools.set(pool, new PoolIntake(pool, this.#deps));
    }
    return outage;
  }

  /** True once the pool's queues stand; a refusal is told once, and the broker asked again after a while. */
  async #declare(pool: string): Promise<boolean> {
    if (this.#declared.has(pool)) return true;
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs < (this.#refused.get(pool)?.againMs ?? 0)) return false;
    try {
      await this.#deps.declarePool(pool);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const said = { pool, code: error.code, reason: error.message };
      if (!this.#refused.has(pool)) this.#deps.log.error(said, 'the queues of a pool cannot be declared');
      this.#refused.set(pool, { error, againMs: nowMs + REFUSED_RETRY_MS });
      return false;
    }
    this.#declared.add(pool);
    this.#refused.delete(pool);
    return true;
  }

  #tellTooMany(): void {
    if (this.#hasToldBound) return;
    this.#hasToldBound = true;
    const { intakesMax } = this.#deps.bounds;
    this.#deps.log.error(
      { consumed: this.#pools.size, intakesMax },
      'no more pools are consumed than line.intakesMax says, so the jobs of others wait: raise it, and channel_max of RabbitMQ',
    );
  }
}
