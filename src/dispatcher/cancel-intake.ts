import { createHash } from 'node:crypto';
import type { Broker, Delivery, Publisher } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { CancelMessage } from '../contracts/cancel.ts';
import { QUEUE } from '../contracts/names.ts';
import { parserOf } from '../contracts/parse.ts';
import type { ReplyMessage } from '../contracts/reply.ts';
import { type Refusal, refusal, StoreError } from '../errors.ts';
import { isUuidV7 } from '../ids.ts';
import type { CancelAnswer, Cancellations, CancelRequest } from '../ledger/types.ts';
import type { Directory } from '../network/types.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { EventDocument, TraceSink } from '../traces/types.ts';
import { identifySender } from './admit.ts';
import { answered } from './answered.ts';
import { Batcher } from './batcher.ts';
import { deadLetter } from './dead-letter.ts';
import { distinctParts } from './distinct.ts';
import { type FailureOwner, hasWorker } from './failure-owner.ts';
import type { IntakeLimits } from './intake-limits.ts';
import { QueueConsumer } from './queue-consumer.ts';
import { addressed, failureReply, refusalReply, type Replier } from './replies.ts';
import { anyLive, type StageRunner } from './stage-runner.ts';
import { NO_DOCUMENTS, writeDocuments } from './trace.ts';
import type { AddressedReply } from './types.ts';

interface CancelIntakeDeps {
  readonly broker: Broker;
  readonly publisher: Publisher;
  readonly directory: Directory;
  readonly limits: Pick<IntakeLimits, 'ofPublisher'>;
  readonly cancellations: Cancellations;
  readonly failures: Pick<FailureOwner, 'release' | 'tellWorkers'>;
  readonly replier: Replier;
  readonly traces: TraceSink;
  readonly clock: Clock;
  readonly stages: StageRunner;
  readonly bounds: Config['line'];
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'refused' | 'ended'>;
}

/** Unacknowledged cancellations. */
const PREFETCH = 256;

/** A cancellation of a known sender for an account it may speak for. */
interface Wanted {
  readonly delivery: Delivery;
  readonly request: CancelRequest;
}

/** What a delivery is, before PostgreSQL is asked. */
type Read =
  | { readonly kind: 'wanted'; readonly wanted: Wanted }
  /** The directory may only be behind: it is read again before this is said. */
  | { readonly kind: 'refused' | 'unknown'; readonly why: Refusal; readonly job: string | null }
  /** Beyond what its publisher may send; `event` as in `Limited`. */
  | { readonly kind: 'limited'; readonly why: Refusal; readonly job: null; readonly event: string | null }
  /** Nobody may be answered. */
  | { readonly kind: 'dead'; readonly why: Refusal };

const parseCancel = parserOf(CancelMessage);

/**
 * Takes what clients no longer want: a job that has not come yet (its id is remembered as cancelled), that waits (the same, and it is
 * answered when it is taken from its queue), or that runs (void, the worker is told, its slot is free). The client of the job is
 * told by the job's own reply; whoever cancels is answered too, at `reply_to`.
 *
 * As for a job: decided in one transaction, answered, acknowledged last. A repeat changes nothing. Source: design [5], [10].
 */
export class CancelIntake implements Service {
  readonly #deps: CancelIntakeDeps;
  readonly #consumer: QueueConsumer;
  readonly #batcher: Batcher<Delivery>;
  readonly #waiting: Delivery[] = [];

