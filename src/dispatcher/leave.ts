import type { Publisher } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import { isUuidV7 } from '../ids.ts';
import type { Log, Metrics } from '../ops/types.ts';
import type { EventDocument, RequestDocument, RouteDocument, TraceSink } from '../traces/types.ts';
import { answered } from './answered.ts';
import { deadLetter } from './dead-letter.ts';
import {
  earlierRouting,
  limitEvent,
  refusalEvent,
  requestDocument,
  routeDocument,
  routingEntry,
} from './documents.ts';
import type { FinishedJob } from './finished.ts';
import { addressed, type Replier, refusalReply } from './replies.ts';
import { anyLive, type StageRunner } from './stage-runner.ts';
import { type Documents, NO_DOCUMENTS, writeDocuments } from './trace.ts';
import type { AddressedReply, Arrival, Dispatched, Exit, Outcome } from './types.ts';

/** What an end needs. */
export interface LeaveDeps {
  readonly publisher: Publisher;
  readonly replier: Replier;
  readonly traces: TraceSink;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly stages: StageRunner;
}

/** Tells every sender that is owed an answer. Comes before the trace, so that a slow MongoDB delays nobody's "no". */
export async function replyToExits(exits: readonly Exit[], deps: LeaveDeps): Promise<void> {
  const replies = exits.map(replyOf).filter((reply) => reply !== null);
  if (replies.length === 0) return;
  const isWanted = () => anyLive(exits.map((exit) => exit.arrival));
  await deps.stages.run('reply', replies.length, isWanted, deps.replier.sending(replies));
}

function replyOf({ arrival, outcome }: Exit): AddressedReply | null {
  const { replyTo, correlationId, messageId } = arrival.delivery;
  const job = arrival.parsed?.id ?? (messageId !== null && isUuidV7(messageId) ? messageId : null);
  switch (outcome.kind) {
    case 'refused':
      return addressed({ replyTo, correlationId }, refusalReply(job, outcome.state, outcome.refusal));
    case 'limited': {
      const reply = addressed({ replyTo, correlationId }, refusalReply(job, 'refused', outcome.refusal));
      return reply && { ...reply, isOnce: true };
    }
    case 'answered':
      return outcome.reply;
    case 'given_up':
    case 'dead':
    case 'waiting':
    case 'done':
    case 'later':
    case 'requeued':
      return null;
    default:
      return outcome satisfies never;
  }
}

/** Writes down what was dispatched, durably, before it is acknowledged. */
export async function traceDispatched(sent: readonly Dispatched[], deps: LeaveDeps): Promise<void> {
  const arrivals = sent.map(({ locked }) => locked.admitted.arrival);
  await write({ ...NO_DOCUMENTS, ...routings(sent, receiptIn(deps.clock)) }, arrivals, deps);
}

/** Writes down what left without a dispatch, durably, before it is acknowledged: requests, and refusals as events. */
export async function traceLeft(
  exits: readonly Exit[],
  finished: readonly FinishedJob[],
  deps: LeaveDeps,
): Promise<void> {
  const nowMs = deps.clock.nowMs();
  const receivedAtMs = receiptIn(deps.clock);
  const givenUp = exits.flatMap(({ outcome }) =>
    outcome.kind === 'given_up' ? [{ locked: outcome.locked, dispatchedAtMs: null, dispatchMs: null }] : [],
  );
  const { requests, routes } = routings(givenUp, receivedAtMs);
  const events: EventDocument[] = [];
  for (const { arrival, outcome } of exits) {
    if (outcome.kind === 'refused' || outcome.kind === 'dead') {
      const known = outcome.kind === 'refused' ? outcome.known : null;
      events.push(refusalEvent(arrival, outcome.refusal, known, nowMs));
      if (known) requests.push(requestDocument(known, receivedAtMs(arrival), null));
    } else if (outcome.kind === 'limited' && outcome.event !== null) {
      events.push(limitEvent(arrival, outcome.refusal, outcome.event, nowMs));
    }
  }
  // Whoever dispatched it may have died before its request was written; where it was, this is a duplicate and does nothing.
  for (const { known, existing } of finished) {
    if (existing.attempt === 0) continue;
    const atMs = receivedAtMs(known.arrival);
    requests.push(requestDocument(known, atMs, earlierRouting(existing, atMs)));
  }
  const arrivals = exits.map(({ arrival }) => arrival);
  await write({ requests, routes, attempts: [], events }, arrivals, deps);
}

/** Where attempts went: with the request of a first one, as a route of a later one. */
function routings(sent: readonly Dispatched[], receivedAtMs: (arrival: Arrival) => number) {
  const requests: RequestDocument[] = [];
  const routes: RouteDocument[] = [];
  for (const one of sent) {
    const { admitted } = one.locked;
    const atMs = receivedAtMs(admitted.arrival);
    const routing = routingEntry(one, atMs);
    if (admitted.resumed === null) requests.push(requestDocument(admitted, atMs, routing));
    else routes.push(routeDocument(admitted, routing));
  }
  return { requests, routes };
}

/** The wall-clock time of receipt, from the monotonic one. */
function receiptIn(clock: Clock): (arrival: Arrival) => number {
  const skewMs = clock.nowMs() - clock.monotonicMs();
  return ({ delivery }) => delivery.receivedMs + skewMs;
}

async function write(documents: Documents, arrivals: readonly Arrival[], deps: LeaveDeps): Promise<void> {
  const count = documents.requests.length + documents.routes.length + documents.events.length;
  if (count === 0) return;
  const isWanted = () => anyLive(arrivals);
  await deps.stages.run('trace_request', count, isWanted, () =>
    writeDocuments(documents, deps.traces, deps.log),
  );
}

type DeadExit = Exit & { readonly outcome: Extract<Outcome, { kind: 'dead' }> };

function isDead(exit: Exit): exit is DeadExit {
  return exit.outcome.kind === 'dead';
}

/** Keeps what nobody may be answered for in the dead-letter queue; what the broker did not confirm goes back instead. */
export async function buryDead(exits: readonly Exit[], deps: LeaveDeps): Promise<Exit[]> {
  const dead = exits.filter(isDead);
  if (dead.length === 0) return [...exits];
  const outcomes = await deps.publisher.publishBatch(
    dead.map(({ arrival, outcome }) => deadLetter(arrival.delivery, outcome.refusal)),
  );
  const lost = new Set<Exit>();
  for (const [exit, outcome] of answered(dead, outcomes)) if (outcome !== 'confirmed') lost.add(exit);
  return exits.map((exit) =>
    lost.has(exit) ? { arrival: exit.arrival, outcome: { kind: 'requeued' } } : exit,
  );
}

/** What the line does with a delivery that left it. */
export type Farewell = 'acknowledge' | 'requeue' | 'hold' | 'ask_again';

/** The one place that turns an outcome into an answer to the broker. */
export function farewell(exit: Exit): Farewell {
  const { kind } = exit.outcome;
  switch (kind) {
    case 'refused':
    case 'limited':
    case 'dead':
    case 'answered':
    case 'done':
    case 'given_up':
      return 'acknowledge';
    case 'requeued':
      return 'requeue';
    case 'waiting':
      return 'hold';
    case 'later':
      return 'ask_again';
    default:
      return kind satisfies never;
  }
}

/** Counts how the batch ended, once per job. */
export function countExits(exits: readonly Exit[], metrics: Metrics): void {
  for (const { outcome } of exits) {
    if ('refusal' in outcome) metrics.refused(outcome.refusal.code);
    if (outcome.kind === 'refused' && outcome.state === 'expired') metrics.ended('expired');
  }
}
