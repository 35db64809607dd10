import type { FleetMessage } from '../contracts/fleet.ts';

/** Asks for one slot for one attempt of a job. `pool` is the model's name. */
export interface ReserveRequest {
  readonly jobId: string;
  readonly attempt: number;
  readonly pool: string;
  /** Nodes not to be asked, because they had an attempt of the job before; mostly none. */
  readonly tried?: readonly string[];
}

/** Why this worker was chosen; goes into the trace and `tollgate job show`. */
export interface Choice {
  readonly node: string;
  readonly session: number;
  readonly isWarm: boolean;
  /** Free slots of that worker before this reservation. */
  readonly slotsFree: number;
  /** Workers that had a free slot in the pool when the batch was placed. */
  readonly workersFree: number;
}

/**
 * `got`: a slot was taken by this call. `had`: a live lease of the same attempt (or a later one) stood already, nothing was taken.
 * `full`: no free slot; the pool is now marked as waiting. `none`: no live worker serves the pool at all; marked too. `tried`: only
 * nodes that are not to be asked serve it; not marked.
 */
export type ReserveAnswer =
  | ({ readonly kind: 'got' | 'had' } & Choice)
  | { readonly kind: 'full' }
  | { readonly kind: 'none' }
  | { readonly kind: 'tried' };

/** Names one lease exactly; release compares all four. */
export interface LeaseName {
  readonly jobId: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
}

/** An attempt that PostgreSQL has open: what slots are rebuilt from. `pool` is the model's name. */
export interface OpenAttempt extends LeaseName {
  readonly pool: string;
}

/** A lease as Redis has it, for the audit. */
export interface LiveLease extends OpenAttempt {
  /** Until it ends unless a heartbeat extends it; negative when it is overdue. */
  readonly ttlMs: number;
  /** False would be a leak: the lease is not counted among those of its session. */
  readonly isHeld: boolean;
}

/**
 * The live fleet as the dispatcher sees it. Throws StoreError when Redis is away, on a Redis Cluster: all nodes that keep cells; while
 * some are, what the others know counts. A repeat is harmless.
 */
export interface SlotLeases {
  /** Answers in request order; one script call for the whole batch. Ids in one batch are distinct. */
  reserveBatch(requests: readonly ReserveRequest[]): Promise<ReserveAnswer[]>;
  /** Frees those that still match and wakes the pools that wait. Returns how many slots came free. */
  releaseBatch(leases: readonly LeaseName[]): Promise<number>;
  /** Slots of live eligible workers in the cells that answer: total and free, per pool; pools without a worker are absent. */
  poolSlots(): Promise<
    ReadonlyMap<string, { readonly total: number; readonly free: number; readonly workers: number }>
  >;
  /** Called with the pool's name when a slot came free and somebody waits. Returns a function that ends it. */
  onWake(listener: (pool: string) => void): () => void;
}

/** How far an attempt has come, as far as heartbeats tell: `unseen` by any, begun, or giving tokens. */
export type Progress = 'unseen' | 'begun' | 'streaming';

/** What the sweeps and the audit do with leases. Throws StoreError when Redis is away; a repeat is harmless. */
export interface LeaseUpkeep {
  /**
   * Ends at most `limit` leases per cell that no heartbeat extended in time, and wakes the pools that wait. Returns how many; none
   * while `takeLost` would report nobody because it has not been called for long enough.
   */
  expireLeases(limit: number): Promise<number>;
  /** Makes the leases that are missing, after Redis was emptied. Throws StoreError when a cell of one of them is away. */
  rebuild(open: readonly OpenAttempt[]): Promise<void>;
  /**
   * Lets a cell give slots to new jobs, once `rebuild` was given what PostgreSQL has open there. `epochMs`: that of the cell before
   * PostgreSQL was read. Answers false when the cell was emptied again since.
   */
  open(cell: number, epochMs: number): Promise<boolean>;
  /** How far these have come, in order. An emptied Redis knows nothing until the next heartbeats. */
  progress(attempts: readonly LeaseName[]): Promise<Progress[]>;
  /** Every lease that stands throughout the walk, at least once; read in pages, not at one moment. */
  leases(): AsyncIterable<LiveLease>;
}