  constructor(deps: CancelIntakeDeps) {
    this.#deps = deps;
    this.#batcher = new Batcher(
      deps.clock,
      deps.bounds,
      (countMax) => this.#waiting.splice(0, countMax),
      (batch) => this.#run(batch),
    );
    this.#consumer = new QueueConsumer(deps.broker, deps.clock, deps.log, {
      queue: QUEUE.cancel,
      prefetch: PREFETCH,
      onDelivery: (delivery) => {
        this.#waiting.push(delivery);
        this.#batcher.nudge();
      },
      onGone: () => void this.#waiting.splice(0),
    });
  }

  start(): Promise<void> {
    return this.#consumer.start();
  }

  /** Hands back what has not begun and resolves when the batches under way have ended. */
  async stop(): Promise<void> {
    await this.#consumer.stop();
    for (const delivery of this.#waiting.splice(0)) delivery.requeue();
    await this.#batcher.close();
  }

  async #run(deliveries: readonly Delivery[]): Promise<void> {
    try {
      const reads = await this.#readAll(deliveries);
      const wanted = reads.flatMap(([, read]) => (read.kind === 'wanted' ? [read.wanted] : []));
      const replies = [...reads.flatMap(refusedReply), ...(await this.#cancel(wanted))];
      for (const [, read] of reads) if ('why' in read) this.#deps.metrics.refused(read.why.code);
      if (replies.length > 0)
        await this.#call('reply', deliveries, () => this.#deps.replier.sending(replies)());
      await this.#bury(reads);
      await this.#trace(reads);
      for (const delivery of deliveries) delivery.acknowledge();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#deps.log.warn({ cancellations: deliveries.length, reason: error.message }, 'handed back');
      for (const delivery of deliveries) delivery.requeue();
    }
  }

  async #readAll(deliveries: readonly Delivery[]): Promise<(readonly [Delivery, Read])[]> {
    const { directory } = this.#deps;
    const first = deliveries.map((delivery) => [delivery, readCancel(delivery, this.#deps)] as const);
    if (!first.some(([, { kind }]) => kind === 'unknown' || kind === 'dead')) return first;
    await directory.refresh();
    return first.map(([delivery, read]) => [
      delivery,
      read.kind === 'unknown' || read.kind === 'dead' ? readCancel(delivery, this.#deps) : read,
    ]);
  }

  async #cancel(wanted: readonly Wanted[]): Promise<AddressedReply[]> {
    const replies: AddressedReply[] = [];
    for (const part of distinctParts(wanted, ({ request }) => request.jobId)) {
      const requests = part.map(({ request }) => request);
      const answers = await this.#call(
        'lock',
        part.map(({ delivery }) => delivery),
        () => this.#deps.cancellations.cancelBatch(requests),
      );
      const running = answers.flatMap((answer) => (answer.kind === 'cancelled' ? [answer.job] : []));
      for (let i = 0; i < running.length; i++) this.#deps.metrics.ended('cancelled');
      const held = running.filter(hasWorker);
      await this.#deps.failures.release(held);
      await this.#deps.failures.tellWorkers(held);
      for (const [{ delivery, request }, answer] of answered(part, answers)) {
        const reply = addressed(delivery, answerReply(request.jobId, answer), 'cancel');
        if (reply !== null) replies.push(reply);
      }
    }
    return replies;
  }

  /** Keeps what nobody may be answered for in the dead-letter queue. */
  async #bury(reads: readonly (readonly [Delivery, Read])[]): Promise<void> {
    const dead = reads.flatMap(([delivery, one]) =>
      one.kind === 'dead' ? [deadLetter(delivery, one.why)] : [],
    );
    const outcomes = await this.#deps.publisher.publishBatch(dead);
    if (outcomes.some((outcome) => outcome !== 'confirmed'))
      throw new StoreError('rabbitmq', 'dead letters without a confirm');
  }

  async #trace(reads: readonly (readonly [Delivery, Read])[]): Promise<void> {
    const { traces, clock, log } = this.#deps;
    const events = reads.flatMap(([delivery, one]) =>
      'why' in one && !isNotedAlready(one) ? [refusedEvent(delivery, one, clock)] : [],
    );
    if (events.length > 0) await writeDocuments({ ...NO_DOCUMENTS, events }, traces, log);
  }

  #call<T>(stage: 'lock' | 'reply', deliveries: readonly Delivery[], call: () => Promise<T>): Promise<T> {
    const isWanted = () => anyLive(deliveries.map((delivery) => ({ delivery })));
    return this.#deps.stages.run(stage, deliveries.length, isWanted, call);
  }
}

