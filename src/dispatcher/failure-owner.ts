import type { OutMessage, Publisher } from '../broker/types.ts';
import type { Config } from '../config-schema.ts';
import type { ControlMessage } from '../contracts/dispatch.ts';
import { EXCHANGE } from '../contracts/names.ts';
import { type Code, StoreError } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';
import type {
  AttemptName,
  Attempts,
  EndedJob,
  GiveUpAnswer,
  GivenUp,
  OwedAttempt,
  RetryAlarm,
} from '../ledger/types.ts';
import type { NodeHealth } from '../network/health.ts';
import type { Log, Metrics } from '../ops/types.ts';
import type { AttemptDocument, Decision, TraceSink } from '../traces/types.ts';
import type { LeaseName, SlotLeases } from '../workers/types.ts';
import { answered } from './answered.ts';
import { type Failure, judge, retryDelayMs } from './failure-policy.ts';
import { NO_DOCUMENTS, writeDocuments } from './trace.ts';

/** An attempt that failed, and how. `digest`: of the result that said so, null where none came. */
export interface FailedAttempt extends AttemptName {
  readonly failure: Failure;
  readonly digest: Buffer | null;
}

/** What was decided of one: `decision` as the trace has it, `answer` what it came to in PostgreSQL. */
export interface Decided<F extends FailedAttempt = FailedAttempt> {
  readonly failed: F;
  readonly code: Code;
  readonly decision: Decision;
  readonly answer: GiveUpAnswer;
}

/** Lost sessions remembered; their jobs are given up within a few sweeps of each other. */
const LOST_SESSIONS_MAX = 1_000;

/** Rings when an attempt is due. A lost alarm is no lost job: PostgreSQL knows when each is due, and a sweep looks. */
export interface RetryAlarms {
  /** Sets one alarm each, those due now ring at once. Never rejects: what could not be set is found by the sweep. */
  set(alarms: readonly RetryAlarm[]): Promise<void>;
}

interface FailureOwnerDeps {
  readonly attempts: Attempts;
  readonly alarms: RetryAlarms;
  readonly slots: Pick<SlotLeases, 'releaseBatch'>;
  readonly traces: TraceSink;
  readonly publisher: Publisher;
  readonly health: Pick<NodeHealth, 'strike'>;
  readonly bounds: Config['retries'];
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'ended' | 'attemptFailed'>;
  readonly random: () => number;
}

/**
 * The one owner of failure: whatever ends an attempt without a good result comes here, and nowhere else is it decided what follows.
 *
 *     failure ─ judge ─▶ class, code, counted? ─ PostgreSQL ─▶ retry: the fence moves to attempt n + 1, due after a pause
 *                                                          └▶ ended: no try, no time or no sense left; void, failed
 *
 * The decision is in PostgreSQL first: what follows it (slot, trace, alarm) may be lost in a crash and is done again, by the
 * result that comes again or by the loop that pays what rows owe. Source: design [11], [24].
 */
export class FailureOwner {
  readonly #deps: FailureOwnerDeps;
  /** Sessions whose loss was held against their node: one strike, however many jobs it had. */
  readonly #lostSessions = new Set<string>();

  constructor(deps: FailureOwnerDeps) {
    this.#deps = deps;
  }

  /**
   * Decides about a batch of distinct jobs in one transaction. `isOwed`: no message stands behind the caller, so `payOwed` does
   * what follows. Idempotent by attempt and digest. Throws StoreError.
   */
  async decide<F extends FailedAttempt>(failed: readonly F[], isOwed: boolean): Promise<Decided<F>[]> {
    if (failed.length === 0) return [];
    const { attempts, bounds, metrics, random } = this.#deps;
    const requests = failed.map(({ jobId, attempt, node, session, failure, digest }) => {
      const { class: failureClass, code, isCounted, mayRetry } = judge(failure);
      const outcome = failure.kind === 'error_result' ? ('failed' as const) : ('lost' as const);
      const delayMs = mayRetry ? retryDelayMs(attempt, bounds, random()) : null;
      const name = { jobId, attempt, node, session };
      return { ...name, outcome, class: failureClass, code, isCounted, delayMs, digest, isOwed };
    });
    const answers = await attempts.giveUpBatch(requests);
    const decided: Decided<F>[] = [];
    for (const [i, [one, answer]] of answered(failed, answers).entries()) {
      const {
        class: failureClass = 'unknown',
        code = 'TG_WORKER_ERROR',
        isCounted = true,
      } = requests[i] ?? {};
      const isRetry = answer.kind === 'retry';
      const action = isRetry ? ('retry' as const) : ('fail' as const);
      const delayMs = isRetry ? (answer.givenUp.alarm?.delayMs ?? 0) : null;
      decided.push({
        failed: one,
        code,
        decision: { class: failureClass, action, isCounted, delayMs },
        answer,
      });
      if (!('isFirst' in answer) || !answer.isFirst) continue;
      metrics.attemptFailed(failureClass, action);
      this.#strike(one);
      if (!isRetry) metrics.ended('failed');
    }
    return decided;
  }

