import type { Clock } from '../clock.ts';
import { StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';
import type { NodeHealthPg } from './health.ts';

/** A server that this coordinator may lose: its name, and where it says that it went or came back. */
export interface Watched {
  readonly name: string;
  readonly onChange: (listener: (isUp: boolean) => void) => () => void;
}

/** A declaration that PostgreSQL did not take is tried again after this, in milliseconds. */
const RETRY_MS = 1_000;

/**
 * Knows when the fault was ours. While a server is away for this coordinator, workers seem silent and late that are neither: from
 * `marginMs` before it was noticed until `marginMs` after its return an incident is declared, and what nodes were blamed for
 * meanwhile is void. The margin is the time in which silence becomes a loss.
 */
export class IncidentWatch implements Service {
  readonly #servers: readonly Watched[];
  readonly #marginMs: number;
  readonly #health: Pick<NodeHealthPg, 'incident'>;
  readonly #clock: Clock;
  readonly #log: Log;
  /** Server → monotonic time at which it was seen to be away. */
  readonly #awaySinceMs = new Map<string, number>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #ends: (() => void)[] = [];

  constructor(
    servers: readonly Watched[],
    marginMs: number,
    health: Pick<NodeHealthPg, 'incident'>,
    clock: Clock,
    log: Log,
  ) {
    this.#servers = servers;
    this.#marginMs = marginMs;
    this.#health = health;
    this.#clock = clock;
    this.#log = log;
  }

  async start(): Promise<void> {
    this.#ends = this.#servers.map(({ name, onChange }) => onChange((isUp) => this.#note(name, isUp)));
  }

  /** What has not been declared by now is not. */
  async stop(): Promise<void> {
    for (const end of this.#ends.splice(0)) end();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #note(name: string, isUp: boolean): void {
    const sinceMs = this.#awaySinceMs.get(name);
    if (!isUp) {
      if (sinceMs === undefined) this.#awaySinceMs.set(name, this.#clock.monotonicMs());
    } else if (sinceMs !== undefined) {
      this.#awaySinceMs.delete(name);
      this.#after(this.#marginMs, name, sinceMs - this.#marginMs);
    }
  }

  #after(delayMs: number, name: string, beganMs: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#health.incident(beganMs, `${name} was away for a coordinator`).catch((error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
        this.#log.debug({ reason: error.message }, 'an incident is declared later');
        this.#after(RETRY_MS, name, beganMs);
      });
    }, delayMs);
    this.#timers.add(timer);
  }
}
