import { chunksOf } from '../chunks.ts';
import { invariant, StoreError } from '../errors.ts';
import { askCells } from './cells.ts';
import { cellOf } from './keys.ts';
import type { FleetRedis } from './redis.ts';
import type {
  LeaseName,
  LeaseUpkeep,
  LiveLease,
  OpenAttempt,
  Progress,
  ReserveAnswer,
  ReserveRequest,
  SlotLeases,
} from './types.ts';

/** Most leases in one script call: each takes up to five arguments, and Lua's `unpack` has a limit. */
const BATCH_LEASES_MAX = 1_000;

/**
 * Slots of the live fleet in Redis. Advisory: PostgreSQL decides which attempt runs where, and the node's prefetch is the hard
 * cap. What each script takes and answers is in the head of its file under `lua/`.
 */
export class RedisSlotLeases implements SlotLeases, LeaseUpkeep {
  readonly #redis: FleetRedis;
  #firstCell = 0;

  constructor(redis: FleetRedis) {
    this.#redis = redis;
  }

  /**
   * One call per cell: each is asked for what is still without a slot, and a pool is full only when every cell with members
   * said so. With several cells all are first asked whether they have the lease already. A cell that is away counts as full, for
   * its workers may serve the pool; a lease that stands there is doubled, and the one that no heartbeat names ends by its time.
   * Throws StoreError when no cell answers.
   */
  async reserveBatch(requests: readonly ReserveRequest[]): Promise<ReserveAnswer[]> {
    invariant(requests.length <= BATCH_LEASES_MAX, 'too many requests in one batch');
    if (requests.length === 0) return [];
    const answers = requests.map((): ReserveAnswer => ({ kind: 'none' }));
    let cells: readonly number[] = this.#cellsInTurn();
    const away: StoreError[] = [];
    if (cells.length > 1) cells = await this.#findStanding(cells, requests, answers, away);
    for (const cell of cells) {
      try {
        await this.#ask(cell, requests, answers, true);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        away.push(error);
      }
    }
    const [fault] = away;
    if (away.length === this.#redis.cells) throw fault;
    return fault === undefined ? answers : answers.map((answer) => (isPlaced(answer) ? answer : FULL));
  }

  /** Writes the leases that stand over `answers`; returns the cells that answered, in the order given. */
  async #findStanding(
    cells: readonly number[],
    requests: readonly ReserveRequest[],
    answers: ReserveAnswer[],
    away: StoreError[],
  ): Promise<number[]> {
    const found = await Promise.allSettled(cells.map((cell) => this.#ask(cell, requests, answers, false)));
    return cells.filter((_, i) => {
      const outcome = found[i];
      if (outcome?.status !== 'rejected') return true;
      if (!(outcome.reason instanceof StoreError)) throw outcome.reason;
      away.push(outcome.reason);
      return false;
    });
  }

  async releaseBatch(leases: readonly LeaseName[]): Promise<number> {
    return this.#perCell('release', leases, (lease) => [
      lease.jobId,
      lease.attempt,
      lease.node,
      lease.session,
    ]);
  }

  async rebuild(open: readonly OpenAttempt[]): Promise<void> {
    await this.#perCell('rebuild', open, (one) => [one.jobId, one.attempt, one.node, one.session, one.pool]);
  }

