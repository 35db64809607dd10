import type { Delivery } from '../../broker/types.ts';
import type { Clock } from '../../clock.ts';
import type { DispatchMessage } from '../../contracts/dispatch.ts';
import type { FleetMessage } from '../../contracts/fleet.ts';
import type { AttemptFailureCode } from './chat-answer.ts';
import type { ChatOutcome, ModelClient, ServedModel, StopReason } from './model-client.ts';
import type { Fate, ResultOutbox } from './outbox.ts';
import type { RecentResults } from './recent-results.ts';
import { resultOf, staleSessionResult, type UnsignedResult } from './result.ts';
import type { WorkLog } from './work-log.ts';

/** No job runs longer, whatever a dispatch says: beyond 24 days a Node timer fires at once. */
const RUN_MS_MAX = 86_400_000;

/** One attempt in this worker's hands. */
interface Attempt {
  readonly dispatch: DispatchMessage;
  /** The delivery that stands behind it: exactly one, so that the broker delivers again if we go. */
  delivery: Delivery;
  readonly receivedMs: number;
  readonly receivedAtMs: number;
  readonly stop: AbortController;
  /** Tokens that the model has given so far. */
  tokens: number;
  /** Nobody waits for it any more: it ends without a result. */
  isCancelled: boolean;
}

/** What the attempts need. */
export interface AttemptOptions {
  readonly slots: number;
  readonly models: ReadonlyMap<string, ServedModel>;
  readonly gpu: FleetMessage['gpu'];
  readonly workLog: WorkLog | null;
}

/**
 * Runs each `<job>.<attempt>` once. States of an attempt: waiting → held (begun; its result not yet confirmed) → recent (the
 * result is remembered). Its delivery is acknowledged when the result is confirmed, and not before: until then a crash
 * only means that the broker delivers it again. A dispatch that comes again finds its attempt:
 * - waiting or held: the new delivery takes the place of the old one, which is acknowledged (nothing happens if it died with
 *   its connection);
 * - recent: the same bytes are sent again, then it is acknowledged.
 */
export class Attempts {
  readonly #options: AttemptOptions;
  readonly #clock: Clock;
  readonly #client: ModelClient;
  readonly #outbox: ResultOutbox;
  readonly #recent: RecentResults;
  readonly #waiting = new Map<string, Attempt>();
  /** At most `slots`: also when a lost connection lets the broker send more than it has answers for. */
  readonly #held = new Map<string, Attempt>();
  #isBeginning = true;
  #onIdle: (() => void) | null = null;

  constructor(
    options: AttemptOptions,
    clock: Clock,
    client: ModelClient,
    outbox: ResultOutbox,
    recent: RecentResults,
  ) {
    this.#options = options;
    this.#clock = clock;
    this.#client = client;
    this.#outbox = outbox;
    this.#recent = recent;
  }

  /** What this worker holds, for its heartbeats; not more than the contract's bounds. */
  get leases(): FleetMessage['leases'] {
    return [...this.#held.values(), ...this.#waiting.values()]
      .slice(0, this.#options.slots)
      .map(({ dispatch: { job, attempt }, tokens }) => ({ job, attempt, tokens }));
  }

  /** Takes a dispatch of this session. */
  take(dispatch: DispatchMessage, delivery: Delivery): void {
    const key = keyOf(dispatch);
    const known = this.#held.get(key) ?? this.#waiting.get(key);
    const body = this.#recent.get(key);
    if (known !== undefined) {
      known.delivery.acknowledge();
      known.delivery = delivery;
    } else if (body !== undefined) {
      this.#outbox.resend(key, body, this.#answerTo(delivery));
    } else {
      this.#waiting.set(key, {
        dispatch,
        delivery,
        receivedMs: delivery.receivedMs,
        receivedAtMs: this.#clock.nowMs(),
        stop: new AbortController(),
        tokens: 0,
        isCancelled: false,
      });
      this.#beginWaiting();
    }
  }

  /** Answers a dispatch of an earlier session; nothing runs and nothing is remembered. */
  answerStale(dispatch: DispatchMessage, delivery: Delivery): void {
    this.#outbox.add(staleSessionResult(dispatch), this.#answerTo(delivery));
  }

  /** Lets go of an attempt that nobody waits for: no result is sent, its slot is free at once. */
  cancel(key: string): void {
    const waiting = this.#waiting.get(key);
    if (waiting !== undefined) {
      this.#waiting.delete(key);
      waiting.delivery.acknowledge();
      return;
    }
    const held = this.#held.get(key);
    if (held === undefined) return;
    held.isCancelled = true;
    stop(held, 'cancelled');
  }

