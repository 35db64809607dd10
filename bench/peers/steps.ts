import { AmqpBroker } from '../../src/broker/connection.ts';
import { systemClock } from '../../src/clock.ts';
import type { Config } from '../../src/config-schema.ts';
import type { DispatchMessage } from '../../src/contracts/dispatch.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { EXCHANGE } from '../../src/contracts/names.ts';
import { CreditLocksPg } from '../../src/ledger/credit-locks.ts';
import type { LockAnswer, LockRequest } from '../../src/ledger/types.ts';
import { DirectoryPg } from '../../src/network/directory.ts';
import { Database } from '../../src/postgres/database.ts';
import { MongoConnection } from '../../src/traces/mongo.ts';
import { MongoTraceSink } from '../../src/traces/sink.ts';
import { TraceSpool } from '../../src/traces/spool.ts';
import type { RequestDocument } from '../../src/traces/types.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisSlotLeases } from '../../src/workers/slot-leases.ts';
import type { Choice, LeaseName } from '../../src/workers/types.ts';
import { quietLog } from '../../test/support/ledger.ts';
import { lockRequestOf } from '../world/lock-requests.ts';
import { MODEL, NODES } from '../world/names.ts';
import { NO_SPOOL } from '../world/registrar.ts';
import { traceDocument } from '../world/trace-documents.ts';

/** PostgreSQL connections of the locks: more than eight were slower for single transactions. */
const LOCK_CONNECTIONS = 8;
/** MongoDB connections, so that no single insert waits for another. */
const TRACE_CONNECTIONS = 32;
/** As the product says it to a node. */
const FIRST_TOKEN_MS = 60_000;
/** The most that one call of the product gives back. */
const RELEASE_LEASES_MAX = 1_000;

/** A job in the hands of the steps. */
interface Placed {
  readonly job: JobMessage;
  readonly body: Buffer;
  readonly choice: Choice;
  readonly receivedAtMs: number;
}

/** A placed job and what the ledger said of it. */
interface Locked extends Placed {
  readonly lock: LockAnswer & { kind: 'new' };
}

/**
 * The steps of one dispatch as a user of another queue would write them, on top of the product's own rooms: the same script, the
 * same ledger function, the same publisher, the same sink. Nothing is validated and nothing is retried: each fault ends the bench.
 */
export class Steps {
  readonly #database: Database;
  readonly #directory: DirectoryPg;
  readonly #locks: CreditLocksPg;
  readonly #slots: RedisSlotLeases;
  readonly #broker: AmqpBroker;
  readonly #traces: MongoTraceSink;
  readonly #parts: readonly { start(): Promise<void> }[];
  #leases: LeaseName[] = [];

