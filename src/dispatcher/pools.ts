import type { Broker } from '../broker/types.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import type { Priority } from '../contracts/names.ts';
import { StoreError, TollgateError } from '../errors.ts';
import type { Directory } from '../network/types.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { SlotLeases } from '../workers/types.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { IntakeLimits } from './intake-limits.ts';
import type { JobLine } from './job-line.ts';
import { PoolIntake } from './pool-intake.ts';
import type { SeenJobs } from './seen-jobs.ts';
import type { Suspects } from './suspects.ts';

interface PoolsDeps {
  readonly broker: Broker;
  /** Declares both queues of a pool; may be called again and again. */
  readonly declarePool: (pool: string) => Promise<void>;
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
  /** What the log says of already: a pool that cannot be declared, or that there are too many. */
  readonly #told = new Set<string>();
  /** Monotonic time at which the last look ended, also one that found a server away. */
  #lookedMs = 0;

  constructor(deps: PoolsDeps) {
    this.#deps = deps;
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

  async start(): Promise<void> {
    const { directory, slots, bounds } = this.#deps;
    this.#isRunning = true;
    this.#lookedMs = this.#deps.clock.monotonicMs();
    await this.#addNew((_pool, error) => {
      throw error;
    });
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
      await this.#addNew((pool, error) => this.#tellUndeclared(pool, error));
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
   * cannot be declared stands in no other's way, and is tried again at the next look.
   */
  async #addNew(onUndeclared: (pool: string, error: TollgateError) => void): Promise<void> {
    const { directory, declarePool, bounds } = this.#deps;
    const names = [
      ...directory.models().map(({ model }) => model),
      ...directory.pools().map(({ name }) => name),
    ];
    for (const pool of names) {
      if (this.#pools.has(pool)) continue;
      if (this.#pools.size >= bounds.intakesMax) return this.#tellTooMany(names.length);
      try {
        await declarePool(pool);
        this.#pools.set(pool, new PoolIntake(pool, this.#deps));
        this.#told.delete(pool);
      } catch (error) {
        if (!(error instanceof TollgateError)) throw error;
        onUndeclared(pool, error);
      }
    }
  }

  #tellUndeclared(pool: string, error: TollgateError): void {
    const { log } = this.#deps;
    const said = { pool, code: error.code, reason: error.message };
    if (error instanceof StoreError) return log.debug(said, 'a pool waits for the broker');
    if (this.#told.has(pool)) return;
    this.#told.add(pool);
    log.error(said, 'the queues of a pool cannot be declared, so its jobs wait');
  }

  #tellTooMany(pools: number): void {
    const { intakesMax } = this.#deps.bounds;
    const what = `more than ${intakesMax}`;
    if (this.#told.has(what)) return;
    this.#told.add(what);
    this.#deps.log.error(
      { pools, intakesMax },
      'there are more pools than line.intakesMax, so the jobs of some wait: raise it, and channel_max of RabbitMQ',
    );
  }
}