/** Decides what a cancellation is: first who sent it and whether it sends too much, then the bytes, then the account. No I/O. The first fault wins and names its field. */
export function readCancel(
  delivery: Delivery,
  { directory, limits }: Pick<CancelIntakeDeps, 'directory' | 'limits'>,
): Read {
  const sender = identifySender({ delivery, source: 'pool', isPoison: false }, directory);
  if (!sender.ok) {
    const outcome = 'outcome' in sender.no ? sender.no.outcome : null;
    const why = outcome?.kind === 'dead' ? outcome.refusal : refusal('TG_SENDER_UNKNOWN', 'user_id');
    return { kind: 'dead', why };
  }
  const limited = delivery.redelivered ? null : limits.ofPublisher(sender.value);
  if (limited) return { kind: 'limited', why: limited.refusal, job: null, event: limited.event };
  const parsed = parseCancel(delivery.body);
  if (!parsed.ok) return { kind: 'refused', why: parsed.fault, job: null };
  const { id, account: name, namespace } = parsed.value;
  if (!isUuidV7(id)) return { kind: 'refused', why: refusal('TG_JOB_ID_INVALID', 'id'), job: null };
  const account = directory.account(name);
  if (!account) return { kind: 'unknown', why: refusal('TG_ACCOUNT_UNKNOWN', 'account'), job: id };
  if (!sender.value.accountIds.has(account.id))
    return { kind: 'unknown', why: refusal('TG_ACCOUNT_NOT_ENTITLED', 'account'), job: id };
  const namespaceId = account.namespaces.get(namespace);
  if (namespaceId === undefined)
    return { kind: 'unknown', why: refusal('TG_NAMESPACE_UNKNOWN', 'namespace'), job: id };
  const request = { jobId: id, accountId: account.id, namespaceId, publisherId: sender.value.id };
  return { kind: 'wanted', wanted: { delivery, request } };
}

function refusedReply([delivery, one]: readonly [Delivery, Read]): AddressedReply[] {
  if (!('why' in one) || one.kind === 'dead') return [];
  const reply = addressed(delivery, refusalReply(one.job, 'refused', one.why), 'cancel');
  if (reply === null) return [];
  return [one.kind === 'limited' ? { ...reply, isOnce: true } : reply];
}

function isNotedAlready(one: Read): boolean {
  return one.kind === 'limited' && one.event === null;
}

function refusedEvent(
  delivery: Delivery,
  one: Extract<Read, { readonly why: Refusal }>,
  clock: Clock,
): EventDocument {
  const { code, field, message } = one.why;
  const job = 'job' in one ? one.job : null;
  const body = createHash('sha256').update(delivery.body).digest('base64url');
  return {
    key: one.kind === 'limited' && one.event ? one.event : `cancel:${code}:${job ?? ''}:${body}`,
    kind: 'refusal',
    code,
    field,
    message,
    job,
    namespace: null,
    sender: delivery.userId,
    atMs: clock.nowMs(),
  };
}

/** What whoever cancelled is told: `cancelled`, or why not. */
function answerReply(jobId: string, answer: CancelAnswer): ReplyMessage {
  switch (answer.kind) {
    case 'recorded':
    case 'cancelled':
      return failureReply(jobId, 'cancelled', 'TG_JOB_CANCELLED');
    case 'ended':
      return answer.state === 'cancelled'
        ? failureReply(jobId, 'cancelled', 'TG_JOB_CANCELLED')
        : refusalReply(jobId, 'refused', refusal('TG_CANCEL_LATE', 'id'));
    case 'account':
      return refusalReply(jobId, 'refused', refusal('TG_JOB_ID_IN_USE', 'id'));
    case 'window':
      return refusalReply(jobId, 'refused', refusal('TG_JOB_ID_WINDOW', 'id'));
    default:
      return answer satisfies never;
  }
}
