import type { FleetMessage } from '../contracts/fleet.ts';

/** Asks for one slot for one attempt of a job. `pool` is the model's name. */
export interface ReserveRequest {
  readonly jobId: string;
  readonly attempt: number;
  readonly pool: string;
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
 * `got`: a slot was taken by this call. `had`: a live lease of the same attempt stood already, nothing was taken.
 * `full`: no free slot; the pool is now marked as waiting. `none`: no live worker serves the pool at all; marked too.
 */
export type ReserveAnswer =
  | ({ readonly kind: 'got' | 'had' } & Choice)
  | { readonly kind: 'full' }
  | { readonly kind: 'none' };

/** Names one lease exactly; release compares all four. */
export interface LeaseName {
  readonly jobId: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
}

/** The live fleet as the dispatcher sees it. Throws StoreError when Redis is away; a repeat is harmless. */
export interface SlotLeases {
  /** Answers in request order; one script call for the whole batch. Ids in one batch are distinct. */
  reserveBatch(requests: readonly ReserveRequest[]): Promise<ReserveAnswer[]>;
  /** Frees those that still match and wakes the pools that wait. Returns how many slots came free. */
  releaseBatch(leases: readonly LeaseName[]): Promise<number>;
  /** Slots of live eligible workers: total and free, per pool; pools without a worker are absent. */
  poolSlots(): Promise<
    ReadonlyMap<string, { readonly total: number; readonly free: number; readonly workers: number }>
  >;
  /** Called with the pool's name when a slot came free and somebody waits. Returns a function that ends it. */
  onWake(listener: (pool: string) => void): () => void;
}

/** One live worker, for `node list`, metrics and the audit. */
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

/** What a fleet message did. `refused` carries the code for the event. */
export type FleetOutcome =
  | { readonly kind: 'applied' | 'ignored' }
  | { readonly kind: 'refused'; readonly code: 'TG_FLEET_STALE_SESSION' }
  /** A newer session took over: the older one's leases were dropped. */
  | { readonly kind: 'superseded'; readonly oldSession: number };

/** Writes the fleet into Redis. Only coordinators do. */
export interface FleetRegistry {
  apply(message: FleetMessage, pools: readonly string[]): Promise<FleetOutcome>;
  /** Workers whose heartbeat is older than the limit; empty while Redis is warming. They are removed from the pools. */
  takeLost(): Promise<{ readonly node: string; readonly session: number }[]>;
  /** Confirms that the open attempts of a lost worker were dealt with: drops what Redis knew of that session. */
  forget(node: string, session: number): Promise<void>;
  list(): Promise<LiveWorker[]>;
  /** `warming` until Redis has been up with the same epoch key for longer than the heartbeat limit. */
  state(): Promise<'ready' | 'warming'>;
}