  /** The connection went: what was not begun will be delivered again, here or elsewhere. */
  dropWaiting(): void {
    this.#waiting.clear();
  }

  /** Begins nothing from now on, also where a slot comes free. */
  beginNoMore(): void {
    this.#isBeginning = false;
  }

  /** Hands back to the broker what was not begun. */
  handBackWaiting(): void {
    for (const { delivery } of this.#waiting.values()) delivery.requeue();
    this.#waiting.clear();
  }

  /** Ends what is running as `worker_stopped`; the results still go out. */
  stopAll(): void {
    for (const attempt of this.#held.values()) stop(attempt, 'worker_stopped');
  }

  /** Resolves true once nothing is held and every result is confirmed, false after `waitMs`. */
  async idle(waitMs: number): Promise<boolean> {
    if (this.#isIdle) return true;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onIdle = resolve;
    const timer = setTimeout(resolve, waitMs);
    await promise;
    clearTimeout(timer);
    this.#onIdle = null;
    return this.#isIdle;
  }

  get #isIdle(): boolean {
    return this.#held.size === 0 && this.#outbox.isEmpty;
  }

  #beginWaiting(): void {
    for (const [key, attempt] of this.#waiting) {
      if (!this.#isBeginning || this.#held.size >= this.#options.slots) return;
      this.#waiting.delete(key);
      this.#held.set(key, attempt);
      // What it throws is a programmer's error and ends the process: the broker then delivers again.
      void this.#run(key, attempt);
    }
  }

  async #run(key: string, attempt: Attempt): Promise<void> {
    const result = await this.#execute(attempt);
    if (attempt.isCancelled) return this.#done(key, attempt);
    this.#outbox.add(result, {
      isWanted: () => true,
      confirmed: (body) => {
        this.#recent.add(key, body);
        this.#done(key, attempt);
      },
    });
  }

  #done(key: string, attempt: Attempt): void {
    this.#held.delete(key);
    attempt.delivery.acknowledge();
    this.#beginWaiting();
    this.#noteIdle();
  }

  /** Asks the model, within what is left of the job's time since the dispatch came. */
  async #execute(attempt: Attempt): Promise<UnsignedResult> {
    const { dispatch, receivedMs, receivedAtMs } = attempt;
    const queuedMs = this.#clock.monotonicMs() - receivedMs;
    const result = (outcome: ChatOutcome) => resultOf(dispatch, outcome, queuedMs, this.#options.gpu);
    const model = this.#options.models.get(dispatch.model);
    if (model === undefined)
      return result(notAsked('model_not_served', 'this worker does not serve the model'));
    const leftMs = dispatch.remaining_ms - queuedMs;
    if (leftMs <= 0) return result(notAsked('deadline', "the job's time ran out before the model was asked"));
    const startedAtMs = this.#clock.nowMs();
    const timer = setTimeout(() => attempt.stop.abort(), Math.min(leftMs, RUN_MS_MAX));
    const firstToken = setTimeout(
      () => attempt.tokens === 0 && stop(attempt, 'first_token_deadline'),
      Math.min(dispatch.first_token_ms, RUN_MS_MAX),
    );
    const outcome = await this.#client.ask(model, dispatch, attempt.stop.signal, (tokens) => {
      attempt.tokens = tokens;
    });
    clearTimeout(timer);
    clearTimeout(firstToken);
    this.#options.workLog?.append({
      received_at_ms: receivedAtMs,
      started_at_ms: startedAtMs,
      finished_at_ms: this.#clock.nowMs(),
      job: dispatch.job,
      attempt: dispatch.attempt,
      node: dispatch.node,
      session: dispatch.session,
    });
    return result(outcome);
  }

  /** An answer that stands for `delivery` alone: if that died, the broker delivers again and we answer again. */
  #answerTo(delivery: Delivery): Fate {
    return {
      isWanted: () => delivery.isLive,
      confirmed: () => {
        delivery.acknowledge();
        this.#noteIdle();
      },
    };
  }

  #noteIdle(): void {
    if (this.#isIdle) this.#onIdle?.();
  }
}

function stop(attempt: Attempt, reason: StopReason): void {
  attempt.stop.abort(reason);
}

/** `<job>.<attempt>`: what is run once. */
export function keyOf(dispatch: Pick<DispatchMessage, 'job' | 'attempt'>): string {
  return `${dispatch.job}.${dispatch.attempt}`;
}

function notAsked(code: AttemptFailureCode, message: string): ChatOutcome {
  return { kind: 'failed', code, message, firstTokenMs: null, totalMs: 0 };
}
