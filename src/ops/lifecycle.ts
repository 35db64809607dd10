import { setTimeout as delay } from 'node:timers/promises';
import type { Log, Service } from './types.ts';

/** A service and the name it has in logs. */
export interface NamedService {
  readonly name: string;
  readonly service: Service;
}

/** What those get that were told to stop only after the deadline, all together, in milliseconds: most need no time. */
const LAST_STOPS_MS = 500;

/** Exit status after a second signal or a stop that did not end in time. */
const EXIT_HARD = 1;
/** Exit status after an error nobody caught. Source: sysexits.h, EX_SOFTWARE. */
const EXIT_CRASH = 70;

/**
 * Starts services in order and stops them in reverse, as one service.
 *
 *     idle ─ start ─▶ starting ─▶ running ─ stop ─▶ stopping ─▶ stopped
 *                        └── a start that fails stops those begun before, then rejects
 *
 * `stop` before `start`, twice, or during `start` is allowed; what is stopped does not start again.
 */
export class Lifecycle implements Service {
  readonly #services: readonly NamedService[];
  readonly #log: Log;
  readonly #stopMsMax: number;
  /** Those whose `start` was called, in order. */
  readonly #begun: NamedService[] = [];
  #starting: Promise<void> | null = null;
  #stopping: Promise<void> | null = null;
  /** Told to stop and not stopped yet. */
  readonly #left = new Set<string>();

  /** `stopMsMax`: milliseconds that all stops together may take. */
  constructor(services: readonly NamedService[], log: Log, stopMsMax: number) {
    this.#services = services;
    this.#log = log;
    this.#stopMsMax = stopMsMax;
  }

  start(): Promise<void> {
    return (this.#starting ??= this.#start());
  }

  /** Resolves when all have stopped. Rejects with the names of those that have not when the time is up, or that failed to. */
  stop(): Promise<void> {
    return (this.#stopping ??= this.#stop());
  }

  /** Names of the services that were told to stop and have not stopped, or not cleanly. */
  get left(): readonly string[] {
    return [...this.#left];
  }

  async #start(): Promise<void> {
    for (const named of this.#services) {
      if (this.#stopping !== null) return;
      this.#begun.push(named);
      try {
        await named.service.start();
      } catch (error) {
        this.#log.error({ service: named.name, error }, 'a service did not start');
        await this.stop().catch(() => undefined);
        throw error;
      }
      this.#log.debug({ service: named.name }, 'started');
    }
  }

  async #stop(): Promise<void> {
    const left = this.#left;
    const timer = new AbortController();
    const deadline = delay(this.#stopMsMax, 'late' as const, { signal: timer.signal });
    deadline.catch(() => undefined);
    const stops: Promise<unknown>[] = [];
    let isLate = false;
    for (const { name, service } of this.#begun.toReversed()) {
      left.add(name);
      // After the deadline each is still told to stop, and no longer awaited one by one.
      const stopped = service.stop().then(
        () => left.delete(name),
        (error: unknown) => this.#log.error({ service: name, error }, 'a service did not stop cleanly'),
      );
      stops.push(stopped);
      isLate ||= (await Promise.race([stopped, isLate ? 'late' : deadline])) === 'late';
    }
    timer.abort();
    if (isLate) await withinMs(LAST_STOPS_MS, Promise.all(stops));
    if (left.size > 0)
      throw new Error(`not cleanly stopped within ${this.#stopMsMax} ms: ${[...left].join(', ')}`);
  }
}

/** Waits for `work`, or for `ms` milliseconds if that is less. */
async function withinMs(ms: number, work: Promise<unknown>): Promise<void> {
  const timer = new AbortController();
  const late = delay(ms, undefined, { signal: timer.signal });
  late.catch(() => undefined);
  await Promise.race([work, late]);
  timer.abort();
}

/** What `runUntilSignal` needs of the process; tests hand in their own. */
export interface ProcessEvents {
  on(event: string, listener: (reason: unknown) => void): unknown;
  off(event: string, listener: (reason: unknown) => void): unknown;
  exit(status: number): void;
}

/**
 * Ends with `onStop` on the first SIGTERM or SIGINT, or when `signal` aborts, and resolves once that has resolved. A second
 * signal, or an `onStop` that rejects, exits 1 and logs what `left` says is in hand. An error that nobody caught is logged and exits 70 at once: the state of the
 * process is unknown then, and a restart finds everything by the same ids.
 */
export async function runUntilSignal(
  onStop: () => Promise<void>,
  log: Log,
  options: { signal?: AbortSignal; events?: ProcessEvents; left?: () => object } = {},
): Promise<void> {
  const events = options.events ?? process;
  const { promise: asked, resolve: ask } = Promise.withResolvers<string>();
  let isAsked = false;
  const onSignal = (name: string) => () => {
    if (isAsked) {
      log.error({ signal: name, ...options.left?.() }, 'second signal, not waiting any longer');
      events.exit(EXIT_HARD);
    }
    isAsked = true;
    ask(name);
  };
  const onCrash = (kind: string) => (error: unknown) => {
    log.error({ kind, error: error instanceof Error ? error : new Error(kind), fatal: true }, 'fatal');
    events.exit(EXIT_CRASH);
  };
  const listeners = [
    ['SIGTERM', onSignal('SIGTERM')],
    ['SIGINT', onSignal('SIGINT')],
    ['unhandledRejection', onCrash('unhandledRejection')],
    ['uncaughtException', onCrash('uncaughtException')],
  ] as const;
  for (const [event, listener] of listeners) events.on(event, listener);
  if (options.signal?.aborted) ask('abort');
  options.signal?.addEventListener('abort', () => ask('abort'), { once: true });
  try {
    log.info({ reason: await asked }, 'stopping');
    await onStop();
  } catch (error) {
    log.error({ error, ...options.left?.() }, 'did not stop cleanly');
    events.exit(EXIT_HARD);
  } finally {
    for (const [event, listener] of listeners) events.off(event, listener);
  }
}
