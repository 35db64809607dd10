import type { SuspectCounts } from '../src/dispatcher/suspects.ts';
import type { RetryAlarms } from '../src/dispatcher/failure-owner.ts';
import { EXCHANGE, jobKey } from '../src/contracts/names.ts';
import { StoreError } from '../src/errors.ts';
import type { Attempts, Cancellations, CreditLocks, Settlements, Sweeps } from '../src/ledger/types.ts';
import type { Publisher } from '../src/broker/types.ts';
import type { AttemptDocument, Trace, TraceSink, TraceStore } from '../src/traces/types.ts';
import type { FleetRegistry, LeaseUpkeep, SlotLeases } from '../src/workers/types.ts';
import type { Faults } from './faults.ts';
import type { SimFleet } from './fleet.ts';
import type { SimLedger } from './ledger.ts';
import type { Timeline } from './timeline.ts';

type Store = ConstructorParameters<typeof StoreError>[0];

/** A server that answers calls: over a network that loses some, and away at times. */
export class SimServer {
  readonly #store: Store;
  readonly #timeline: Timeline;
  readonly #faults: Faults;
  #awayUntilMs = 0;

  constructor(store: Store, timeline: Timeline, faults: Faults) {
    this.#store = store;
    this.#timeline = timeline;
    this.#faults = faults;
  }

  /** Fails every call for `forMs`. */
  goAway(forMs: number): void {
    this.#awayUntilMs = Math.max(this.#awayUntilMs, this.#timeline.nowMs + forMs);
  }

  /**
   * One call of a process. What it does happens at the server, once, whoever has died meanwhile; the answer reaches the caller only
   * while it lives. A fault either keeps the call from arriving, or the answer from coming back.
   */
  call<T>(isAlive: () => boolean, name: string, act: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const answer = (call: () => void) =>
      this.#timeline.at(this.#faults.delayMs(), () => {
        if (isAlive()) call();
      });
    const fail = (why: string) => answer(() => reject(new StoreError(this.#store, `${name}: ${why}`)));
    this.#timeline.at(this.#faults.delayMs(), () => {
      if (this.#timeline.nowMs < this.#awayUntilMs) return fail('away');
      if (this.#faults.strikes('call_lost')) {
        this.#timeline.note(`${this.#store} ${name}: the call is lost`);
        return fail('lost');
      }
      const value = act();
      if (this.#faults.strikes('answer_lost')) {
        this.#timeline.note(`${this.#store} ${name}: done, the answer is lost`);
        return fail('no answer');
      }
      answer(() => resolve(value));
    });
    return promise;
  }
}

/** One process's line to the servers. */
export interface Caller {
  readonly isAlive: () => boolean;
  readonly timeline: Timeline;
  readonly name: string;
}

/** How each of a batch was answered, for the log. */
const kinds =
  (ids: readonly { readonly jobId: string }[]) => (answers: readonly ({ readonly kind: string } | null)[]) =>
    ids.map(({ jobId }, i) => `${short(jobId)} ${answers[i]?.kind ?? 'no row'}`).join(', ');

