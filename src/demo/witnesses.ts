import { setTimeout as sleep } from 'node:timers/promises';
import { renderJobStory } from '../api/job-story.ts';
import { AmqpBroker } from '../broker/connection.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { QUEUE } from '../contracts/names.ts';
import { Accounts, type AccountStatement } from '../ledger/accounts.ts';
import { CreditLocksPg } from '../ledger/credit-locks.ts';
import { JobRecords } from '../ledger/job-records.ts';
import type { Log } from '../ops/types.ts';
import type { Database } from '../postgres/database.ts';
import { MongoConnection } from '../traces/mongo.ts';
import { MongoTraceStore } from '../traces/store.ts';
import type { SentJob } from './generator.ts';
import type { SeenDead, SeenRow } from './verdict.ts';
import type { World } from './world.ts';

const PAGE_JOBS = 500;
/** Traces of one account that the dispatch times are taken from, the newest. */
const TRACES_MAX = 2_000;
const POLL_MS = 100;
/** What is still on its way to a store after the last answer has this long. */
const SETTLE_MS_MAX = 15_000;

/** What PostgreSQL, MongoDB and RabbitMQ know of the run: the other witnesses besides replies and the generator's log. */
export class Witnesses {
  readonly #config: Config;
  readonly #log: Log;
  readonly #db: Database;
  readonly #accounts: Accounts;
  readonly #mongo: MongoConnection;
  readonly #store: MongoTraceStore;

  /** `db`: an operator's login; it stays the caller's. */
  constructor(config: Config, log: Log, db: Database) {
    this.#config = config;
    this.#log = log;
    this.#db = db;
    this.#accounts = new Accounts(db);
    this.#mongo = new MongoConnection(config, log);
    this.#store = new MongoTraceStore(this.#mongo);
  }

  start(): Promise<void> {
    return this.#mongo.start();
  }

  stop(): Promise<void> {
    return this.#mongo.stop();
  }

  /** The credit of every account of the world, in its order. */
  statements({ accounts }: World): Promise<AccountStatement[]> {
    return Promise.all(accounts.map(({ name }) => this.#accounts.show(name)));
  }

  /** The rows of these jobs; those without one are absent. A row of another account or body is a `conflict`. */
  async rowsOf(
    jobs: ReadonlyMap<string, SentJob>,
    accounts: readonly AccountStatement[],
  ): Promise<Map<string, SeenRow>> {
    const idOf = new Map(accounts.map(({ name, id }) => [name, id]));
    const questions = [...jobs].map(([jobId, { account, digest }]) => ({
      jobId,
      accountId: idOf.get(account) ?? 0,
      digest,
    }));
    const ledger = new CreditLocksPg(this.#config.ledger, this.#log, this.#db);
    const rows = new Map<string, SeenRow>();
    for (let from = 0; from < questions.length; from += PAGE_JOBS) {
      const page = questions.slice(from, from + PAGE_JOBS);
      const answers = await ledger.lookUpBatch(page);
      for (const [i, { jobId }] of page.entries()) {
        const answer = answers[i] ?? null;
        if (answer?.kind === 'exists') rows.set(jobId, answer);
        else if (answer !== null) rows.set(jobId, { state: 'conflict', code: null, chargedMicro: 0n });
      }
    }
    return rows;
  }

  /**
   * What became of messages that nobody may be answered for: they are in the queue `dead`, and an event tells why. Waits for
   * those that are not there yet. The letters stay in the queue.
   */
  async deadLetters(ids: readonly string[]): Promise<Map<string, SeenDead>> {
    const missing = new Set(ids);
    if (missing.size === 0) return new Map();
    const { broker: bounds, servers } = this.#config;
    const broker = new AmqpBroker({
      ...bounds,
      ...servers,
      url: servers.amqpUrl,
      name: 'demo dead letters',
      bounds,
      log: this.#log,
      clock: systemClock,
    });
    await broker.start();
    try {
      const channel = await broker.openChannel(() => undefined);
      // Not acknowledged: when the channel closes, the broker has them again.
      await channel.consume(QUEUE.dead, 0, ({ messageId }) => missing.delete(messageId ?? ''));
      await until(() => missing.size === 0);
    } finally {
      await broker.stop();
    }
    const found = new Map<string, SeenDead>();
    for (const id of ids.filter((one) => !missing.has(one))) {
      await until(async () => {
        const [event] = await this.#store.findEvents(id);
        found.set(id, { code: event?.code ?? null, field: event?.field ?? null });
        return event !== undefined;
      });
    }
    return found;
  }

  /** Waits until the traces of these jobs are written: a reply may be faster. */
  async tracesWritten(rows: ReadonlyMap<string, SeenRow>): Promise<void> {
    const jobs = [...rows];
    for (let from = 0; from < jobs.length; from += PAGE_JOBS) {
      const page = jobs.slice(from, from + PAGE_JOBS);
      const ids = page.map(([job]) => job);
      const ran = page.filter(([, { state }]) => state === 'succeeded' || state === 'failed');
      const attempts = ran.map(([job]) => ({ job, attempt: 1 }));
      await until(async () => (await this.#store.findMissingRequests(ids)).length === 0);
      await until(async () => (await this.#store.findMissingAttempts(attempts)).length === 0);
    }
  }

  /** From receipt to the broker's confirm of the dispatch, in milliseconds, of the newest jobs of every account. */
  async dispatchTimes({ accounts }: World, fromMs: number, toMs: number): Promise<number[]> {
    const times: number[] = [];
    for (const { name } of accounts) {
      const traces = await this.#store.findByTime({ account: name, fromMs, toMs, limit: TRACES_MAX });
      times.push(...traces.map(({ request }) => request.routing?.dispatchMs ?? Number.NaN));
    }
    return times.filter((ms) => !Number.isNaN(ms));
  }

  /** One job's story, as `tollgate job show` tells it. */
  async story(jobId: string): Promise<string> {
    const [record, trace, events] = await Promise.all([
      new JobRecords(this.#db).find(jobId),
      this.#store.findJob(jobId),
      this.#store.findEvents(jobId),
    ]);
    return renderJobStory(record, trace, { jobId, events });
  }
}

/** Looks again and again, for so long; what is not there then is a difference that the comparison shows. */
async function until(isDone: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = systemClock.monotonicMs() + SETTLE_MS_MAX;
  while (!(await isDone()) && systemClock.monotonicMs() < endMs) await sleep(POLL_MS);
}
