import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { StoreError, TollgateError } from '../errors.ts';
import type { Log, MaintenanceTaskName, Metrics, Service } from '../ops/types.ts';
import type { Fence } from '../postgres/fenced.ts';
import type { Lease } from './lease.ts';
import type { Scheduled, Workflows } from './workflows.ts';

/** Periodic work that belongs to one coordinator at a time. */
export interface MaintenanceTask extends Scheduled {
  readonly name: MaintenanceTaskName;
  /** Cron expression, UTC. */
  readonly cron: string;
  /** Idempotent; every write in it carries `fence`. Answers what it did, in numbers, for the record and the log. */
  readonly run: (fence: Fence) => Promise<Readonly<Record<string, number>>>;
}

interface MaintenanceDeps {
  readonly lease: Lease;
  readonly tasks: readonly MaintenanceTask[];
  readonly makeWorkflows: () => Pick<Workflows, 'start' | 'stop'>;
  readonly bounds: Config['maintenance'];
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'maintenanceRun'>;
}

/** Askings per `leaseTtlMs`: the owner may miss one and stay owner. */
const ASKS_PER_TTL = 3;

/**
 * When maintenance runs, and on which coordinator: on the one that has the lease. States:
 *
 *     waiting ── lease taken, schedules started ──▶ owner ── another's, or not prolonged in time ──▶ waiting
 *
 * An owner that is stopped and wakes as one of the past still believes to be owner until it asks. It can do no harm meanwhile:
 * each write names its term and is refused in PostgreSQL when that term is over. Nothing on the way of a job waits for any of this.
 */
export class Maintenance implements Service {
  readonly #deps: MaintenanceDeps;
  readonly #succeededMs = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;
  #asking: Promise<void> = Promise.resolve();
  #isAsking = false;
  #term: bigint | null = null;
  /** Monotonic time at which the lease ends unless it is prolonged. */
  #heldUntilMs = Number.NEGATIVE_INFINITY;
  #workflows: Pick<Workflows, 'start' | 'stop'> | null = null;

  constructor(deps: MaintenanceDeps) {
    this.#deps = deps;
  }

  /** True while this coordinator believes to be the owner. */
  get isOwner(): boolean {
    return this.#term !== null;
  }

  /** Task → wall-clock milliseconds of its last good run in this process. */
  get lastSuccessMs(): ReadonlyMap<string, number> {
    return this.#succeededMs;
  }

  /** Begins to ask for the lease; does not wait for it. */
  async start(): Promise<void> {
    this.#timer ??= setInterval(() => this.#ask(), this.#deps.bounds.leaseTtlMs / ASKS_PER_TTL);
    this.#ask();
  }

  /** Ends the schedules and gives the lease back: another coordinator has it at its next asking. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#asking;
    const term = this.#term;
    await this.#resign();
    if (term === null) return;
    try {
      await this.#deps.lease.release(term);
    } catch (error) {
      if (!(error instanceof TollgateError)) throw error;
      this.#deps.log.debug({ reason: error.message }, 'the lease of maintenance is left to its end');
    }
  }

  #ask(): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#asking = this.#askOnce().finally(() => {
      this.#isAsking = false;
    });
  }

  async #askOnce(): Promise<void> {
    const { lease, clock, bounds, log } = this.#deps;
    const askedMs = clock.monotonicMs();
    try {
      const term = await lease.take();
      if (term !== this.#term) await this.#resign();
      if (term === null) return;
      this.#heldUntilMs = askedMs + bounds.leaseTtlMs;
      if (this.#workflows === null) await this.#reign(term);
    } catch (error) {
      if (!(error instanceof TollgateError)) throw error;
      // A server that is away comes back; a login that is refused wants an operator.
      const level = error instanceof StoreError ? 'debug' : 'warn';
      log[level]({ reason: error.message }, 'the lease of maintenance cannot be had');
      if (clock.monotonicMs() > this.#heldUntilMs) await this.#resign();
    }
  }

  /** Starts the schedules. If that fails the lease is kept, and the next asking tries again. */
  async #reign(term: bigint): Promise<void> {
    const { log, tasks, makeWorkflows } = this.#deps;
    this.#term = term;
    const workflows = makeWorkflows();
    try {
      await workflows.start(tasks, (task) => this.#run(task, term));
      this.#workflows = workflows;
      log.info({ term: Number(term) }, 'owner of maintenance');
    } catch (error) {
      // What pg-boss throws is of its own making: a server that is away, or tables that are not its own.
      log.warn({ reason: String(error) }, 'the schedules of maintenance did not start');
      await workflows.stop().catch(() => undefined);
    }
  }

  async #resign(): Promise<void> {
    const workflows = this.#workflows;
    this.#workflows = null;
    if (this.#term !== null)
      this.#deps.log.info({ term: Number(this.#term) }, 'no longer owner of maintenance');
    this.#term = null;
    await workflows?.stop().catch((error: unknown) => {
      this.#deps.log.debug({ reason: String(error) }, 'the schedules did not end cleanly');
    });
  }

  /** One run. A rejection is pg-boss's to record and to repeat. */
  async #run(task: MaintenanceTask, term: bigint): Promise<Readonly<Record<string, number>>> {
    const { lease, clock, log, metrics } = this.#deps;
    try {
      const did = await task.run({ lease: lease.name, term });
      metrics.maintenanceRun(task.name, 'done');
      this.#succeededMs.set(task.name, clock.nowMs());
      log.info({ task: task.name, term: Number(term), ...did }, 'maintenance done');
      return { term: Number(term), ...did };
    } catch (error) {
      const isFenced = error instanceof TollgateError && error.code === 'TG_LEASE_LOST';
      metrics.maintenanceRun(task.name, isFenced ? 'fenced' : 'failed');
      log.warn({ task: task.name, term: Number(term), reason: String(error) }, 'maintenance did not run');
      throw error;
    }
  }
}
