import type { Database } from '../postgres/database.ts';
import { type DescriptionRow, endedOf } from './rows.ts';
import type { EndedJob, OpenAttempt, Sweeps } from './types.ts';

interface OpenAttemptRow {
  readonly job_id: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: bigint;
  readonly pool: string;
  readonly deadline_in_ms: number;
  readonly start_over_ms: number;
}

/** What the sweeps need, with the dispatcher's role. Safe on several coordinators at once. Throws as `CreditLocksPg`. */
export class SweepsPg implements Sweeps {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Ends what is past its deadline. Empty while another coordinator sweeps. */
  async sweepOverdue(limit: number): Promise<EndedJob[]> {
    return (await this.#db.query<DescriptionRow>('sweep_overdue', [limit])).map(endedOf);
  }

  /** Reads jobs whose reply is owed, oldest ids first. Two coordinators may read the same: replies are at least once. */
  async owedReplies(limit: number): Promise<EndedJob[]> {
    return (await this.#db.query<DescriptionRow>('read_owed_replies', [limit])).map(endedOf);
  }

  /** Says that these were answered. Idempotent. */
  async clearOwed(jobIds: readonly string[]): Promise<void> {
    if (jobIds.length > 0) await this.#db.query('clear_owed', [jobIds]);
  }

  /** A page of open attempts by deadline; `afterJobId` is the last job of the page before, also when it has ended since. */
  async openAttempts(afterJobId: string | null, limit: number): Promise<OpenAttempt[]> {
    const rows = await this.#db.query<OpenAttemptRow>('read_open_attempts', [afterJobId, limit]);
    return rows.map((row) => ({
      jobId: row.job_id,
      attempt: row.attempt,
      node: row.node,
      session: Number(row.session),
      pool: row.pool,
      deadlineInMs: row.deadline_in_ms,
      startOverMs: row.start_over_ms,
    }));
  }
}
