import type { Broker, Delivery, Publisher } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { nodeUser, QUEUE } from '../contracts/names.ts';
import { type Code, refusal, StoreError } from '../errors.ts';
import { isUuidV7 } from '../ids.ts';
import type { Settlements } from '../ledger/types.ts';
import type { NodeHealth } from '../network/health.ts';
import type { Directory, StrikeKind } from '../network/types.ts';
import type { Log, Metrics, Service, Stage } from '../ops/types.ts';
import type { AttemptDocument, EventDocument, TraceSink } from '../traces/types.ts';
import type { SlotLeases } from '../workers/types.ts';
import { Batcher } from './batcher.ts';
import { Coalescer } from './coalescer.ts';
import { deadLetter } from './dead-letter.ts';
import { distinctParts } from './distinct.ts';
import type { FailureOwner } from './failure-owner.ts';
import type { IntakeLimits } from './intake-limits.ts';
import { QueueConsumer } from './queue-consumer.ts';
import type { Replier } from './replies.ts';
import {
  anomalyEvent,
  faultsOf,
  attemptDocument,
  idleEvent,
  refusedResultEvent,
  resultReply,
  retriedDocument,
} from './result-documents.ts';
import { giveUp, type IdleResult, type RetriedResult, type SettledResult, settle } from './settle.ts';
import { anyLive, type StageRunner } from './stage-runner.ts';
import type { Suspects } from './suspects.ts';
import { NO_DOCUMENTS, writeDocuments } from './trace.ts';
import { UnderWay } from './under-way.ts';
import { type RefusedResult, type VerifiedResult, verify } from './verify.ts';

/** What the line is made of. */
export interface ResultLineDeps {
  readonly broker: Broker;
  readonly publisher: Publisher;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly bounds: Config['line'] & Config['results'];
  readonly directory: Directory;
  readonly limits: Pick<IntakeLimits, 'countLock'>;
  readonly slots: SlotLeases;
  readonly settlements: Settlements;
  readonly failures: FailureOwner;
  readonly health: Pick<NodeHealth, 'strike'>;
  readonly traces: TraceSink;
  readonly replier: Replier;
  readonly stages: StageRunner;
  readonly suspects: Suspects;
  readonly random: () => number;
}

/** How long freeing the slots is tried while Redis is away, in milliseconds. */
const RELEASE_MS_MAX = 2_000;

/** Faults of a result that are its node's own, by what the broker says who sent it. */
const BLAME: ReadonlyMap<Code, StrikeKind> = new Map([
  ['TG_RESULT_SENDER', 'forged'],
  ['TG_RESULT_SIGNATURE', 'forged'],
  ['TG_RESULT_INVALID', 'bad_result'],
  ['TG_RESULT_CONFLICT', 'bad_result'],
  ['TG_RESULT_USAGE', 'bad_result'],
  ['TG_RESULT_MODEL', 'bad_result'],
]);

/** The job of a result that nobody may read, by its `message_id`, `<job>.<attempt>`; null where that names none. */
function jobNamedBy({ messageId }: Delivery): string | null {
  const job = messageId?.split('.')[0];
  return job !== undefined && isUuidV7(job) ? job : null;
}

/** What a batch of results came to, gathered on the way. */
interface Batch {
  readonly deliveries: readonly Delivery[];
  readonly refused: RefusedResult[];
  readonly idle: IdleResult[];
  readonly retried: RetriedResult[];
}

/** A result that needs nothing more but to be written down and acknowledged. */
interface EndedResult {
  readonly delivery: Delivery;
  readonly attempt: AttemptDocument | null;
  readonly events: readonly EventDocument[];
}

function refusedEnd(one: RefusedResult, nowMs: number): EndedResult {
  return { delivery: one.delivery, attempt: null, events: [refusedResultEvent(one, nowMs)] };
}

/**
 * The way back: from a worker's result to a settled job. `#stages` is the whole story, read it first.
 *
 * The settlement commits before anything else happens, and the result is acknowledged last: a crash in between brings the same
 * result again, the ledger answers `same`, and slot, reply and trace are done once more, which changes nothing.
 * Source: design [2], [6].
 */
export class ResultLine implements Service {
  readonly #deps: ResultLineDeps;
  readonly #batcher: Batcher<Delivery>;
  readonly #waiting: Delivery[] = [];
  readonly #consumer: QueueConsumer;
  /** Ends of batches, behind their commit and beside the next batch. */
  readonly #ends = new UnderWay();
  readonly #ended: Coalescer<EndedResult>;
  #isOpen = true;

