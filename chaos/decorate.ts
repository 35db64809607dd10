import type { Broker, ConsumerChannel, Delivery, OutMessage, Publisher } from '../src/broker/types.ts';
import type { Clock } from '../src/clock.ts';
import { EXCHANGE, QUEUE } from '../src/contracts/names.ts';
import type { Decorate, Seams } from '../src/daemon/base.ts';
import { type Failpoints, SITES, type Site } from './failpoints.ts';

/** A clock that can be stepped. Monotonic time goes on, as it does on a machine whose date is set. */
export interface SteppedClock extends Clock {
  /** From now on wall-clock time is off by this many milliseconds. */
  step(ms: number): void;
}

/** The machine's clock, with a hand on it. */
export function steppedClock(clock: Clock): SteppedClock {
  let offsetMs = 0;
  return {
    ...clock,
    nowMs: () => clock.nowMs() + offsetMs,
    step: (ms) => {
      offsetMs = ms;
    },
  };
}

/** Puts the failpoints into the seams of a daemon, and `clock` into its hands. What it does not know it leaves as it is. */
export function decorateWith(points: Failpoints, clock: SteppedClock): Decorate {
  const wrap: { readonly [K in keyof Seams]: (seam: Seams[K]) => Seams[K] } = {
    clock: () => clock,
    broker: (broker) => brokerWith(points, broker),
    slots: (slots) =>
      overlay(slots, {
        reserveBatch: (requests) => points.around(SITES.reserve, () => slots.reserveBatch(requests)),
        releaseBatch: (leases) => points.around(SITES.release, () => slots.releaseBatch(leases)),
      }),
    locks: (locks) =>
      overlay(locks, {
        lookUpBatch: (jobs) => points.around(SITES.look_up, () => locks.lookUpBatch(jobs)),
        lockBatch: (requests) => points.around(SITES.lock, () => locks.lockBatch(requests)),
        endUnlockedBatch: (requests) =>
          points.around(SITES.end_unlocked, () => locks.endUnlockedBatch(requests)),
      }),
    attempts: (attempts) =>
      overlay(attempts, {
        giveUpBatch: (requests) => points.around(SITES.give_up, () => attempts.giveUpBatch(requests)),
        readRetries: (ids) => points.around(SITES.resume, () => attempts.readRetries(ids)),
        placeBatch: (requests) => points.around(SITES.place, () => attempts.placeBatch(requests)),
        claimRetries: (limit) => points.around(SITES.claim, () => attempts.claimRetries(limit)),
        clearOwedAttempts: (names) =>
          points.around(SITES.clear_owed_attempts, () => attempts.clearOwedAttempts(names)),
      }),
    settlements: (settlements) =>
      overlay(settlements, {
        settleBatch: (requests) => points.around(SITES.settle, () => settlements.settleBatch(requests)),
      }),
    sweeps: (sweeps) =>
      overlay(sweeps, {
        sweepOverdue: (limit) => points.around(SITES.overdue, () => sweeps.sweepOverdue(limit)),
        clearOwed: (ids) => points.around(SITES.clear_owed, () => sweeps.clearOwed(ids)),
      }),
    traces: (traces) =>
      overlay(traces, {
        writeRequests: (documents) =>
          points.around(SITES.trace_request, () => traces.writeRequests(documents)),
        writeRoutes: (documents) => points.around(SITES.trace_route, () => traces.writeRoutes(documents)),
        writeAttempts: (documents) =>
          points.around(SITES.trace_attempt, () => traces.writeAttempts(documents)),
      }),
  };
  return (name, seam) => wrap[name](seam);
}

function brokerWith(points: Failpoints, broker: Broker): Broker {
  const publisher = publisherWith(points, broker.publisher);
  return overlay(broker, {
    publisher,
    openChannel: async (onGone) => channelWith(points, await broker.openChannel(onGone)),
  });
}

function publisherWith(points: Failpoints, publisher: Publisher): Publisher {
  return overlay(publisher, {
    publishBatch: (messages) => {
      const site = siteOf(messages[0]);
      const call = () => publisher.publishBatch(messages);
      return site === null ? call() : points.around(site, call, () => messages.map(() => 'unknown'));
    },
  });
}

/** A batch goes to one kind of address, so its first message tells. */
function siteOf(message: OutMessage | undefined): Site | null {
  if (message?.exchange === EXCHANGE.dispatch) return SITES.dispatch;
  if (message?.exchange === EXCHANGE.retry) return SITES.retry;
  if (message?.exchange !== '') return null;
  return message.routingKey === QUEUE.spool ? SITES.spool : SITES.reply;
}

/** First part of the names of a queue's delivery points, or null where there are none. */
function pointsOf(queue: string): 'in' | 'result' | null {
  if (queue === QUEUE.results) return 'result';
  return queue.startsWith('jobs.') ? 'in' : null;
}

function channelWith(points: Failpoints, channel: ConsumerChannel): ConsumerChannel {
  return overlay(channel, {
    consume: (queue, prefetch, onDelivery, onCancelled) => {
      const kind = pointsOf(queue);
      const receive = (delivery: Delivery) => {
        if (kind !== null) points.pass(`${kind}.delivered`);
        onDelivery(deliveryWith(points, delivery));
      };
      return channel.consume(queue, prefetch, receive, onCancelled);
    },
  });
}

function deliveryWith(points: Failpoints, delivery: Delivery): Delivery {
  const kind = pointsOf(delivery.queue);
  return overlay(delivery, {
    acknowledge: () => {
      if (delivery.queue === QUEUE.spool) points.pass('spool.drain.half');
      if (kind !== null) points.pass(`${kind}.before_ack`);
      delivery.acknowledge();
      // The answer itself leaves at the end of the turn.
      if (kind !== null) setImmediate(() => points.pass(`${kind}.acked`));
    },
  });
}

/** `target` with some members replaced; everything else, private parts and getters included, stays its own. */
function overlay<T extends object>(target: T, members: Partial<T>): T {
  const bound = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get: (_, key) => {
      if (Object.hasOwn(members, key)) return Reflect.get(members, key);
      if (bound.has(key)) return bound.get(key);
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      const method: unknown = value.bind(target);
      bound.set(key, method);
      return method;
    },
  });
}
