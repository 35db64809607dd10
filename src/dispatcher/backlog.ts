import { jobQueue, PRIORITIES, type Priority, QUEUE } from '../contracts/names.ts';
import { StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';

/** Queues of everybody whose length says how the whole network does. */
const COMMON_QUEUES: readonly string[] = [
  QUEUE.results,
  QUEUE.spool,
  QUEUE.dead,
  QUEUE.unroutable,
  QUEUE.expired,
];

/** What the backlog asks. */
export interface BacklogDeps {
  /** How many messages wait in each of these queues; one that does not exist is left out. */
  readonly depths: (queues: readonly string[]) => Promise<ReadonlyMap<string, number>>;
  /** Names of all pools. */
  readonly pools: () => readonly string[];
  readonly everyMs: number;
  readonly log: Log;
}

/** Jobs of one pool and priority that nobody has in hand. */
export interface PoolBacklog {
  readonly pool: string;
  readonly priority: Priority;
  readonly jobs: number;
}

/**
 * Counts every few seconds what waits in RabbitMQ, so that waiting jobs, a growing spool and dead letters can be seen and an alarm
 * can be raised on them. While RabbitMQ is away there are no numbers, rather than old ones.
 */
export class Backlog implements Service {
  readonly #deps: BacklogDeps;
  #depths: ReadonlyMap<string, number> = new Map();
  #timer: NodeJS.Timeout | null = null;
  #counting: Promise<void> | null = null;

  constructor(deps: BacklogDeps) {
    this.#deps = deps;
  }

  /** Messages in the queues of everybody, as of the last count. */
  get queues(): ReadonlyMap<string, number> {
    return new Map([...this.#depths].filter(([queue]) => COMMON_QUEUES.includes(queue)));
  }

  /** Waiting jobs of every pool, as of the last count. */
  get waiting(): readonly PoolBacklog[] {
    return this.#deps.pools().flatMap((pool) =>
      PRIORITIES.flatMap((priority) => {
        const jobs = this.#depths.get(jobQueue(pool, priority));
        return jobs === undefined ? [] : [{ pool, priority, jobs }];
      }),
    );
  }

  async start(): Promise<void> {
    this.#timer ??= setInterval(() => this.#count(), this.#deps.everyMs);
    this.#count();
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#counting;
  }

  #count(): void {
    this.#counting ??= this.#countOnce().finally(() => {
      this.#counting = null;
    });
  }

  async #countOnce(): Promise<void> {
    const pools = this.#deps
      .pools()
      .flatMap((pool) => PRIORITIES.map((priority) => jobQueue(pool, priority)));
    try {
      this.#depths = await this.#deps.depths([...COMMON_QUEUES, ...pools]);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#depths = new Map();
      this.#deps.log.debug({ reason: error.message }, 'the backlog is not counted');
    }
  }
}
