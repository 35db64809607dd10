import { Pool } from 'pg';
import type { SentMessage } from './evidence.ts';

/** How a job stands in PostgreSQL. */
export interface JobBook {
  readonly id: string;
  readonly state: 'locked' | 'refused' | 'cancelled' | 'expired' | 'succeeded' | 'failed';
  readonly code: string | null;
  readonly attempt: number;
  /** Where its last attempt ran, or null. */
  readonly node: string | null;
  readonly chargedMicro: number;
}

/** What one snapshot of the accounts says; micro-credits. */
export interface Probe {
  readonly creditedMicro: bigint;
  readonly toppedUpMicro: bigint;
  readonly capturedMicro: bigint;
  readonly capturesMicro: bigint;
  readonly overdrawn: number;
}

/** Moments of progress: locks and resolutions, in wall-clock milliseconds, ascending. */
export interface Progress {
  readonly locksAtMs: readonly number[];
  readonly resolutionsAtMs: readonly number[];
}

/** PostgreSQL as its administrator sees it, past every link. */
export class Books {
  readonly #pool: Pool;

  constructor(url: string) {
    this.#pool = new Pool({
      connectionString: url,
      max: 2,
      idleTimeoutMillis: 0,
      connectionTimeoutMillis: 5_000,
    });
    this.#pool.on('error', () => undefined);
    this.#pool.on('connect', (client) => client.on('error', () => undefined));
  }

  close(): Promise<void> {
    return this.#pool.end();
  }

  /** Every row of the arbiter. */
  async jobs(): Promise<Map<string, JobBook>> {
    const { rows } = await this.#pool.query<{
      id: string;
      state: JobBook['state'];
      code: string | null;
      attempt: number;
      node: string | null;
      charged_micro: string;
    }>('select id, state::text, code, attempt, node, charged_micro from jobs.jobs');
    return new Map(
      rows.map(({ id, state, code, attempt, node, charged_micro: charged }) => [
        id,
        { id, state, code, attempt, node, chargedMicro: Number(charged) },
      ]),
    );
  }

  /** Jobs with more than one capture. The primary key forbids it; the checker does not take its word. */
  async capturedTwice(): Promise<string[]> {
    const { rows } = await this.#pool.query<{ id: string }>(
      "select id from credits.transfers where kind = 'capture' group by id having count(*) > 1",
    );
    return rows.map(({ id }) => id);
  }

  /** One REPEATABLE READ snapshot: credit comes from top-ups alone, what left is what was captured, nobody is overdrawn. */
  async probe(): Promise<Probe> {
    const client = await this.#pool.connect();
    try {
      await client.query('begin transaction isolation level repeatable read read only');
      const { rows } = await client.query<Record<keyof Probe, string>>(`
        select (select sum(credited_micro) from credits.accounts where kind = 'customer') as "creditedMicro",
               (select sum(amount_micro) from credits.transfers where kind = 'top_up') as "toppedUpMicro",
               (select sum(captured_micro) from credits.accounts where kind = 'customer') as "capturedMicro",
               (select coalesce(sum(amount_micro), 0) from credits.transfers where kind = 'capture') as "capturesMicro",
               (select count(*) from credits.accounts
                 where kind = 'customer' and captured_micro + held_micro > credited_micro) as "overdrawn"`);
      await client.query('commit');
      client.release();
      const [row] = rows;
      if (row === undefined) throw new Error('the probe saw nothing');
      return {
        creditedMicro: BigInt(row.creditedMicro),
        toppedUpMicro: BigInt(row.toppedUpMicro),
        capturedMicro: BigInt(row.capturedMicro),
        capturesMicro: BigInt(row.capturesMicro),
        overdrawn: Number(row.overdrawn),
      };
    } catch (error) {
      client.release(true);
      throw error;
    }
  }

  /** When the ledger moved. */
  async progress(): Promise<Progress> {
    const { rows } = await this.#pool.query<{ at_ms: number; phase: number }>(
      `select extract(epoch from at)::float8 * 1000 as at_ms, phase from credits.transfers
        where kind <> 'top_up' order by at`,
    );
    const of = (wanted: number) => rows.filter(({ phase }) => phase === wanted).map((row) => row.at_ms);
    return { locksAtMs: of(0), resolutionsAtMs: of(1) };
  }
}

/** True once a message has its end: a job's row says so, or its client was told. Poison has no row. */
export function hasEnded(message: SentMessage, book: JobBook | undefined): boolean {
  if (book !== undefined) return book.state !== 'locked';
  return message.replies.length > 0;
}
