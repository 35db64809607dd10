/** Transaction ids on rows are the low 32 bits of those in snapshots. */
const XID_BITS = 32;
/** Smaller ones are PostgreSQL's own: committed before everything. */
const XID_MIN = 3n;
/** No transaction of ours lives a minute; a row this much older than the snapshot was committed in it, whatever its xid wrapped to. */
const SURELY_COMMITTED_MS = 3_600_000;

/**
 * What one moment saw, from `pg_current_snapshot()`: lets rows that are read later, page by page, be told apart by whether they
 * were committed at that moment. Only for rows that are never updated, and written outside subtransactions, whose ids a snapshot
 * does not list. Source: PostgreSQL documentation, 9.26.8 "Transaction ID and Snapshot Information Functions".
 */
export class Snapshot {
  readonly #lowest: bigint;
  readonly #next: bigint;
  readonly #running: ReadonlySet<bigint>;
  readonly #takenAtMs: number;

  /** `text` is `xmin:xmax:xip,…`; `takenAtMs` is PostgreSQL's own clock in milliseconds since 1970. */
  constructor(text: string, takenAtMs: number) {
    const [lowest = '0', next = '0', running = ''] = text.split(':');
    this.#lowest = BigInt(lowest);
    this.#next = BigInt(next);
    this.#running = new Set(running.split(',').filter(Boolean).map(BigInt));
    this.#takenAtMs = takenAtMs;
  }

  /** Whether the row that transaction `xid` (`xmin` of the row) wrote at `atMs` was committed when the snapshot was taken. */
  sees(xid: bigint, atMs: number): boolean {
    if (xid < XID_MIN || atMs < this.#takenAtMs - SURELY_COMMITTED_MS) return true;
    // The whole id is the one nearest to the snapshot that ends in these bits.
    const whole = this.#next + BigInt.asIntN(XID_BITS, xid - this.#next);
    return whole < this.#lowest || (whole < this.#next && !this.#running.has(whole));
  }
}
