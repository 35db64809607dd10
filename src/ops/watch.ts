import type { TimeSource } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import type { Readiness } from './health.ts';
import type { Notice, ServiceManager } from './service-manager.ts';
import type { Log, Service } from './types.ts';

/** A part that must not stand still. */
export interface Movement {
  readonly name: string;
  /** Milliseconds since it last moved; 0 while it has nothing to do. A call that is repeated because a server is away moves. */
  stillMs(): number;
}

/** What the watch looks at. */
export interface WatchDeps {
  readonly readiness: () => Promise<Readiness>;
  readonly movements: readonly Movement[];
  /** Who is told; null where nobody started this process as a service. */
  readonly manager: ServiceManager | null;
  /** Milliseconds that a drain may take at most. */
  readonly drainMsMax: number;
  readonly bounds: Config['service'];
  readonly clock: TimeSource;
  readonly log: Log;
}

/** Signs of life per time of the watchdog: two may be late. */
const SIGNS_PER_WATCHDOG = 3;
/** Added to what a step may take when the manager is asked for time, in milliseconds. */
const MARGIN_MS = 5_000;

/**
 * Looks at the process every few seconds, says what it waits for, and feeds the watchdog of the service manager.
 *
 *     starting ── serving() and every required check passes ──▶ ready ── drain() ──▶ draining
 *         └──────────────────────────── drain() ────────────────────────────────────────▲
 *
 * starting: the parts start within the manager's own limit. Then it is asked for more time as long as no part is stuck, so that a
 *           server that is away costs no restart.
 * ready:    the watchdog is fed only while no part has been still for longer than `stuckAfterMs`. A process that lost a server
 *           stays ready to the manager, and its status line says what it waits for: a restart would not bring the server back.
 * draining: fed as long as the event loop turns; the drain has a deadline of its own.
 */
export class Watch implements Service {
  readonly #deps: WatchDeps;
  #timer: NodeJS.Timeout | null = null;
  #state: 'starting' | 'ready' | 'draining' = 'starting';
  #isServing = false;
  #isReady = false;
  #status = '';
  #looking: Promise<void> | null = null;

  constructor(deps: WatchDeps) {
    this.#deps = deps;
  }

  /** As of the last look: every required check passes and nothing is draining. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** How long each part has been still, in milliseconds, at this moment. */
  get stillMs(): ReadonlyMap<string, number> {
    return new Map(this.#deps.movements.map((movement) => [movement.name, movement.stillMs()]));
  }

  async start(): Promise<void> {
    const { bounds, manager } = this.#deps;
    const watchdogMs = manager?.watchdogMs ?? Number.POSITIVE_INFINITY;
    const everyMs = Math.min(bounds.lookEveryMs, watchdogMs / SIGNS_PER_WATCHDOG);
    this.#timer ??= setInterval(() => this.#look(), everyMs);
    this.#look();
  }

  /** All parts have started: from the next look on, which is now, the process may be ready. */
  serving(): void {
    this.#isServing = true;
    this.#look();
  }

  /** The process stops. Called before anything else is stopped; idempotent. */
  drain(): void {
    this.#state = 'draining';
    this.#isReady = false;
    this.#tell({ STOPPING: '1', EXTEND_TIMEOUT_USEC: usec(this.#deps.drainMsMax + MARGIN_MS) }, 'draining');
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#looking;
  }

  /** One look at a time: a check is bounded by its own timeout. */
  #look(): void {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = null;
    });
  }

  async #lookOnce(): Promise<void> {
    if (this.#state === 'draining') return this.#tell({ WATCHDOG: '1' }, 'draining');
    const readiness = await this.#deps.readiness();
    if (this.#isDraining) return;
    const stuck = this.#stuck();
    this.#isReady = this.#isServing && readiness.isReady;
    if (this.#isReady) this.#state = 'ready';
    const status = statusOf(readiness, this.#isServing, stuck);
    if (stuck.length > 0) return this.#tell({}, status);
    if (this.#state === 'ready') return this.#tell({ READY: '1', WATCHDOG: '1' }, status);
    const untilNextMs = SIGNS_PER_WATCHDOG * this.#deps.bounds.lookEveryMs + MARGIN_MS;
    this.#tell(this.#isServing ? { EXTEND_TIMEOUT_USEC: usec(untilNextMs) } : {}, status);
  }

  /** May have changed while a look waited for the checks. */
  get #isDraining(): boolean {
    return this.#state === 'draining';
  }

  #stuck(): readonly string[] {
    const { movements, bounds } = this.#deps;
    return movements.filter((one) => one.stillMs() > bounds.stuckAfterMs).map((one) => one.name);
  }

  #tell(notice: Notice, status: string): void {
    const { log, manager } = this.#deps;
    if (status !== this.#status) log.info({ status }, 'how it stands');
    this.#status = status;
    manager?.tell({ ...notice, STATUS: status });
  }
}

/** One line for an operator. */
function statusOf(readiness: Readiness, isServing: boolean, stuck: readonly string[]): string {
  if (stuck.length > 0) return `stuck: ${stuck.join(', ')}`;
  const failed = readiness.checks.filter((check) => check.isRequired && !check.isOk);
  const awaited = failed.map((one) => `${one.name} (${one.detail})`).join(', ');
  // Parts start one after the other: what is not up yet has perhaps not been asked.
  if (!isServing) return awaited === '' ? 'starting' : `starting, not yet up: ${awaited}`;
  if (awaited !== '') return `waits for ${awaited}`;
  const without = readiness.degraded.length > 0 ? `, without ${readiness.degraded.join(', ')}` : '';
  return `takes work${without}`;
}

function usec(ms: number): string {
  return String(Math.ceil(ms * 1_000));
}