/** One live worker, for `node list`, metrics and the audit. `slotsInUse`: leases and what it holds without one. */
export interface LiveWorker {
  readonly node: string;
  readonly session: number;
  readonly slotsTotal: number;
  readonly slotsInUse: number;
  readonly pools: readonly string[];
  readonly warmModels: readonly string[];
  readonly isDraining: boolean;
  readonly heartbeatAgeMs: number;
}

/** The worker of a node as one pool sees it. `state` is `none` where no worker is known, `lost` where it fell silent. */
export interface WorkerSight {
  readonly state: 'live' | 'draining' | 'gone' | 'lost' | 'none';
  /** Whether it says that it serves the pool's model, and its node's record lets it. */
  readonly isOffering: boolean;
  readonly slotsTotal: number;
  readonly slotsInUse: number;
  readonly slotsFree: number;
}

/** Looks at single workers, for whoever explains why a job waits. Throws StoreError when Redis is away. */
export interface FleetSights {
  /** The workers of `nodes` as `pool` sees them, in order. One call to Redis per cell and 1,000 nodes. */
  sights(nodes: readonly string[], pool: string): Promise<WorkerSight[]>;
}

/**
 * A worker's slots counted twice, for the audit: `leases` (what its slots in use are counted from) must equal `leasesFound` (those
 * that name this session), and `slotsFree` (what its pools show) must be `slotsTotal - leases - unleased`, at least 0, or 0 when it
 * takes no new jobs. Each row is of one moment.
 */
export interface WorkerOccupancy extends LiveWorker {
  readonly leases: number;
  readonly leasesFound: number;
  /** Slots in use that no lease explains, as of its last heartbeat: a job that ended while it ran on, or that Redis forgot. */
  readonly unleased: number;
  readonly slotsFree: number;
  readonly state: 'live' | 'draining' | 'gone';
}

/** What a fleet message did. `refused` carries the code for the event. */
export type FleetOutcome =
  | { readonly kind: 'applied' | 'ignored' }
  | { readonly kind: 'refused'; readonly code: 'TG_FLEET_STALE_SESSION' }
  /** A newer session took over: the older one's leases were dropped. */
  | { readonly kind: 'superseded'; readonly oldSession: number };

/**
 * How a cell of the live fleet stands: `warming` until it has had the same epoch for longer than the heartbeat limit, `away` while
 * its Redis does not answer. `isOpen`: it gives slots to new jobs. `epochMs`: when it was found empty, by Redis' own clock.
 */
export type CellStanding =
  | { readonly state: 'ready' | 'warming'; readonly isOpen: boolean; readonly epochMs: number }
  | { readonly state: 'away' };

/** How a session stands. `unknown`: its cell is away or warming, so that silence means nothing, or its node was not asked for. */
export type SessionLookup = (node: string, session: number) => 'live' | 'missing' | 'unknown';

/** Writes the fleet into Redis. Only coordinators do. While some cells are away, what the others know counts. */
export interface FleetRegistry {
  apply(message: FleetMessage, pools: readonly string[]): Promise<FleetOutcome>;
  /**
   * Sessions whose open attempts are to be ended: silent for longer than the limit, gone with leases left, or replaced by a newer
   * one. They are out of the pools and are reported until `forget`. Empty while Redis is warming, and until coordinators that
   * listen to the fleet have called it for as long as the limit without a break of a third of it: silence means something only
   * while somebody listens. So it is called every second or so.
   */
  takeLost(): Promise<{ readonly node: string; readonly session: number }[]>;
  /** Confirms that the open attempts of a lost worker were dealt with: drops what Redis knew of that session. */
  forget(node: string, session: number): Promise<void>;
  list(): Promise<LiveWorker[]>;
  /** The sessions of those of `nodes` that are live or draining, as of now. One call to Redis per cell and 1,000 nodes. */
  sessions(nodes: readonly string[]): Promise<SessionLookup>;
  /** Workers that are live, draining, or gone with leases left; read in pages. A worker may come twice. */
  occupancy(): AsyncIterable<WorkerOccupancy>;
  /** How the cells stand in one word: `partial` while some are away, else `warming` while some are. */
  state(): Promise<'ready' | 'warming' | 'partial'>;
  /** Every cell, by its number. */
  cells(): Promise<readonly CellStanding[]>;
  /** The number of the cell that keeps a node. */
  cellOf(node: string): number;
}