  /** A session was given up: that counts once against its node, whether or not it had a job. */
  noteLost(session: Pick<AttemptName, 'node' | 'session'>, jobId: string | null = null): void {
    const key = `${session.node}#${session.session}`;
    if (this.#lostSessions.has(key)) return;
    this.#lostSessions.add(key);
    const [oldest] = this.#lostSessions;
    if (this.#lostSessions.size > LOST_SESSIONS_MAX && oldest !== undefined)
      this.#lostSessions.delete(oldest);
    this.#deps.health.strike(session.node, 'lost', jobId);
  }

  #strike(failed: FailedAttempt): void {
    const { strike } = judge(failed.failure);
    if (strike === 'lost') this.noteLost(failed, failed.jobId);
    else if (strike !== null) this.#deps.health.strike(failed.node, strike, failed.jobId);
  }

  /** Sets the alarms of those that go on. */
  async setAlarms(decided: readonly Decided[]): Promise<void> {
    const given = decided.flatMap(({ answer }) => (answer.kind === 'retry' ? [answer.givenUp] : []));
    await this.#setAlarms(given);
  }

  /** Frees the slots, writes the traces and sets the alarms of attempts that nobody stands behind, at most `limit`. Throws StoreError. */
  async payOwed(limit: number): Promise<void> {
    const { attempts, traces, log } = this.#deps;
    const owed = await attempts.owedAttempts(limit);
    if (owed.length === 0) return;
    await this.release(owed);
    await writeDocuments({ ...NO_DOCUMENTS, attempts: owed.map(owedDocument) }, traces, log);
    await this.#setAlarms(owed);
    await attempts.clearOwedAttempts(owed);
  }

  /** Sets the alarms again of attempts that are overdue to be placed: theirs may have been lost. Throws StoreError. */
  async ringOverdue(limit: number): Promise<void> {
    const { attempts, alarms, log } = this.#deps;
    const overdue = await attempts.claimRetries(limit);
    if (overdue.length === 0) return;
    log.info({ attempts: overdue.length }, 'attempts are due and not placed: alarms set again');
    await alarms.set(overdue);
  }

  /** Gives slots back; if Redis is away they come free when their lease ends. */
  async release(leases: readonly LeaseName[]): Promise<void> {
    if (leases.length === 0) return;
    const names = leases.map(({ jobId, attempt, node, session }) => ({ jobId, attempt, node, session }));
    try {
      await this.#deps.slots.releaseBatch(names);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const { log } = this.#deps;
      log.warn({ slots: names.length, reason: error.message }, 'slots left to the end of their lease');
    }
  }

  /** Tells workers that nobody waits for these any more. Best effort: a worker that does not hear it ends in its own time. */
  async tellWorkers(attempts: readonly AttemptName[]): Promise<void> {
    if (attempts.length > 0) await this.#deps.publisher.publishBatch(attempts.map(cancelMessage));
  }

  async #setAlarms(given: readonly GivenUp[]): Promise<void> {
    await this.#deps.alarms.set(given.map(({ alarm }) => alarm).filter((alarm) => alarm !== null));
  }
}

function cancelMessage({ jobId, attempt, node, session }: AttemptName): OutMessage {
  const message: ControlMessage = { v: 1, kind: 'cancel', session, job: jobId, attempt };
  return {
    exchange: EXCHANGE.control,
    routingKey: node,
    body: Buffer.from(JSON.stringify(message)),
    messageId: newUuidV7(),
    mandatory: false,
  };
}

function owedDocument(owed: OwedAttempt): AttemptDocument {
  return {
    ...attemptOf(owed),
    outcome: owed.outcome,
    code: owed.code,
    decision: {
      class: owed.class,
      action: 'retry',
      isCounted: owed.isCounted,
      delayMs: owed.alarm?.delayMs ?? null,
    },
    endedAtMs: owed.endedAtMs,
    chargedMicro: 0n,
    lockedMicro: owed.lockedMicro,
    result: null,
  };
}

/** Which attempt a document is of. */
function attemptOf({ jobId, attempt, node, session, namespace }: GivenUp) {
  return { job: jobId, attempt, node, session, namespace };
}

/** True for a job that had a worker when it ended. */
export function hasWorker(job: EndedJob): job is EndedJob & AttemptName {
  return job.node !== null && job.session !== null;
}
