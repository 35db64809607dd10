import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import type { Log, Metrics, Stage } from '../ops/types.ts';
import { persist } from './patience.ts';

/** Runs the calls of the stages: measured, counted, and repeated while a server is away. */
export class StageRunner {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #metrics: Metrics;
  readonly #bounds: Pick<Config['line'], 'stageRetryMs' | 'stageRetryDelayMsMax'>;
  readonly #random: () => number;
  #isStopping = false;
  /** The calls under way, each with the monotonic time of its newest try. */
  readonly #open = new Set<{ triedMs: number }>();

  constructor(
    clock: Clock,
    log: Log,
    metrics: Metrics,
    bounds: Pick<Config['line'], 'stageRetryMs' | 'stageRetryDelayMsMax'>,
    random: () => number,
  ) {
    this.#clock = clock;
    this.#log = log;
    this.#metrics = metrics;
    this.#bounds = bounds;
    this.#random = random;
  }

  /** In `ms` milliseconds nothing is repeated any more: what fails then is handed back to the broker. */
  stopAfter(ms: number): void {
    this.#clock.after(
      ms,
      () => {
        this.#isStopping = true;
      },
      { holdsProcess: false },
    );
  }

  /** How long the oldest try under way has been without an answer, in milliseconds; every failure begins a new try. */
  stillMs(): number {
    const nowMs = this.#clock.monotonicMs();
    return Math.max(0, ...[...this.#open].map(({ triedMs }) => nowMs - triedMs));
  }

  /**
   * One call of `stage` for `jobs` jobs. `isWanted` says whether anyone still waits (a delivery whose channel is gone comes
   * again anyway). Throws the last StoreError when patience
   * ends, after `forMs` milliseconds; any other error at once.
   */
  async run<T>(
    stage: Stage,
    jobs: number,
    isWanted: () => boolean,
    call: () => Promise<T>,
    forMs = this.#bounds.stageRetryMs,
  ): Promise<T> {
    const startMs = this.#clock.monotonicMs();
    const open = { triedMs: startMs };
    this.#open.add(open);
    const answer = await persist(call, {
      clock: this.#clock,
      forMs,
      delayMsMax: this.#bounds.stageRetryDelayMsMax,
      random: this.#random,
      isWanted: () => !this.#isStopping && isWanted(),
      onFailure: (error) => {
        open.triedMs = this.#clock.monotonicMs();
        this.#metrics.stageFailed(stage);
        this.#log.warn(
          { stage, jobs, code: error.code, store: error.store, reason: error.message },
          'stage waits',
        );
      },
    }).finally(() => this.#open.delete(open));
    this.#metrics.stage(stage, jobs, this.#clock.monotonicMs() - startMs);
    return answer;
  }
}

/** True while at least one of these deliveries can still be answered. */
export function anyLive(arrivals: Iterable<{ readonly delivery: { readonly isLive: boolean } }>): boolean {
  for (const { delivery } of arrivals) if (delivery.isLive) return true;
  return false;
}
