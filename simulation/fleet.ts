import type { FleetMessage } from '../src/contracts/fleet.ts';
import { modelOfPool } from '../src/contracts/names.ts';
import type {
  CellStanding,
  FleetOutcome,
  LeaseName,
  LiveWorker,
  OpenAttempt,
  Progress,
  ReserveAnswer,
  ReserveRequest,
  SessionLookup,
} from '../src/workers/types.ts';

interface Lease extends OpenAttempt {
  endsMs: number;
  progress: Progress;
}

interface Worker {
  readonly node: string;
  session: number;
  seq: number;
  state: 'live' | 'draining' | 'gone' | 'lost';
  slots: number;
  unleased: number;
  pools: readonly string[];
  /** Those of `pools` whose model is loaded. */
  warm: readonly string[];
  beatMs: number;
  /** Whether its silence would be noticed: not once it was given up, nor when it left without leases. */
  isWatched: boolean;
  /** What is known of a worker that left without leases is forgotten then. */
  keptUntilMs: number;
}

/** Free slots as the pools show them. */
interface Shown {
  readonly free: (worker: Worker) => number;
  /** Workers of the pool that have one. */
  readonly count: (pool: string) => number;
}

/** What makes any warm worker better than one that is not. */
const WARM = 8_192;

interface FleetInput {
  readonly nowMs: () => number;
  readonly bounds: {
    readonly leaseTtlMs: number;
    readonly lostAfterMs: number;
    readonly heartbeatMs: number;
  };
  /** A slot of the pool came free and somebody waits for it. */
  readonly onWake: (pool: string) => void;
  /** A release ended this lease. */
  readonly onReleased: (lease: LeaseName, by: LeaseName) => void;
}

/** The scripts of `src/workers/lua` in memory, one cell. Each method is one script: nothing comes between its lines. */
export class SimFleet {
  readonly leases = new Map<string, Lease>();
  readonly workers = new Map<string, Worker>();
  readonly #input: FleetInput;
  /** Pools that somebody waits for. */
  readonly waiting = new Set<string>();
  /** When attempts were released; all of it goes `heartbeatMs` after the last release. */
  readonly #released = new Map<string, number>();
  #releasedUntilMs = 0;
  /** Sessions whose open attempts are to be ended, until `forget`. */
  readonly lost = new Map<string, { readonly node: string; readonly session: number }>();
  /** When the first call after it was emptied came. */
  #epochMs: number | null = null;
  #isOpen = false;
  #watch: { sinceMs: number; lastMs: number } | null = null;

  constructor(input: FleetInput) {
    this.#input = input;
  }

  /** FLUSHALL. */
  empty(): void {
    this.leases.clear();
    this.workers.clear();
    this.waiting.clear();
    this.#released.clear();
    this.lost.clear();
    this.#watch = null;
    this.#epochMs = null;
    this.#isOpen = false;
  }

  reserveBatch(requests: readonly ReserveRequest[]): ReserveAnswer[] {
    const nowMs = this.#begin();
    let shown = this.#shown();
    const workersFree = new Map<string, number>();
    const choice = ({ node, session, warm }: Worker, pool: string, slotsFree: number) => {
      const count = workersFree.get(pool) ?? shown.count(pool);
      workersFree.set(pool, count);
      return { node, session, isWarm: warm.includes(pool), slotsFree, workersFree: count };
    };
    const ended: Lease[] = [];
    const standing = requests.map((request): ReserveAnswer | null => {
      const lease = this.leases.get(request.jobId);
      if (!lease) return null;
      const worker = this.workers.get(lease.node);
      const isGood = worker?.state === 'live' && worker.session === lease.session;
      if (worker && isGood && lease.attempt >= request.attempt) {
        lease.endsMs = nowMs + this.#input.bounds.leaseTtlMs;
        return { kind: 'had', ...choice(worker, lease.pool, this.free(worker) + 1) };
      }
      ended.push(lease);
      return null;
    });
    this.#drop(ended);
    shown = this.#shown();
    const taken = new Set<string>();
    const answers = requests.map((request, i): ReserveAnswer => {
      const answer = standing[i] ?? this.#find(request, shown);
      if ('kind' in answer) return answer;
      const got = { kind: 'got' as const, ...choice(answer, request.pool, this.free(answer)) };
      this.#lease({ ...request, node: answer.node, session: answer.session });
      taken.add(answer.node);
      return got;
    });
    for (const node of taken) this.#wakeFor(node);
    return answers;
  }