  constructor(deps: ResultLineDeps) {
    this.#deps = deps;
    const { bounds } = deps;
    this.#ended = new Coalescer(
      deps.clock,
      bounds,
      ({ delivery }) => ({ consumer: bounds, isAwaited: deps.suspects.isWatched(delivery) }),
      (ended) => this.#writeDown(ended),
    );
    this.#batcher = new Batcher(
      deps.clock,
      deps.bounds,
      (countMax) => this.#waiting.splice(0, countMax),
      (batch) => this.#run(batch),
    );
    this.#consumer = new QueueConsumer(deps.broker, deps.clock, deps.log, {
      queue: QUEUE.results,
      prefetch: deps.bounds.prefetch,
      onDelivery: (delivery) => this.#receive(delivery),
      onGone: () => {
        for (const delivery of this.#waiting.splice(0)) this.#deps.suspects.left(delivery);
      },
    });
  }

  /** Results delivered and not yet in a batch; the prefetch bounds them. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** True while results are heard. */
  get isListening(): boolean {
    return this.#consumer.isConsuming;
  }

  start(): Promise<void> {
    return this.#consumer.start();
  }

  /** Hands back what has not begun and resolves when the batches under way have ended. */
  async stop(): Promise<void> {
    this.#isOpen = false;
    await this.#consumer.stop();
    for (const delivery of this.#waiting.splice(0)) this.#answer(delivery, 'requeue');
    await this.#batcher.close();
    await this.#ends.ended();
    await this.#ended.close();
  }

  async #stages(batch: Batch): Promise<() => Promise<void>> {
    const verified = await this.#verify(batch); //       sender, shape, digest; signature where it matters
    const settled = await this.#settle(batch, verified); // COMMIT: capture, void or another attempt, once (PostgreSQL)
    await this.#release(batch, settled); //              the slot is free (Redis)
    return () => this.#finish(batch, settled);
  }

  /** Behind the commit, beside the next batch. */
  async #finish(batch: Batch, settled: readonly SettledResult[]): Promise<void> {
    await this.#reply(batch, settled); //                to the client (RabbitMQ)
    await this.#alarm(batch); //                         for those that get another attempt
    this.#ended.offer(this.#endedOf(batch, settled)); // trace, acknowledge: `#writeDown`
    await this.#ended.room();
  }

  async #run(deliveries: readonly Delivery[]): Promise<void> {
    try {
      const finish = await this.#stages({ deliveries, refused: [], idle: [], retried: [] });
      this.#ends.add(finish().catch((error: unknown) => this.#handBack(deliveries, error)));
      await this.#ends.below(this.#deps.bounds.batchEndsMax);
    } catch (error) {
      this.#handBack(deliveries, error);
    }
  }

  #handBack(deliveries: readonly Delivery[], error: unknown): void {
    if (!(error instanceof StoreError)) throw error;
    const { store, message: reason } = error;
    this.#deps.log.warn({ results: deliveries.length, store, reason }, 'results handed back');
    for (const delivery of deliveries) this.#answer(delivery, 'requeue');
  }

  #answer(delivery: Delivery, how: 'acknowledge' | 'requeue'): void {
    delivery[how]();
    this.#deps.suspects.left(delivery);
  }

  async #verify(batch: Batch): Promise<readonly VerifiedResult[]> {
    const { on, off } = await this.#call(batch, 'verify', batch.deliveries.length, () =>
      verify(batch.deliveries, this.#deps),
    );
    batch.refused.push(...off);
    for (const { delivery, refusal: why, job } of off) {
      this.#deps.metrics.resultRefused(why.code);
      this.#blame(delivery, why.code, job);
    }
    return on;
  }

  async #settle(batch: Batch, verified: readonly VerifiedResult[]): Promise<readonly SettledResult[]> {
    const settled: SettledResult[] = [];
    for (const part of distinctParts(verified, ({ result }) => result.job)) {
      const good = part.filter(({ result }) => result.status === 'completed');
      const bad = part.filter(({ result }) => result.status === 'failed');
      if (good.length > 0) {
        const { on, off } = await this.#call(batch, 'settle', good.length, () =>
          settle(good, this.#deps.settlements),
        );
        settled.push(...on);
        batch.idle.push(...off);
      }
      if (bad.length > 0) {
        const { retried, ended, off } = await this.#call(batch, 'settle', bad.length, () =>
          giveUp(bad, this.#deps.failures),
        );
        settled.push(...ended);
        batch.retried.push(...retried);
        batch.idle.push(...off);
      }
    }
    for (const { code, verified: one } of batch.idle) {
      this.#deps.metrics.resultRefused(code);
      this.#blame(one.delivery, code, one.result.job);
    }
    for (const one of settled) if (one.isFirst) this.#countFirst(one);
    return settled;
  }

  #countFirst(one: SettledResult): void {
    const { job, decision, verified } = one;
    this.#deps.limits.countLock(job.accountId, -1);
    if (decision === null) this.#deps.metrics.ended(job.state);
    for (const code of faultsOf(one, this.#deps.directory)) {
      this.#deps.metrics.resultRefused(code);
      this.#blame(verified.delivery, code, job.jobId);
    }
  }

  /** Holds against the sender what only a faulty or a lying node does; whoever is late is not. */
  #blame({ userId }: Delivery, code: Code, jobId: string | null): void {
    const kind = BLAME.get(code);
    const prefix = nodeUser('');
    if (kind === undefined || userId === null || !userId.startsWith(prefix)) return;
    this.#deps.health.strike(userId.slice(prefix.length), kind, jobId);
  }

  /** The slot of a late or stale result was freed by whoever ended that attempt. */
  async #release(batch: Batch, settled: readonly SettledResult[]): Promise<void> {
    const done = [...settled, ...batch.retried];
    if (done.length === 0) return;
    const leases = done.map(({ verified: { result } }) => ({
      jobId: result.job,
      attempt: result.attempt,
      node: result.node,
      session: result.session,
    }));
    try {
      await this.#call(
        batch,
        'release',
        leases.length,
        () => this.#deps.slots.releaseBatch(leases),
        RELEASE_MS_MAX,
      );
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      // Nobody's answer waits for Redis: a lease that no heartbeat names ends by itself.
      this.#deps.log.warn(
        { slots: leases.length, reason: error.message },
        'slots left to the end of their lease',
      );
    }
  }

  async #reply(batch: Batch, settled: readonly SettledResult[]): Promise<void> {
    const replies = settled
      .map((one) => resultReply(one, this.#deps.directory))
      .filter((reply) => reply !== null);
    if (replies.length === 0) return;
    await this.#call(batch, 'reply', replies.length, this.#deps.replier.sending(replies));
  }

  /** What is to be written of each: the answer, and every anomaly. Each result of the batch is exactly one of the four. */
  #endedOf({ refused, idle, retried }: Batch, settled: readonly SettledResult[]): EndedResult[] {
    const { clock, directory } = this.#deps;
    const nowMs = clock.nowMs();
    return [
      ...refused.map((one) => refusedEnd(one, nowMs)),
      ...idle.map((one) => ({
        delivery: one.verified.delivery,
        attempt: null,
        events: [idleEvent(one, nowMs)],
      })),
      ...settled.map((one) => ({
        delivery: one.verified.delivery,
        attempt: attemptDocument(one),
        events: faultsOf(one, directory).map((code) =>
          anomalyEvent(one.verified, code, one.job.namespace, nowMs),
        ),
      })),
      ...retried.map((one) => ({
        delivery: one.verified.delivery,
        attempt: retriedDocument(one, nowMs),
        events: [],
      })),
    ];
  }

  /** The last of a result: its trace, durable (MongoDB), then its acknowledgement. Does not reject. */
  async #writeDown(ended: readonly EndedResult[]): Promise<void> {
    const { stages, traces, log } = this.#deps;
    const deliveries = ended.map(({ delivery }) => delivery);
    const attempts = ended.flatMap(({ attempt }) => attempt ?? []);
    const events = ended.flatMap((one) => one.events);
    const documents = { ...NO_DOCUMENTS, attempts, events };
    const isWanted = () => anyLive(ended);
    try {
      await stages.run('trace_attempt', attempts.length + events.length, isWanted, () =>
        writeDocuments(documents, traces, log),
      );
      for (const delivery of deliveries) this.#answer(delivery, 'acknowledge');
    } catch (error) {
      this.#handBack(deliveries, error);
    }
  }

  async #alarm({ retried }: Batch): Promise<void> {
    if (retried.length > 0) await this.#deps.failures.setAlarms(retried.map(({ decided }) => decided));
  }

  #call<T>(batch: Batch, stage: Stage, results: number, call: () => Promise<T>, forMs?: number): Promise<T> {
    const isWanted = () => anyLive(batch.deliveries.map((delivery) => ({ delivery })));
    return this.#deps.stages.run(stage, results, isWanted, call, forMs);
  }

  #receive(delivery: Delivery): void {
    this.#deps.suspects.pass(delivery, (isPoison) => {
      if (!this.#isOpen) return this.#answer(delivery, 'requeue');
      if (isPoison) return void this.#bury(delivery);
      this.#waiting.push(delivery);
      this.#batcher.nudge();
    });
  }

  /** A result that kills coordinators is kept unread, and an event says so; its job, if it is open, ends by its deadline. */
  async #bury(delivery: Delivery): Promise<void> {
    const why = refusal('TG_MESSAGE_POISON', 'body');
    const outcome = await this.#deps.publisher.publish(deadLetter(delivery, why));
    if (outcome !== 'confirmed') return this.#answer(delivery, 'requeue');
    const refused = { delivery, refusal: why, job: jobNamedBy(delivery) };
    this.#deps.metrics.resultRefused(why.code);
    this.#ended.offer([refusedEnd(refused, this.#deps.clock.nowMs())]);
  }
}
