import type { FleetMessage } from '../src/contracts/fleet.ts';
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
  warm: readonly string[];
  beatMs: number;
}

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
  readonly #waiting = new Set<string>();
  readonly #released = new Map<string, number>();
  readonly #lost = new Map<string, { readonly node: string; readonly session: number }>();
  #epochMs = 0;
  #isOpen = false;
  #watch: { sinceMs: number; lastMs: number } | null = null;

  constructor(input: FleetInput) {
    this.#input = input;
    this.#epochMs = input.nowMs();
  }

  /** FLUSHALL. */
  empty(): void {
    this.leases.clear();
    this.workers.clear();
    this.#waiting.clear();
    this.#released.clear();
    this.#lost.clear();
    this.#watch = null;
    this.#epochMs = this.#input.nowMs();
    this.#isOpen = false;
  }

  reserveBatch(requests: readonly ReserveRequest[]): ReserveAnswer[] {
    const nowMs = this.#input.nowMs();
    const standing = requests.map((request): ReserveAnswer | null => {
      const lease = this.leases.get(request.jobId);
      if (!lease) return null;
      const worker = this.workers.get(lease.node);
      const isGood = worker?.state === 'live' && worker.session === lease.session;
      if (worker && isGood && lease.attempt >= request.attempt) {
        lease.endsMs = nowMs + this.#input.bounds.leaseTtlMs;
        return { kind: 'had', ...this.#choice(worker, lease.pool, this.free(worker) + 1) };
      }
      this.#drop(request.jobId);
      return null;
    });
    return requests.map((request, i) => standing[i] ?? this.#place(request));
  }

  releaseBatch(names: readonly LeaseName[]): number {
    let ended = 0;
    for (const name of names) {
      const lease = this.leases.get(name.jobId);
      if (lease && this.isLeaseOf(name)) {
        this.#input.onReleased(lease, name);
        this.#drop(name.jobId);
        ended += 1;
      }
      this.#released.set(`${name.jobId}.${name.attempt}`, this.#input.nowMs());
    }
    return ended;
  }

  /** Compares all four. */
  isLeaseOf({ jobId, attempt, node, session }: LeaseName): boolean {
    const lease = this.leases.get(jobId);
    return lease?.attempt === attempt && lease.node === node && lease.session === session;
  }

  poolSlots(): Map<string, { total: number; free: number; workers: number }> {
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
    const { kind, node, session, seq } = message;
    const nowMs = this.#input.nowMs();
    const old = this.workers.get(node);
    let superseded: number | null = null;
    if (old) {
      if (session < old.session) return { kind: 'refused', code: 'TG_FLEET_STALE_SESSION' };
      if (session === old.session && (seq <= old.seq || old.state === 'lost')) return { kind: 'ignored' };
      if (session !== old.session) {
        superseded = old.session;
        this.#dropSession(node, superseded);
        if (old.state !== 'gone') this.#lost.set(`${node} ${superseded}`, { node, session: superseded });
      }
    }
    const isDraining = kind === 'drain' || (superseded === null && old?.state === 'draining');
    const state = kind === 'bye' ? 'gone' : isDraining ? 'draining' : 'live';
    const unleased = kind === 'bye' ? 0 : this.#extend(message, nowMs);
    const warm = message.warm_models;
    const worker = {
      node,
      session,
      seq,
      state,
      slots: message.slots_total,
      unleased,
      pools,
      warm,
      beatMs: nowMs,
    } as const;
    this.workers.set(node, { ...worker });
    if (state === 'gone' && this.#held(node, session).length === 0) this.workers.delete(node);
    this.#wakeFor(node);
    return superseded === null ? { kind: 'applied' } : { kind: 'superseded', oldSession: superseded };
  }

  takeLost(): { node: string; session: number }[] {
    const nowMs = this.#input.nowMs();
    if (this.#watchedMs(true) < this.#input.bounds.lostAfterMs) return [];
    for (const worker of this.workers.values()) {
      if (worker.state === 'lost' || worker.beatMs > nowMs - this.#input.bounds.lostAfterMs) continue;
      const { node, session } = worker;
      if (worker.state === 'gone' && this.#held(node, session).length === 0) this.workers.delete(node);
      else {
        worker.state = 'lost';
        this.#lost.set(`${node} ${session}`, { node, session });
      }
    }
    return [...this.#lost.values()];
  }

  forget(node: string, session: number): void {
    if (!this.#lost.delete(`${node} ${session}`)) return;
    this.#dropSession(node, session);
    if (this.workers.get(node)?.session === session) this.workers.delete(node);
  }

  list(): LiveWorker[] {
    return [...this.workers.values()]
      .filter(({ state }) => state === 'live' || state === 'draining')
      .map((worker) => ({
        node: worker.node,
        session: worker.session,
        slotsTotal: worker.slots,
        slotsInUse: worker.slots - this.free(worker),
        pools: worker.pools,
        warmModels: worker.warm,
        isDraining: worker.state === 'draining',
        heartbeatAgeMs: this.#input.nowMs() - worker.beatMs,
      }));
  }

  sessions(): SessionLookup {
    if (this.state() === 'warming') return () => 'unknown';
    const live = new Map(this.list().map(({ node, session }) => [node, session]));
    return (node, session) => (live.get(node) === session ? 'live' : 'missing');
  }

  state(): 'ready' | 'warming' {
    return this.#input.nowMs() - this.#epochMs >= this.#input.bounds.lostAfterMs ? 'ready' : 'warming';
  }

  cells(): CellStanding[] {
    return [{ state: this.state(), isOpen: this.#isOpen, epochMs: this.#epochMs }];
  }

  open(epochMs: number): boolean {
    if (epochMs !== this.#epochMs) return false;
    this.#isOpen = true;
    for (const pool of this.#waiting) this.#input.onWake(pool);
    this.#waiting.clear();
    return true;
  }

  expireLeases(limit: number): number {
    if (this.#watchedMs(false) < this.#input.bounds.lostAfterMs) return 0;
    const nowMs = this.#input.nowMs();
    const over = [...this.leases.values()].filter(({ endsMs }) => endsMs <= nowMs).slice(0, limit);
    for (const { jobId } of over) this.#drop(jobId);
    return over.length;
  }

  rebuild(open: readonly OpenAttempt[]): void {
    for (const one of open) {
      const worker = this.workers.get(one.node);
      const isReleased = this.#released.has(`${one.jobId}.${one.attempt}`);
      if (this.leases.has(one.jobId) || isReleased || (worker && worker.session !== one.session)) continue;
      this.#lease(one);
      if (worker) worker.unleased = Math.max(0, worker.unleased - 1);
    }
  }

  progress(attempts: readonly LeaseName[]): Progress[] {
    return attempts.map(({ jobId, attempt }) => {
      const lease = this.leases.get(jobId);
      return lease?.attempt === attempt ? lease.progress : 'unseen';
    });
  }

  /** Slots of a worker that nobody has. */
  free({ node, session, slots, unleased, state }: Worker): number {
    return state === 'live' ? Math.max(0, slots - unleased - this.#held(node, session).length) : 0;
  }

  #place({ jobId, attempt, pool, tried = [] }: ReserveRequest): ReserveAnswer {
    if (!this.#isOpen) {
      this.#waiting.add(pool);
      return { kind: 'full' };
    }
    const members = [...this.workers.values()].filter(
      ({ state, pools }) => state === 'live' && pools.includes(pool),
    );
    const others = members.filter(({ node }) => !tried.includes(node));
    if (members.length > 0 && others.length === 0) return { kind: 'tried' };
    const best = others
      .filter((worker) => this.free(worker) > 0)
      .toSorted((a, b) => this.#score(b, pool) - this.#score(a, pool) || (a.node < b.node ? 1 : -1))[0];
    if (!best) {
      this.#waiting.add(pool);
      return { kind: members.length > 0 ? 'full' : 'none' };
    }
    const answer = { kind: 'got' as const, ...this.#choice(best, pool, this.free(best)) };
    this.#lease({ jobId, attempt, node: best.node, session: best.session, pool });
    return answer;
  }

  #score(worker: Worker, pool: string): number {
    return this.free(worker) + (worker.warm.includes(pool) ? 8_192 : 0);
  }

  #choice(worker: Worker, pool: string, slotsFree: number) {
    const { node, session, warm } = worker;
    const workersFree = [...this.workers.values()].filter(
      (one) => one.pools.includes(pool) && this.free(one) > 0,
    );
    return { node, session, isWarm: warm.includes(pool), slotsFree, workersFree: workersFree.length };
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

  #held(node: string, session: number): string[] {
    const held: string[] = [];
    for (const lease of this.leases.values())
      if (lease.node === node && lease.session === session) held.push(lease.jobId);
    return held;
  }

  #dropSession(node: string, session: number): void {
    for (const jobId of this.#held(node, session)) this.#drop(jobId);
  }

  #drop(jobId: string): void {
    const lease = this.leases.get(jobId);
    if (!lease) return;
    this.leases.delete(jobId);
    this.#wakeFor(lease.node);
  }

  #wakeFor(node: string): void {
    const worker = this.workers.get(node);
    if (!worker || this.free(worker) === 0) return;
    for (const pool of worker.pools) if (this.#waiting.delete(pool)) this.#input.onWake(pool);
  }

  #watchedMs(isWatcher: boolean): number {
    const nowMs = this.#input.nowMs();
    const isBroken = !this.#watch || nowMs - this.#watch.lastMs > this.#input.bounds.lostAfterMs / 3;
    const sinceMs = isBroken || !this.#watch ? nowMs : this.#watch.sinceMs;
    if (isWatcher) this.#watch = { sinceMs, lastMs: nowMs };
    return nowMs - sinceMs;
  }
}