/** The ledger as one coordinator calls it. */
export function ledgerOver(
  server: SimServer,
  ledger: SimLedger,
  { isAlive, timeline, name }: Caller,
): CreditLocks & Attempts & Settlements & Sweeps & Cancellations {
  const call = <T>(what: string, act: () => T, tell: (value: T) => string | null = () => null) =>
    server.call(isAlive, what, () => {
      const value = act();
      const line = tell(value);
      if (line !== null) timeline.note(`${name} ${what}: ${line}`);
      return value;
    });
  return {
    lockBatch: (jobs) => call('lock', () => ledger.lockBatch(jobs), kinds(jobs)),
    lookUpBatch: (jobs) => call('look up', () => ledger.lookUpBatch(jobs), kinds(jobs)),
    endUnlockedBatch: (jobs) => call('end unlocked', () => ledger.endUnlockedBatch(jobs), kinds(jobs)),
    settleBatch: (jobs) => call('settle', () => ledger.settleBatch(jobs), kinds(jobs)),
    giveUpBatch: (jobs) => call('give up', () => ledger.giveUpBatch(jobs), kinds(jobs)),
    readRetries: (ids) => call('read retries', () => ledger.readRetries(ids)),
    placeBatch: (jobs) => call('place', () => ledger.placeBatch(jobs), kinds(jobs)),
    claimRetries: (limit) => call('claim retries', () => ledger.claimRetries(limit)),
    owedAttempts: (limit) => call('owed attempts', () => ledger.owedAttempts(limit)),
    clearOwedAttempts: (owed) => call('clear attempts', () => ledger.clearOwedAttempts(owed)),
    cancelBatch: (jobs) => call('cancel', () => ledger.cancelBatch(jobs), kinds(jobs)),
    sweepOverdue: (limit) =>
      call(
        'overdue',
        () => ledger.sweepOverdue(limit),
        (ended) => (ended.length === 0 ? null : ended.map(({ jobId }) => short(jobId)).join(', ')),
      ),
    owedReplies: (limit) => call('owed replies', () => ledger.owedReplies(limit)),
    clearOwed: (ids) =>
      call(
        'clear owed',
        () => ledger.clearOwed(ids),
        () => ids.map((id) => short(id)).join(', '),
      ),
    openAttempts: (after, limit) => call('open attempts', () => ledger.openAttempts(after, limit)),
  };
}

/** The live fleet as one coordinator calls it. `wakes`: who is told of free slots. */
export function fleetOver(
  server: SimServer,
  fleet: SimFleet,
  { isAlive }: Caller,
  wakes: Set<(pool: string) => void>,
  isListening: () => boolean,
): SlotLeases & LeaseUpkeep & FleetRegistry {
  const call = <T>(what: string, act: () => T) => server.call(isAlive, what, act);
  return {
    reserveBatch: (requests) => call('reserve', () => fleet.reserveBatch(requests)),
    releaseBatch: (leases) => call('release', () => fleet.releaseBatch(leases)),
    poolSlots: () => call('slots', () => fleet.poolSlots()),
    onWake: (listener) => {
      wakes.add(listener);
      return () => void wakes.delete(listener);
    },
    expireLeases: (limit) => call('expire', () => fleet.expireLeases(limit)),
    rebuild: (open) => call('rebuild', () => fleet.rebuild(open)),
    open: (_cell, epochMs) => call('open', () => fleet.open(epochMs)),
    progress: (attempts) => call('progress', () => fleet.progress(attempts)),
    apply: (message, pools) => call('apply', () => fleet.apply(message, pools)),
    takeLost: () => (isListening() ? call('take lost', () => fleet.takeLost()) : Promise.resolve([])),
    forget: (node, session) => call('forget', () => fleet.forget(node, session)),
    list: () => call('list', () => fleet.list()),
    sessions: () => call('sessions', () => fleet.sessions()),
    state: () => call('state', () => fleet.state()),
    cells: () => call('cells', () => fleet.cells()),
    cellOf: () => 0,
    leases: () => never(),
    occupancy: () => never(),
  };
}

/** For the audit alone. */
function never(): never {
  throw new Error('the simulation has no audit');
}

/** What MongoDB has, and what is still on its way there. */
export class SimTraces {
  readonly requests = new Map<string, Buffer>();
  readonly routes = new Set<string>();
  readonly attempts = new Map<string, AttemptDocument>();
  readonly events = new Map<string, string>();
  /** Documents in the spool queue. */
  spooled = 0;
  readonly #timeline: Timeline;
  readonly #faults: Faults;

  constructor(timeline: Timeline, faults: Faults) {
    this.#timeline = timeline;
    this.#faults = faults;
  }

