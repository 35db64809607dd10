import { setTimeout as delay } from 'node:timers/promises';
import type { TimeSource } from '../clock.ts';
import type { Config } from '../config-schema.ts';

/** How one thing stands; `detail` says what is awaited, in words an operator can act on. */
export interface CheckResult {
  readonly isOk: boolean;
  readonly detail: string;
}

/** One named thing that readiness depends on. A check that throws or takes too long counts as failed. */
export interface Check {
  readonly name: string;
  /** False: it is shown, and the process is ready without it (degraded). */
  readonly isRequired: boolean;
  check(): CheckResult | Promise<CheckResult>;
}

/** The answer of `/readyz`. `waitingFor` names the required checks that fail, `degraded` the others. */
export interface Readiness {
  readonly isReady: boolean;
  readonly waitingFor: readonly string[];
  readonly degraded: readonly string[];
  readonly checks: readonly ({ readonly name: string; readonly isRequired: boolean } & CheckResult)[];
}

/**
 * Answers whether this process should be given work. All checks run together, at most once per `readyCacheMs`: questions
 * that come meanwhile share one answer, so that probes cost the servers a fixed amount.
 */
export class Health {
  readonly #config: Config['http'];
  readonly #clock: TimeSource;
  readonly #checks: readonly Check[];
  #asked: Promise<Readiness> | null = null;
  #answeredMs = Number.NEGATIVE_INFINITY;
  #isDraining = false;

  constructor(config: Config['http'], clock: TimeSource, checks: readonly Check[]) {
    this.#config = config;
    this.#clock = clock;
    this.#checks = checks;
  }

  /** From now on not ready, whatever the checks say; called first when the process stops. Idempotent. */
  drain(): void {
    this.#isDraining = true;
  }

  /** Never rejects. */
  readiness(): Promise<Readiness> {
    if (this.#isDraining) return Promise.resolve(DRAINING);
    const isFresh = this.#clock.monotonicMs() - this.#answeredMs < this.#config.readyCacheMs;
    if (this.#asked === null || !isFresh) {
      // Fresh from the question on, so that a second one shares it however long it takes.
      this.#answeredMs = this.#clock.monotonicMs();
      this.#asked = this.#ask();
    }
    return this.#asked;
  }

  async #ask(): Promise<Readiness> {
    const checks = await Promise.all(
      this.#checks.map(async (check) => {
        const { name, isRequired } = check;
        return { name, isRequired, ...(await this.#bounded(check)) };
      }),
    );
    const failed = checks.filter((check) => !check.isOk);
    const waitingFor = failed.filter((check) => check.isRequired).map((check) => check.name);
    const degraded = failed.filter((check) => !check.isRequired).map((check) => check.name);
    return { isReady: waitingFor.length === 0, waitingFor, degraded, checks };
  }

  async #bounded(check: Check): Promise<CheckResult> {
    const { checkMsMax } = this.#config;
    const timer = new AbortController();
    const late = delay(
      checkMsMax,
      { isOk: false, detail: `no answer within ${checkMsMax} ms` },
      { signal: timer.signal },
    );
    try {
      return await Promise.race([check.check(), late]);
    } catch (error) {
      return { isOk: false, detail: error instanceof Error ? error.name : 'failed' };
    } finally {
      timer.abort();
      late.catch(() => undefined);
    }
  }
}

const DRAINING: Readiness = {
  isReady: false,
  waitingFor: ['drain'],
  degraded: [],
  checks: [{ name: 'drain', isRequired: true, isOk: false, detail: 'the process is stopping' }],
};