  releaseBatch(names: readonly LeaseName[]): number {
    const nowMs = this.#begin();
    const { heartbeatMs } = this.#input.bounds;
    const ended = new Set<Lease>();
    for (const name of names) {
      const lease = this.leases.get(name.jobId);
      if (!lease || !this.isLeaseOf(name)) continue;
      this.#input.onReleased(lease, name);
      ended.add(lease);
    }
    this.#drop([...ended]);
    for (const [name, atMs] of this.#released) if (nowMs - atMs >= heartbeatMs) this.#released.delete(name);
    for (const { jobId, attempt } of names) this.#released.set(`${jobId}.${attempt}`, nowMs);
    this.#releasedUntilMs = nowMs + heartbeatMs;
    return ended.size;
  }

  /** Compares all four. */
  isLeaseOf({ jobId, attempt, node, session }: LeaseName): boolean {
    const lease = this.leases.get(jobId);
    return lease?.attempt === attempt && lease.node === node && lease.session === session;
  }

  poolSlots(): Map<string, { total: number; free: number; workers: number }> {
    this.#begin();
    const slots = new Map<string, { total: number; free: number; workers: number }>();
    for (const worker of this.workers.values()) {
      if (worker.state !== 'live') continue;
      for (const pool of worker.pools) {
        const sum = slots.get(pool) ?? { total: 0, free: 0, workers: 0 };
        const free = sum.free + this.free(worker);
        slots.set(pool, { total: sum.total + worker.slots, free, workers: sum.workers + 1 });
      }
    }
    return slots;
  }

  apply(message: FleetMessage, pools: readonly string[]): FleetOutcome {
    const nowMs = this.#begin();
    const { kind, node, session, seq } = message;
    const old = this.workers.get(node);
    let superseded: number | null = null;
    if (old) {
      if (session < old.session) return { kind: 'refused', code: 'TG_FLEET_STALE_SESSION' };
      if (session === old.session && (seq <= old.seq || old.state === 'lost')) return { kind: 'ignored' };
      if (session !== old.session) {
        superseded = old.session;
        if (old.state !== 'gone') this.lost.set(`${node} ${superseded}`, { node, session: superseded });
      }
    }
    const isDraining = kind === 'drain' || (superseded === null && old?.state === 'draining');
    const held = this.#extend(message, nowMs);
    const isLeaving = kind === 'bye' && this.#held(node, session).length === 0;
    this.workers.set(node, {
      node,
      session,
      seq,
      state: kind === 'bye' ? 'gone' : isDraining ? 'draining' : 'live',
      slots: message.slots_total,
      unleased: kind === 'bye' ? 0 : held,
      pools,
      warm: pools.filter((pool) => message.warm_models.includes(modelOfPool(pool))),
      beatMs: nowMs,
      isWatched: !isLeaving,
      keptUntilMs: isLeaving ? nowMs + 4 * this.#input.bounds.lostAfterMs : Number.POSITIVE_INFINITY,
    });
    if (superseded !== null) this.#drop(this.#held(node, superseded));
    this.#wakeFor(node);
    return superseded === null ? { kind: 'applied' } : { kind: 'superseded', oldSession: superseded };
  }

  takeLost(): { node: string; session: number }[] {
    const nowMs = this.#begin();
    const { lostAfterMs } = this.#input.bounds;
    if (this.#watchedMs(true) < lostAfterMs) return [];
    const silent = [...this.workers.values()].filter(
      (one) => one.isWatched && one.beatMs <= nowMs - lostAfterMs,
    );
    for (const worker of silent.toSorted((a, b) => a.beatMs - b.beatMs)) {
      const { node, session } = worker;
      if (worker.state === 'gone' && this.#held(node, session).length === 0) this.workers.delete(node);
      else {
        worker.state = 'lost';
        worker.isWatched = false;
        this.lost.set(`${node} ${session}`, { node, session });
      }
    }
    return [...this.lost.values()];
  }

  forget(node: string, session: number): void {
    this.#begin();
    if (!this.lost.delete(`${node} ${session}`)) return;
    this.#drop(this.#held(node, session));
    if (this.workers.get(node)?.session === session) this.workers.delete(node);
  }

  list(): LiveWorker[] {
    const nowMs = this.#begin();
    return [...this.workers.values()]
      .filter(({ state }) => state === 'live' || state === 'draining')
      .map(({ node, session, state, slots, unleased, pools, warm, beatMs }) => ({
        node,
        session,
        slotsTotal: slots,
        slotsInUse: unleased + this.#held(node, session).length,
        pools,
        warmModels: [...new Set(warm.map(modelOfPool))],
        isDraining: state === 'draining',
        heartbeatAgeMs: nowMs - beatMs,
      }));
  }

  sessions(): SessionLookup {
    if (this.state() === 'warming') return () => 'unknown';
    const live = new Map(this.list().map(({ node, session }) => [node, session]));
    return (node, session) => (live.get(node) === session ? 'live' : 'missing');
  }

  state(): 'ready' | 'warming' {
    const nowMs = this.#begin();
    return nowMs - this.#epoch() >= this.#input.bounds.lostAfterMs ? 'ready' : 'warming';
  }

  cells(): CellStanding[] {
    return [{ state: this.state(), isOpen: this.#isOpen, epochMs: this.#epoch() }];
  }

  open(epochMs: number): boolean {
    this.#begin();
    if (epochMs !== this.#epochMs) return false;
    if (this.#isOpen) return true;
    this.#isOpen = true;
    for (const pool of this.waiting) this.#input.onWake(pool);
    this.waiting.clear();
    return true;
  }

  expireLeases(limit: number): number {
    const nowMs = this.#begin();
    if (this.#watchedMs(false) < this.#input.bounds.lostAfterMs) return 0;
    const over = [...this.leases.values()]
      .filter(({ endsMs }) => endsMs <= nowMs)
      .toSorted((a, b) => a.endsMs - b.endsMs || (a.jobId < b.jobId ? -1 : 1))
      .slice(0, limit);
    this.#drop(over);
    return over.length;
  }

  rebuild(open: readonly OpenAttempt[]): void {
    this.#begin();
    const touched = new Set<string>();
    for (const one of open) {
      const worker = this.workers.get(one.node);
      const isReleased = this.#released.has(`${one.jobId}.${one.attempt}`);
      if (this.leases.has(one.jobId) || isReleased || (worker && worker.session !== one.session)) continue;
      this.#lease(one);
      if (worker) worker.unleased = Math.max(0, worker.unleased - 1);
      touched.add(one.node);
    }
    for (const node of touched) this.#wakeFor(node);
  }

  progress(attempts: readonly LeaseName[]): Progress[] {
    this.#begin();
    return attempts.map(({ jobId, attempt }) => {
      const lease = this.leases.get(jobId);
      return lease?.attempt === attempt ? lease.progress : 'unseen';
    });
  }

  /** Slots of a worker that nobody has. */
  free({ node, session, slots, unleased, state }: Worker): number {
    return state === 'live' ? Math.max(0, slots - unleased - this.#held(node, session).length) : 0;
  }

  /** Which of the workers that are equally good for a job gets it: Redis promises no order among them. */
  pick(_jobId: string, [first]: readonly Worker[]): Worker | undefined {
    return first;
  }

  /** What every script begins with; the time of the call. */
  #begin(): number {
    const nowMs = this.#input.nowMs();
    this.#epochMs ??= nowMs;
    for (const { node, keptUntilMs } of this.workers.values())
      if (keptUntilMs <= nowMs) this.workers.delete(node);
    if (this.#releasedUntilMs <= nowMs) this.#released.clear();
    return nowMs;
  }

  #epoch(): number {
    return this.#epochMs ?? this.#input.nowMs();
  }

  /** The worker for a request, or why there is none. */
  #find({ jobId, pool, tried = [] }: ReserveRequest, shown: Shown): Worker | ReserveAnswer {
    if (!this.#isOpen) {
      this.waiting.add(pool);
      return { kind: 'full' };
    }
    const members = [...this.workers.values()].filter(
      ({ state, pools }) => state === 'live' && pools.includes(pool),
    );
    const others = members.filter(({ node }) => !tried.includes(node));
    if (members.length > 0 && others.length === 0) return { kind: 'tried' };
    // With nodes that are not to be asked, the pool is walked as it was before the batch took from it.
    const score = (one: Worker) =>
      (tried.length > 0 ? shown.free(one) : this.free(one)) + (one.warm.includes(pool) ? WARM : 0);
    const free = others.filter((one) => this.free(one) > 0).toSorted((a, b) => (a.node < b.node ? 1 : -1));
    const top = Math.max(...free.map(score));
    const best = this.pick(
      jobId,
      free.filter((one) => score(one) === top),
    );
    if (best) return best;
    this.waiting.add(pool);
    return { kind: members.length > 0 ? 'full' : 'none' };
  }

  /** What the pools show of free slots now: a script brings them in line with what it takes when it ends. */
  #shown(): Shown {
    const free = new Map([...this.workers.values()].map((one) => [one, this.free(one)]));
    return {
      free: (worker) => free.get(worker) ?? 0,
      count: (pool) => [...free].filter(([{ pools }, slots]) => slots > 0 && pools.includes(pool)).length,
    };
  }

  #lease(one: OpenAttempt): void {
    const { jobId, attempt, node, session, pool } = one;
    const endsMs = this.#input.nowMs() + this.#input.bounds.leaseTtlMs;
    this.leases.set(jobId, { jobId, attempt, node, session, pool, endsMs, progress: 'unseen' });
  }

  /** Leases that the worker names live on; returns what it holds beside them. */
  #extend({ node, session, slots_in_use, leases }: FleetMessage, nowMs: number): number {
    let unleased = Math.max(0, slots_in_use - leases.length);
    for (const { job: jobId, attempt, tokens = -1 } of leases) {
      const lease = this.leases.get(jobId);
      if (lease && this.isLeaseOf({ jobId, attempt, node, session })) {
        lease.endsMs = nowMs + this.#input.bounds.leaseTtlMs;
        lease.progress = tokens > 0 ? 'streaming' : 'begun';
      } else {
        const releasedMs = this.#released.get(`${jobId}.${attempt}`) ?? Number.NEGATIVE_INFINITY;
        if (nowMs - releasedMs >= this.#input.bounds.heartbeatMs) unleased += 1;
      }
    }
    return unleased;
  }

  #held(node: string, session: number): Lease[] {
    return [...this.leases.values()].filter((one) => one.node === node && one.session === session);
  }

  /** Ends leases; only then are those woken who wait for a slot. */
  #drop(ended: readonly Lease[]): void {
    for (const { jobId } of ended) this.leases.delete(jobId);
    for (const node of new Set(ended.map((lease) => lease.node))) this.#wakeFor(node);
  }

  #wakeFor(node: string): void {
    const worker = this.workers.get(node);
    if (!worker || this.free(worker) === 0) return;
    for (const pool of worker.pools) if (this.waiting.delete(pool)) this.#input.onWake(pool);
  }

  #watchedMs(isWatcher: boolean): number {
    const nowMs = this.#input.nowMs();
    const isBroken = !this.#watch || nowMs - this.#watch.lastMs > this.#input.bounds.lostAfterMs / 3;
    const sinceMs = isBroken || !this.#watch ? nowMs : this.#watch.sinceMs;
    if (isWatcher) this.#watch = { sinceMs, lastMs: nowMs };
    return nowMs - sinceMs;
  }
}
