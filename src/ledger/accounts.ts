import type { Database } from '../postgres/database.ts';
import { changeRecord, changeRecords } from '../postgres/records.ts';

/** An account's credit in micro-credits: `freeMicro` = credited − captured − held, and may never be below zero. */
export interface AccountStatement {
  readonly id: number;
  readonly name: string;
  readonly creditedMicro: bigint;
  readonly capturedMicro: bigint;
  readonly heldMicro: bigint;
  readonly freeMicro: bigint;
  /** Full names, `acme/prod`. */
  readonly namespaces: readonly string[];
  /** Limits of its own, per coordinator; null: what the configuration says. */
  readonly limits: Readonly<Record<keyof LimitChange, number | null>>;
  /** Who may spend for it. `bannedMs`: what is left of a cut-off, 0 for none. */
  readonly publishers: readonly { readonly name: string; readonly bannedMs: number }[];
}

/** Limits of an account's own; one left out stays as it is, 0 gives the configuration's back. */
export interface LimitChange {
  readonly jobsPerSecond?: number;
  readonly burstJobs?: number;
  readonly openLocksMax?: number;
  readonly queuedMax?: number;
}

interface StatementRow {
  readonly id: number;
  readonly name: string;
  readonly credited_micro: bigint;
  readonly captured_micro: bigint;
  readonly held_micro: bigint;
  readonly namespaces: readonly string[];
  readonly jobs_per_second: number | null;
  readonly burst_jobs: number | null;
  readonly open_locks_max: number | null;
  readonly queued_max: number | null;
  readonly publishers: readonly string[];
  readonly banned_ms: readonly number[];
}

/**
 * Accounts, publishers and top-ups, for operators: roles tollgate_operator and tollgate_billing (top-up, show). All methods
 * throw TG_NOT_FOUND and TG_ALREADY_EXISTS as TollgateError, StoreError when PostgreSQL is away, SqlRejection for a name of
 * the wrong form. Every change reaches the directory of each coordinator by itself.
 */
export class Accounts {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Makes an account without credit or namespace; returns its id. */
  async create(name: string): Promise<number> {
    return (await changeRecord<{ id: number }>(this.#db, 'create_account', [name])).id;
  }

  /** Adds a namespace by its full name, `<account>/<name>`; returns its id. */
  async addNamespace(name: string): Promise<number> {
    return (await changeRecord<{ id: number }>(this.#db, 'add_namespace', [name])).id;
  }

  /** Adds a publisher by its name without `p-`; returns its id. Its RabbitMQ user is made elsewhere. */
  async addPublisher(name: string): Promise<number> {
    return (await changeRecord<{ id: number }>(this.#db, 'add_publisher', [name])).id;
  }

  /** Lets a publisher spend for an account. Idempotent. */
  async entitle(publisher: string, account: string): Promise<void> {
    await changeRecords(this.#db, 'entitle_publisher', [publisher, account]);
  }

  /**
   * Adds `amountMicro` (> 0) to an account. Idempotent by `id`, a UUIDv7 that the caller keeps for its retries: the same again
   * answers `isNew: false`; another use of the id is TG_ALREADY_EXISTS.
   */
  async topUp(
    id: string,
    account: string,
    amountMicro: bigint,
  ): Promise<{ isNew: boolean; freeMicro: bigint }> {
    const row = await changeRecord<{ answer: 'new' | 'exists'; free_micro: bigint }>(this.#db, 'top_up', [
      id,
      account,
      amountMicro,
    ]);
    return { isNew: row.answer === 'new', freeMicro: row.free_micro };
  }

  /** Sets limits of an account's own. Idempotent. A number out of bounds is a SqlRejection. */
  async limit(account: string, change: LimitChange): Promise<void> {
    const { jobsPerSecond = null, burstJobs = null, openLocksMax = null, queuedMax = null } = change;
    await changeRecords(this.#db, 'limit_account', [
      account,
      jobsPerSecond,
      burstJobs,
      openLocksMax,
      queuedMax,
    ]);
  }

  /** Reads an account's credit, namespaces, limits and publishers. */
  async show(name: string): Promise<AccountStatement> {
    const row = await changeRecord<StatementRow>(this.#db, 'show_account', [name]);
    return {
      id: row.id,
      name: row.name,
      creditedMicro: row.credited_micro,
      capturedMicro: row.captured_micro,
      heldMicro: row.held_micro,
      freeMicro: row.credited_micro - row.captured_micro - row.held_micro,
      namespaces: row.namespaces,
      limits: {
        jobsPerSecond: row.jobs_per_second,
        burstJobs: row.burst_jobs,
        openLocksMax: row.open_locks_max,
        queuedMax: row.queued_max,
      },
      publishers: row.publishers.map((publisher, i) => ({
        name: publisher,
        bannedMs: row.banned_ms[i] ?? 0,
      })),
    };
  }
}
