import { createHash } from 'node:crypto';
import type { Refusal } from '../errors.ts';
import type { EndedJob, ExistingJob } from '../ledger/types.ts';
import type {
  AttemptDocument,
  EventDocument,
  RequestDocument,
  RouteDocument,
  RoutingEntry,
} from '../traces/types.ts';
import { classOfCode } from './failure-policy.ts';
import type { Arrival, Dispatched, Known, Resumed } from './types.ts';

/** The request as it came, with where attempt 1 went and why (`routing` null: it ended before a lock). */
export function requestDocument(
  known: Known,
  receivedAtMs: number,
  routing: RoutingEntry | null,
): RequestDocument {
  const { job, publisher, model, arrival } = known;
  return {
    job: job.id,
    account: job.account,
    namespace: job.namespace,
    publisher: publisher.name,
    model: job.model,
    modelVersion: model?.version ?? null,
    kind: job.kind,
    priority: job.priority,
    receivedAtMs,
    body: arrival.delivery.body,
    routing,
    traceparent: known.identity.traceparent,
  };
}

/** The routing line of one dispatched attempt. */
export function routingEntry(
  { locked, dispatchedAtMs, dispatchMs }: Dispatched,
  receivedAtMs: number,
): RoutingEntry {
  const { choice } = locked;
  return {
    attempt: locked.attempt,
    node: locked.node,
    session: locked.session,
    isWarm: choice?.isWarm ?? null,
    slotsFree: choice?.slotsFree ?? null,
    workersFree: choice?.workersFree ?? null,
    receivedAtMs,
    lockedAtMs: locked.lockedAtMs,
    dispatchedAtMs,
    dispatchMs,
  };
}

/** Where a later attempt went, what ran it, and why the one before was given up. */
export function routeDocument({ jobId, model, resumed }: Resumed, routing: RoutingEntry): RouteDocument {
  const { namespace, last } = resumed;
  return { job: jobId, namespace, model: model.model, modelVersion: model.version, reason: last, routing };
}

/** The routing line of an attempt that an earlier coordinator dispatched; it may have died before it could write it. */
export function earlierRouting(
  { attempt, node, session }: ExistingJob,
  receivedAtMs: number,
): RoutingEntry | null {
  if (node === null || session === null) return null;
  const forgotten = {
    isWarm: null,
    slotsFree: null,
    workersFree: null,
    dispatchedAtMs: null,
    dispatchMs: null,
  };
  return { attempt, node, session, ...forgotten, receivedAtMs, lockedAtMs: receivedAtMs };
}

/** The last attempt of a job that ended without a result: given up, overdue or cancelled. */
export function endedWithoutResult(job: EndedJob): AttemptDocument {
  return {
    job: job.jobId,
    attempt: job.attempt,
    namespace: job.namespace,
    node: job.node ?? '',
    session: job.session ?? 0,
    outcome: outcomeOf(job),
    code: job.code,
    decision: decisionOf(job),
    endedAtMs: job.endedAtMs,
    chargedMicro: job.chargedMicro,
    lockedMicro: job.lockedMicro,
    result: null,
  };
}

/** A job that failed before its time was over was given up for good; of the others nothing was decided. */
function decisionOf(job: EndedJob): AttemptDocument['decision'] {
  if (outcomeOf(job) !== 'lost') return null;
  return { class: classOfCode(job.code), action: 'fail', isCounted: true, delayMs: null };
}

function outcomeOf({ state, code }: EndedJob): 'cancelled' | 'expired' | 'lost' {
  if (state === 'cancelled') return 'cancelled';
  return code === 'TG_JOB_OVERDUE' ? 'expired' : 'lost';
}

/** A coded no, kept where it can be found by job, sender or time. A redelivery makes the same `key`, hence no second event. */
export function refusalEvent(
  arrival: Arrival,
  why: Refusal,
  known: Known | null,
  nowMs: number,
): EventDocument {
  const { delivery, parsed } = arrival;
  const job = parsed?.id ?? arrival.jobId ?? delivery.messageId?.slice(0, 64) ?? null;
  const body = createHash('sha256').update(delivery.body).digest('base64url');
  return {
    key: `${why.code}:${job ?? ''}:${body}`,
    kind: 'refusal',
    code: why.code,
    field: why.field,
    message: why.message,
    job,
    namespace: known?.job.namespace ?? null,
    sender: delivery.userId,
    atMs: nowMs,
  };
}

/** The one event of a minute for all that was refused with this code for this account or publisher; it shows the first of them. */
export function limitEvent(arrival: Arrival, why: Refusal, key: string, nowMs: number): EventDocument {
  const { delivery, parsed } = arrival;
  return {
    key,
    kind: 'refusal',
    code: why.code,
    field: why.field,
    message: why.message,
    job: parsed?.id ?? null,
    namespace: parsed?.namespace ?? null,
    sender: delivery.userId,
    atMs: nowMs,
  };
}
