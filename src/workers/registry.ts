import { chunksOf } from '../chunks.ts';
import type { FleetMessage } from '../contracts/fleet.ts';
import { modelOfPool } from '../contracts/names.ts';
import { invariant } from '../errors.ts';
import { askCells } from './cells.ts';
import { cellOf } from './keys.ts';
import type { FleetRedis } from './redis.ts';
import type {
  CellStanding,
  FleetOutcome,
  FleetRegistry,
  FleetSights,
  LiveWorker,
  SessionLookup,
  WorkerOccupancy,
  WorkerSight,
} from './types.ts';

/** Sessions given up and reported per call and cell; what is left comes with the next call. */
const LOST_PER_CALL_MAX = 500;

/** Nodes looked at per call. */
const NODES_PER_CALL_MAX = 1_000;
/** Values in each row of `read-nodes.lua`. */
const SIGHT_VALUES = 5;

/** Values in each row of `read-workers.lua`. */
const WORKER_VALUES = 11;

/**
 * The live fleet, written to Redis. A worker's record goes
 *
 *     (none) ─ any message ─▶ live ─ drain ─▶ draining ─ bye ─▶ gone ─▶ (none)
 *                               └───────┴─ silent ─▶ lost ─ forget ─▶ (none)
 *
 * and a message of a higher session replaces it at any point; the old session is then reported like a lost one. A heartbeat of
 * a session not known here is taken like a hello, because each message carries the whole state and Redis may have been emptied.
 */
export class RedisFleetRegistry implements FleetRegistry, FleetSights {
  readonly #redis: FleetRedis;
  readonly #lostAfterMs: number;
  readonly #isListening: () => boolean;

  /** `isListening`: whether this coordinator hears the fleet now; only then may it judge silence. */
  constructor(redis: FleetRedis, fleet: { readonly lostAfterMs: number }, isListening: () => boolean) {
    this.#redis = redis;
    this.#lostAfterMs = fleet.lostAfterMs;
    this.#isListening = isListening;
  }

