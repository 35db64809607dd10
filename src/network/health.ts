import type { TimeSource } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { StoreError } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';
import type { Database } from '../postgres/database.ts';
import { type Fence, writeFenced } from '../postgres/fenced.ts';
import type { StrikeKind } from './types.ts';

/** Where the parts that judge attempts report what a node did wrong. */
export interface NodeHealth {
  /** Notes a fault of `node`, found while it had `jobId` (null: none in particular). Returns at once; written a moment later. */
  strike(node: string, kind: StrikeKind, jobId: string | null): void;
}

interface Strike {
  readonly node: string;
  readonly kind: StrikeKind;
  readonly jobId: string | null;
  readonly atMs: number;
}

interface EjectionRow {
  readonly node_id: string;
  readonly score: number;
  readonly hold_ms: bigint | null;
}

/**
 * Brings strikes to PostgreSQL in batches, which adds them up and ejects. While PostgreSQL is away they wait here, the oldest
 * are dropped beyond `health.pendingMax`, and those of a batch whose fate is unknown are dropped too: a strike too few is a smaller
 * wrong than one counted twice. Role tollgate_dispatcher.
 */
export class NodeHealthPg implements NodeHealth, Service {
  readonly #bounds: Config['health'];
  readonly #clock: TimeSource;
  readonly #log: Log;
  readonly #db: Database;
  #pending: Strike[] = [];
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> | null = null;

  constructor(bounds: Config['health'], clock: TimeSource, log: Log, db: Database) {
    this.#bounds = bounds;
    this.#clock = clock;
    this.#log = log;
    this.#db = db;
  }

  async start(): Promise<void> {
    this.#timer ??= setInterval(() => void this.flush(), this.#bounds.flushMs);
  }

  /** Writes what waits. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.flush();
  }

  strike(node: string, kind: StrikeKind, jobId: string | null): void {
    this.#pending.push({ node, kind, jobId, atMs: this.#clock.monotonicMs() });
    const { pendingMax } = this.#bounds;
    if (this.#pending.length > pendingMax) this.#pending = this.#pending.slice(-pendingMax);
  }

  /** Writes what waits, after what is being written. Never rejects for a server that is away. */
  async flush(): Promise<void> {
    await this.#writing;
    if (this.#pending.length === 0 || !this.#db.isUp) return;
    const batch = this.#pending;
    this.#pending = [];
    this.#writing = this.#write(batch).finally(() => {
      this.#writing = null;
    });
    await this.#writing;
  }

  /**
   * From `beganMs` to now (monotonic) the fault was ours: strikes of that time are void, and nodes ejected for them are back.
   * Returns how many. Throws StoreError.
   */
  async incident(beganMs: number, reason: string): Promise<number> {
    await this.flush();
    const { strikeHalfLifeMs, strikeScoreMax } = this.#bounds;
    const agoMs = Math.ceil(this.#clock.monotonicMs() - beganMs);
    const params = [agoMs, 0, reason, strikeHalfLifeMs, strikeScoreMax];
    const [row] = await this.#db.query<{ voided: number }>('declare_incident', params);
    this.#log.warn({ reason, forMs: agoMs, strikes: row?.voided ?? 0 }, 'a fault of our own: strikes voided');
    return row?.voided ?? 0;
  }

  async #write(strikes: readonly Strike[]): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const bounds = this.#bounds;
    try {
      const rows = await this.#db.query<EjectionRow>('strike_batch', [
        strikes.map(({ node }) => node),
        strikes.map(({ kind }) => kind),
        strikes.map(({ jobId }) => jobId),
        strikes.map(({ atMs }) => Math.round(nowMs - atMs)),
        bounds.strikeHalfLifeMs,
        bounds.strikeScoreMax,
        bounds.holdMsMin,
        bounds.holdMsMax,
        bounds.ejectedPercentMax,
      ]);
      for (const { node_id: node, score, hold_ms: holdMs } of rows)
        if (holdMs === null) this.#log.warn({ node, score }, 'not ejected: too many of its pool are');
        else this.#log.warn({ node, score, holdMs: Number(holdMs) }, 'node ejected for its strikes');
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.warn({ strikes: strikes.length, reason: error.message }, 'strikes not written');
    }
  }
}

/** Deletes strikes older than `keepDays`, as the owner of maintenance. Idempotent. Throws as `writeFenced`. */
export async function purgeStrikes(
  db: Database,
  fence: Fence,
  keepDays: number,
): Promise<{ purged: number }> {
  const [row] = await writeFenced<{ purged: number }>(db, 'purge_strikes_fenced', fence, [keepDays]);
  return { purged: row?.purged ?? 0 };
}
