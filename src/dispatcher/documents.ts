import { createHash } from 'node:crypto';
import type { Refusal } from '../errors.ts';
import type { EndedJob, ExistingJob } from '../ledger/types.ts';
import type { AttemptDocument, EventDocument, RequestDocument, RoutingEntry } from '../traces/types.ts';
import type { Arrival, Dispatched, Known } from './types.ts';

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

/** An attempt that ended without a result: lost, overdue, or its node had no queue. */
export function endedWithoutResult(job: EndedJob): AttemptDocument {
  return {
    job: job.jobId,
    attempt: job.attempt,
    namespace: job.namespace,
    node: job.node ?? '',
    session: job.session ?? 0,
    outcome: job.code === 'TG_JOB_OVERDUE' ? 'expired' : 'lost',
    code: job.code,
    endedAtMs: job.endedAtMs,
    chargedMicro: job.chargedMicro,
    lockedMicro: job.lockedMicro,
    result: null,
  };
}

/** A coded no, kept where it can be found by job, sender or time. A redelivery makes the same `key`, hence no second event. */
export function refusalEvent(
  arrival: Arrival,
  why: Refusal,
  known: Known | null,
  nowMs: number,
): EventDocument {
  const { delivery, parsed } = arrival;
  const job = parsed?.id ?? delivery.messageId?.slice(0, 64) ?? null;
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