  /** `pools`: those of the message that count. Idempotent by session and seq. Throws StoreError. */
  async apply(message: FleetMessage, pools: readonly string[]): Promise<FleetOutcome> {
    const reply = await this.#redis.list('apply', cellOf(message.node, this.#redis.cells), [
      message.kind,
      message.node,
      message.session,
      message.seq,
      message.slots_total,
      message.slots_in_use,
      [...new Set(pools)].join(' '),
      [...new Set(pools)].filter((pool) => message.warm_models.includes(modelOfPool(pool))).join(' '),
      ...message.leases.flatMap(({ job, attempt, tokens }) => [job, attempt, tokens ?? -1]),
    ]);
    return toOutcome(reply);
  }

  async takeLost(): Promise<{ node: string; session: number }[]> {
    if (!this.#isListening()) return [];
    const replies = await askCells(this.#redis, (cell) =>
      this.#redis.list('take-lost', cell, [LOST_PER_CALL_MAX]),
    );
    const lost: { node: string; session: number }[] = [];
    for (const reply of replies) {
      if (reply === null) continue;
      for (let at = 0; at < reply.length; at += 2) {
        lost.push({ node: reply[at] ?? '', session: Number(reply[at + 1]) });
      }
    }
    return lost;
  }

  async forget(node: string, session: number): Promise<void> {
    await this.#redis.count('forget', cellOf(node, this.#redis.cells), [node, session]);
  }

  async list(): Promise<LiveWorker[]> {
    const found = await askCells(this.#redis, (cell) => this.#liveIn(cell));
    return found.flatMap((workers) => workers ?? []);
  }

  async sessions(nodes: readonly string[]): Promise<SessionLookup> {
    const byCell = Map.groupBy(new Set(nodes), (node) => this.cellOf(node));
    const found = await askCells(this.#redis, (cell) => this.#sessionsIn(cell, byCell.get(cell) ?? []));
    return (node, session) => {
      const live = found[this.cellOf(node)]?.get(node);
      if (live === undefined) return 'unknown';
      return live === session ? 'live' : 'missing';
    };
  }

  async *occupancy(): AsyncGenerator<WorkerOccupancy> {
    for await (const row of this.#redis.rows('read-workers', WORKER_VALUES, [1])) yield toOccupancy(row);
  }

  async sights(nodes: readonly string[], pool: string): Promise<WorkerSight[]> {
    const found = nodes.map((): WorkerSight => toSight([]));
    const byCell = Map.groupBy(nodes.entries(), ([, node]) => cellOf(node, this.#redis.cells));
    for (const [cell, own] of byCell) {
      for (const page of chunksOf(own, NODES_PER_CALL_MAX)) {
        const values = await this.#redis.list('read-nodes', cell, [pool, ...page.map(([, node]) => node)]);
        for (const [row, [place]] of page.entries()) {
          found[place] = toSight(values.slice(row * SIGHT_VALUES, (row + 1) * SIGHT_VALUES));
        }
      }
    }
    return found;
  }

  async state(): Promise<'ready' | 'warming' | 'partial'> {
    const states = new Set((await this.cells()).map(({ state }) => state));
    if (states.has('away')) return 'partial';
    return states.has('warming') ? 'warming' : 'ready';
  }

  async cells(): Promise<CellStanding[]> {
    const replies = await askCells(this.#redis, (cell) => this.#redis.list('read-state', cell));
    return replies.map((reply) => {
      if (reply === null) return { state: 'away' };
      const [epochMs = 0, ageMs = 0, isOpen] = reply.map(Number);
      const state = ageMs >= this.#lostAfterMs ? 'ready' : 'warming';
      return { state, isOpen: isOpen === 1, epochMs };
    });
  }

  cellOf(node: string): number {
    return cellOf(node, this.#redis.cells);
  }

  async #liveIn(cell: number): Promise<LiveWorker[]> {
    const workers = new Map<string, LiveWorker>();
    for await (const row of this.#redis.rowsOf(cell, 'read-workers', WORKER_VALUES, [0])) {
      const worker = toOccupancy(row);
      if (worker.state !== 'gone') workers.set(worker.node, worker);
    }
    return [...workers.values()];
  }

  /** The live session of each of `nodes`, null for none; null in all where the cell is warming, so that silence means nothing. */
  async #sessionsIn(
    cell: number,
    nodes: readonly string[],
  ): Promise<ReadonlyMap<string, number | null> | null> {
    const found = new Map<string, number | null>();
    for (const page of chunksOf(nodes, NODES_PER_CALL_MAX)) {
      const [ageMs, ...sessions] = await this.#redis.list('read-sessions', cell, page);
      if (Number(ageMs) < this.#lostAfterMs) return null;
      for (const [i, node] of page.entries()) found.set(node, sessions[i] ? Number(sessions[i]) : null);
    }
    return found;
  }
}

/** What `apply.lua` answered. */
function toOutcome([code, oldSession]: readonly string[]): FleetOutcome {
  if (code === '0') return { kind: 'ignored' };
  if (code === '1') return { kind: 'applied' };
  if (code === '2') return { kind: 'superseded', oldSession: Number(oldSession) };
  invariant(code === '-1', `apply answered ${code}`);
  return { kind: 'refused', code: 'TG_FLEET_STALE_SESSION' };
}

/** One row of `read-nodes.lua`. */
function toSight([state, inUse, total, isOffering, free]: readonly string[]): WorkerSight {
  const isKnown = state === 'live' || state === 'draining' || state === 'gone' || state === 'lost';
  return {
    state: isKnown ? state : 'none',
    isOffering: isOffering === '1',
    slotsTotal: Number(total ?? 0),
    slotsInUse: Number(inUse ?? 0),
    slotsFree: Number(free ?? 0),
  };
}

/** One row of `read-workers.lua`. */
function toOccupancy(row: readonly string[]): WorkerOccupancy {
  const [node = '', session, state, slots, unleased, pools = '', warm = '', ageMs, leases, found, free] = row;
  return {
    node,
    session: Number(session),
    state: state === 'draining' || state === 'gone' ? state : 'live',
    slotsTotal: Number(slots),
    slotsInUse: Number(leases) + Number(unleased),
    pools: pools.split(' ').filter(Boolean),
    warmModels: [...new Set(warm.split(' ').filter(Boolean).map(modelOfPool))],
    isDraining: state === 'draining',
    heartbeatAgeMs: Number(ageMs),
    leases: Number(leases),
    leasesFound: Number(found),
    unleased: Number(unleased),
    slotsFree: Number(free),
  };
}
