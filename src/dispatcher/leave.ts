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
import { type Documents, writeDocuments } from './trace.ts';
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

/** Writes what happened, durably, before anything is acknowledged: requests, and refusals as events. */
export async function traceBatch(
  dispatched: readonly Dispatched[],
  exits: readonly Exit[],
  finished: readonly FinishedJob[],
  deps: LeaveDeps,
): Promise<void> {
  const documents = collect(dispatched, exits, finished, deps.clock);
  const count = documents.requests.length + documents.routes.length + documents.events.length;
  if (count === 0) return;
  const isWanted = () =>
    [...dispatched.map((one) => one.locked.admitted), ...exits].some((one) => one.arrival.delivery.isLive);
  await deps.stages.run('trace_request', count, isWanted, () =>
    writeDocuments(documents, deps.traces, deps.log),
  );
}

function collect(
  dispatched: readonly Dispatched[],
  exits: readonly Exit[],
  finished: readonly FinishedJob[],
  clock: Clock,
): Documents {
  const nowMs = clock.nowMs();
  // The wall-clock time of receipt, from the monotonic one.
  const skewMs = nowMs - clock.monotonicMs();
  const receivedAt = (arrival: Arrival) => arrival.delivery.receivedMs + skewMs;
  const requests: RequestDocument[] = [];
  const routes: RouteDocument[] = [];
  const events: EventDocument[] = [];
  const addRouting = (one: Dispatched): void => {
    const { admitted } = one.locked;
    const atMs = receivedAt(admitted.arrival);
    const routing = routingEntry(one, atMs);
    if (admitted.resumed === null) requests.push(requestDocument(admitted, atMs, routing));
    else routes.push(routeDocument(admitted, routing));
  };
  for (const one of dispatched) addRouting(one);
  for (const { arrival, outcome } of exits) {
    if (outcome.kind === 'refused' || outcome.kind === 'dead') {
      const known = outcome.kind === 'refused' ? outcome.known : null;
      events.push(refusalEvent(arrival, outcome.refusal, known, nowMs));
      if (known) requests.push(requestDocument(known, receivedAt(arrival), null));
    } else if (outcome.kind === 'limited') {
      if (outcome.event !== null) events.push(limitEvent(arrival, outcome.refusal, outcome.event, nowMs));
    } else if (outcome.kind === 'given_up') {
      addRouting({ locked: outcome.locked, dispatchedAtMs: null, dispatchMs: null });
    }
  }
  // Whoever dispatched it may have died before its request was written; where it was, this is a duplicate and does nothing.
  for (const { known, existing } of finished) {
    if (existing.attempt === 0) continue;
    const atMs = receivedAt(known.arrival);
    requests.push(requestDocument(known, atMs, earlierRouting(existing, atMs)));
  }
  return { requests, routes, attempts: [], events };
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