  constructor(config: Config) {
    const { servers, ledger } = config;
    const log = quietLog;
    const clock = systemClock;
    const bounds = { ...ledger, ...servers, connectionsMax: LOCK_CONNECTIONS };
    this.#database = new Database({ ...bounds, url: servers.postgresUrl }, log);
    this.#directory = new DirectoryPg(config.directory, clock, log, this.#database);
    this.#locks = new CreditLocksPg(ledger, log, this.#database);
    const redis = new FleetRedis(servers, config.fleet, log);
    this.#slots = new RedisSlotLeases(redis);
    this.#broker = new AmqpBroker({
      ...config.broker,
      ...servers,
      url: servers.amqpUrl,
      name: 'bench peer',
      bounds: config.broker,
      log,
      clock,
    });
    const traces = { ...config.traces, connectionsMax: TRACE_CONNECTIONS };
    const mongo = new MongoConnection({ servers, traces }, log);
    const spool = new TraceSpool(config.traces, this.#broker.publisher);
    this.#traces = new MongoTraceSink(log, NO_SPOOL, mongo, spool);
    this.#parts = [this.#directory, this.#broker, redis, mongo];
  }

  async start(): Promise<void> {
    for (const part of this.#parts) await part.start();
  }

  /** Commits a credit lock for each job, each in a transaction of its own unless `areBatched`. */
  async lock(jobs: readonly JobMessage[], areBatched: boolean): Promise<void> {
    const placed = jobs.map((job, i) => {
      const seat = { node: NODES[i % NODES.length] ?? '', session: 1 };
      return lockRequestOf(this.#directory, job, Buffer.from(JSON.stringify(job)), seat);
    });
    await this.#lock(placed, areBatched);
  }

  /** All of it: slots, locks, hand-over with a confirm, traces; the jobs of a batch go through each step together. */
  async all(jobs: readonly JobMessage[], areLocksBatched: boolean): Promise<void> {
    const placed = await this.#reserve(jobs);
    const answers = await this.#lock(
      placed.map(({ job, body, choice: { node, session } }) =>
        lockRequestOf(this.#directory, job, body, { node, session }),
      ),
      areLocksBatched,
    );
    const locked: Locked[] = [];
    for (const [i, one] of placed.entries()) {
      const lock = answers[i];
      if (lock?.kind === 'new') locked.push({ ...one, lock });
    }
    const lockedAtMs = systemClock.nowMs();
    const outcomes = await this.#broker.publisher.publishBatch(locked.map(dispatchOf));
    const failure = outcomes.find((outcome) => outcome !== 'confirmed');
    if (failure !== undefined) throw new Error(`a dispatch was ${failure}`);
    const dispatchedAtMs = systemClock.nowMs();
    await this.#traces.writeRequests(locked.map((one) => traceOf(one, lockedAtMs, dispatchedAtMs)));
  }

  /** Gives back all slots that were taken, and tells how many. */
  async giveBack(): Promise<number> {
    const leases = this.#leases;
    this.#leases = [];
    let released = 0;
    for (let from = 0; from < leases.length; from += RELEASE_LEASES_MAX)
      released += await this.#slots.releaseBatch(leases.slice(from, from + RELEASE_LEASES_MAX));
    return released;
  }

  async #reserve(jobs: readonly JobMessage[]): Promise<Placed[]> {
    const receivedAtMs = systemClock.nowMs();
    const answers = await this.#slots.reserveBatch(
      jobs.map(({ id }) => ({ jobId: id, attempt: 1, pool: MODEL })),
    );
    const placed: Placed[] = [];
    for (const [i, job] of jobs.entries()) {
      const choice = answers[i];
      if (choice?.kind !== 'got') throw new Error(`a slot was answered ${choice?.kind}`);
      this.#leases.push({ jobId: job.id, attempt: 1, node: choice.node, session: choice.session });
      placed.push({ job, body: Buffer.from(JSON.stringify(job)), choice, receivedAtMs });
    }
    return placed;
  }

  async #lock(requests: readonly LockRequest[], areBatched: boolean): Promise<LockAnswer[]> {
    const answers = areBatched
      ? await this.#locks.lockBatch(requests)
      : (await Promise.all(requests.map((request) => this.#locks.lockBatch([request])))).flat();
    const other = answers.find(({ kind }) => kind !== 'new');
    if (other !== undefined) throw new Error(`a lock was answered ${other.kind}`);
    return answers;
  }
}

function dispatchOf({ job, choice, lock }: Locked) {
  const message: DispatchMessage = {
    v: 1,
    job: job.id,
    attempt: lock.attempt,
    node: choice.node,
    session: choice.session,
    model: job.model,
    model_version: 1,
    kind: 'chat',
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- our own client wrote it; only the product validates.
    input: job.input as DispatchMessage['input'],
    limits: {
      input_tokens_max: job.limits.input_tokens_max,
      output_tokens_max: job.limits.output_tokens_max,
    },
    start_ms: lock.startMs,
    remaining_ms: lock.remainingMs,
    first_token_ms: FIRST_TOKEN_MS,
  };
  return {
    exchange: EXCHANGE.dispatch,
    routingKey: choice.node,
    body: Buffer.from(JSON.stringify(message)),
    messageId: `${job.id}.${lock.attempt}`,
    expirationMs: lock.startMs,
    mandatory: true,
    transient: true,
  };
}

function traceOf(
  { job, body, choice, lock, receivedAtMs }: Locked,
  lockedAtMs: number,
  dispatchedAtMs: number,
): RequestDocument {
  return traceDocument(job, body, {
    attempt: lock.attempt,
    node: choice.node,
    session: choice.session,
    isWarm: choice.isWarm,
    slotsFree: choice.slotsFree,
    workersFree: choice.workersFree,
    receivedAtMs,
    lockedAtMs,
    dispatchedAtMs,
    dispatchMs: dispatchedAtMs - receivedAtMs,
  });
}