  async open(cell: number, epochMs: number): Promise<boolean> {
    return (await this.#redis.count('open', cell, [epochMs])) === 1;
  }

  async progress(attempts: readonly LeaseName[]): Promise<Progress[]> {
    const found: Progress[] = attempts.map(() => 'unseen');
    const byCell = Map.groupBy(attempts.entries(), ([, { node }]) => cellOf(node, this.#redis.cells));
    for (const [cell, own] of byCell) {
      for (const page of chunksOf(own, BATCH_LEASES_MAX)) {
        const args = page.flatMap(([, { jobId, attempt }]) => [jobId, attempt]);
        const stages = await this.#redis.list('read-progress', cell, args);
        for (const [i, [place]] of page.entries()) found[place] = toProgress(stages[i]);
      }
    }
    return found;
  }

  async expireLeases(limit: number): Promise<number> {
    const ended = await askCells(this.#redis, (cell) => this.#redis.count('expire', cell, [limit]));
    return ended.reduce<number>((total, count) => total + (count ?? 0), 0);
  }

  async *leases(): AsyncGenerator<LiveLease> {
    for await (const row of this.#redis.rows('read-leases', 7)) {
      const [jobId = '', attempt, node = '', session, pool = '', ttlMs, isHeld] = row;
      yield {
        jobId,
        attempt: Number(attempt),
        node,
        session: Number(session),
        pool,
        ttlMs: Number(ttlMs),
        isHeld: isHeld === '1',
      };
    }
  }

  async poolSlots(): Promise<Map<string, { total: number; free: number; workers: number }>> {
    const slots = new Map<string, { total: number; free: number; workers: number }>();
    for (const reply of await askCells(this.#redis, (cell) => this.#redis.list('read-state', cell))) {
      if (reply === null) continue;
      for (let at = 3; at < reply.length; at += 4) {
        const pool = reply[at] ?? '';
        const before = slots.get(pool) ?? { total: 0, free: 0, workers: 0 };
        slots.set(pool, {
          workers: before.workers + Number(reply[at + 1]),
          total: before.total + Number(reply[at + 2]),
          free: before.free + Number(reply[at + 3]),
        });
      }
    }
    return slots;
  }

  onWake(listener: (pool: string) => void): () => void {
    return this.#redis.onWake(listener);
  }

  /** Asks one cell for every request that has no slot yet, and writes its answers over those of the cells before it. */
  async #ask(
    cell: number,
    requests: readonly ReserveRequest[],
    answers: ReserveAnswer[],
    mayPlace: boolean,
  ): Promise<void> {
    const open = [...requests.entries()].filter(([i]) => !isPlaced(answers[i]));
    if (open.length === 0) return;
    const args = open.flatMap(([, { jobId, attempt, pool, tried = [] }]) => [
      jobId,
      attempt,
      pool,
      tried.join(' '),
    ]);
    const replies = await this.#redis.list('reserve', cell, [mayPlace ? 1 : 0, ...args]);
    for (const [at, [i]] of open.entries()) {
      const answer = toAnswer(replies[at] ?? '0');
      const before = answers[i];
      if (answer !== null && (before === undefined || RANK[answer.kind] >= RANK[before.kind]))
        answers[i] = answer;
    }
  }

  /** Runs a script on each cell for those of its nodes, a bounded number per call; returns the sum of the answers. */
  async #perCell<T extends LeaseName>(
    script: 'release' | 'rebuild',
    leases: readonly T[],
    toArgs: (lease: T) => (string | number)[],
  ): Promise<number> {
    const byCell = Map.groupBy(leases, (lease) => cellOf(lease.node, this.#redis.cells));
    const calls: Promise<number>[] = [];
    for (const [cell, own] of byCell) {
      for (const page of chunksOf(own, BATCH_LEASES_MAX))
        calls.push(this.#redis.count(script, cell, page.flatMap(toArgs)));
    }
    return sum(calls);
  }

  /** All cells, beginning with another one each time, so that none is always filled first. */
  #cellsInTurn(): number[] {
    const first = this.#firstCell++ % this.#redis.cells;
    const cells = Array.from({ length: this.#redis.cells }, (_, cell) => cell);
    return [...cells.slice(first), ...cells.slice(0, first)];
  }
}

const FULL: ReserveAnswer = { kind: 'full' };

/** Of the answers of several cells the higher one holds. */
const RANK = { none: 0, tried: 1, full: 2, had: 3, got: 3 } as const;

function toProgress(stage: string | undefined): Progress {
  return stage === 'begun' || stage === 'streaming' ? stage : 'unseen';
}

function isPlaced(answer: ReserveAnswer | undefined): boolean {
  return answer?.kind === 'got' || answer?.kind === 'had';
}

async function sum(counts: Promise<number>[]): Promise<number> {
  return (await Promise.all(counts)).reduce((total, count) => total + count, 0);
}

/** What `reserve.lua` says of one request, or null for "no lease here". */
function toAnswer(reply: string): ReserveAnswer | null {
  if (reply === '-1') return { kind: 'full' };
  if (reply === '-2') return { kind: 'none' };
  if (reply === '-3') return { kind: 'tried' };
  if (reply === '0') return null;
  const [kind, node = '', session, isWarm, slotsFree, workersFree] = reply.split(' ');
  return {
    kind: kind === 'had' ? 'had' : 'got',
    node,
    session: Number(session),
    isWarm: isWarm === '1',
    slotsFree: Number(slotsFree),
    workersFree: Number(workersFree),
  };
}
