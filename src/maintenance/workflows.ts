import { PgBoss } from 'pg-boss';
import type { Log } from '../ops/types.ts';

/** A schedule: when (cron, UTC), and under which name. */
export interface Scheduled {
  readonly name: string;
  readonly cron: string;
}

/** How pg-boss reaches PostgreSQL and what it keeps. */
export interface WorkflowsOptions {
  /** Login of role tollgate_maintainer. Never logged. */
  readonly url: string;
  readonly connectTimeoutMs: number;
  /** How long the record of a run is kept, in days. */
  readonly recordDays: number;
}

const SCHEMA = 'workflows';
const CONNECTIONS_MAX = 2;
/** A statement of pg-boss that PostgreSQL did not answer by then has failed, and its connection is given up, in milliseconds. */
const ANSWER_MS_MAX = 5_000;
/** A run that was due is noticed within this. */
const POLL_S = 5;
/** A run is one short transaction; one that takes so long is counted as failed and comes again. */
const RUN_S_MAX = 300;
const RETRIES = 3;
const RETRY_DELAY_S = 30;
const SECONDS_PER_DAY = 86_400;
/** Longest wait for a run under way when it is told to stop, in milliseconds. */
const STOP_MS_MAX = 2_000;

/**
 * pg-boss: schedules, and the record of every run with its outcome, in schema `workflows`. Its tables come with our migrations, so
 * it runs without the right to make any. Several may run at once, but only the owner of maintenance starts one; what keeps an
 * old one from doing harm is the fence of each write, not this class. Source: design [25].
 */
export class Workflows {
  readonly #boss: PgBoss;
  readonly #recordDays: number;

  constructor({ url, connectTimeoutMs, recordDays }: WorkflowsOptions, log: Log) {
    this.#recordDays = recordDays;
    // pg-boss hands to pg what it does not know itself. Without a limit a half-open connection would hold up the schedules, and
    // with them a drain, until the kernel gives up.
    const driver = { query_timeout: ANSWER_MS_MAX, keepAlive: true };
    this.#boss = new PgBoss({
      ...driver,
      connectionString: url,
      connectionTimeoutMillis: connectTimeoutMs,
      application_name: 'tollgate maintenance',
      schema: SCHEMA,
      max: CONNECTIONS_MAX,
      migrate: false,
      createSchema: false,
      // Its role owns no index and no table.
      reindex: false,
      monitorVacuum: false,
    });
    this.#boss.on('error', (error) => log.warn({ reason: error.message }, 'pg-boss waits for PostgreSQL'));
    this.#boss.on('warning', ({ message }) => log.warn({ reason: message }, 'pg-boss warns'));
  }

  /**
   * Puts `tasks` on schedule and drops other schedules; each runs once now, because it may have been due while nobody was there.
   * `run` may reject: then it is recorded, and repeated a few times. Rejects with what pg-boss throws when PostgreSQL is away or has
   * not the tables this version of it needs.
   */
  async start<T extends Scheduled>(
    tasks: readonly T[],
    run: (task: T) => Promise<Readonly<Record<string, number>>>,
  ): Promise<void> {
    const boss = this.#boss;
    await boss.start();
    const names = new Set(tasks.map(({ name }) => name));
    for (const { name } of await boss.getSchedules()) if (!names.has(name)) await boss.unschedule(name);
    for (const task of tasks) {
      await boss.createQueue(task.name, {
        policy: 'exclusive',
        expireInSeconds: RUN_S_MAX,
        retryLimit: RETRIES,
        retryDelay: RETRY_DELAY_S,
        deleteAfterSeconds: this.#recordDays * SECONDS_PER_DAY,
      });
      await boss.schedule(task.name, task.cron, null, { tz: 'UTC' });
      await boss.send(task.name);
      await boss.work(task.name, { pollingIntervalSeconds: POLL_S }, () => run(task));
    }
  }

  /** Resolves when its connections are closed. What runs then is recorded as failed and comes again. */
  async stop(): Promise<void> {
    await this.#boss.stop({ graceful: true, timeout: STOP_MS_MAX });
  }
}