  /** Both sides as one coordinator sees them. */
  over(server: SimServer, { isAlive }: Caller): { readonly sink: TraceSink; readonly store: TraceStore } {
    const write = <T>(documents: readonly T[], keep: (one: T) => void) =>
      documents.length === 0
        ? Promise.resolve()
        : server.call(isAlive, 'write', () => this.#write(() => documents.forEach(keep)));
    return {
      sink: {
        writeRequests: (all) => write(all, (one) => this.#once(this.requests, one.job, one.body)),
        writeRoutes: (all) => write(all, (one) => void this.routes.add(`${one.job}.${one.routing.attempt}`)),
        writeAttempts: (all) =>
          write(all, (one) => this.#once(this.attempts, `${one.job}.${one.attempt}`, one)),
        writeEvents: (all) => write(all, (one) => this.#once(this.events, one.key, one.code)),
      },
      store: {
        findJob: (jobId) => server.call(isAlive, 'find job', () => this.#find(jobId)),
        findBodies: (jobIds) =>
          server.call(isAlive, 'find bodies', () => {
            const found = jobIds.map((id) => [id, this.requests.get(id)] as const);
            return new Map(found.flatMap(([id, body]) => (body ? [[id, body] as const] : [])));
          }),
        findByTime: () => Promise.resolve([]),
      },
    };
  }

  /** Now, or by the spool queue, which somebody drains later. */
  #write(keep: () => void): void {
    if (!this.#faults.strikes('spooled')) return keep();
    this.spooled += 1;
    this.#timeline.at(this.#timeline.random.share() * 5_000, () => {
      this.spooled -= 1;
      keep();
    });
  }

  #once<T>(documents: Map<string, T>, id: string, document: T): void {
    if (!documents.has(id)) documents.set(id, document);
  }

  #find(jobId: string): Trace | null {
    const body = this.requests.get(jobId);
    if (!body) return null;
    const attempts = [...this.attempts.values()].filter(({ job }) => job === jobId);
    const request = {
      job: jobId,
      account: 'acme',
      namespace: 'acme/prod',
      publisher: 'web',
      model: 'small',
      modelVersion: 2,
      kind: 'chat',
      priority: 'interactive',
      receivedAtMs: 0,
      body,
      routing: null,
      traceparent: null,
    };
    return { job: jobId, request, routes: [], attempts, events: [] };
  }
}

/** The alarm clock: rings at whichever coordinator lives, or not at all. */
export function alarmsOver(
  timeline: Timeline,
  faults: Faults,
  publisherOf: () => Publisher | null,
): RetryAlarms {
  return {
    set: async (alarms) => {
      for (const { jobId, attempt, pool, priority, delayMs, remainingMs } of alarms) {
        if (faults.strikes('alarm_lost')) continue;
        timeline.at(delayMs, () => {
          void publisherOf()?.publish({
            exchange: EXCHANGE.retry,
            routingKey: jobKey(pool, priority),
            body: Buffer.from(JSON.stringify({ v: 1, job: jobId, attempt })),
            messageId: `${jobId}.${attempt}`,
            expirationMs: Math.max(1, remainingMs),
            mandatory: true,
          });
        });
      }
    },
  };
}

/** Tries of suspect messages, in Redis. */
export function suspectsOver(
  server: SimServer,
  counts: Map<string, number>,
  { isAlive }: Caller,
): SuspectCounts {
  return {
    count: (queue, digest) =>
      server.call(isAlive, 'suspect', () => {
        const tries = (counts.get(queue + digest) ?? 0) + 1;
        counts.set(queue + digest, tries);
        return tries;
      }),
    clear: (queue, digest) => server.call(isAlive, 'unsuspect', () => void counts.delete(queue + digest)),
  };
}

/** The end of an id, for people. */
export function short(jobId: string): string {
  return `j${Number.parseInt(jobId.slice(-6), 16)}`;
}
