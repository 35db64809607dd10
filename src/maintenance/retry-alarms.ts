import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import { Cluster, Redis } from 'ioredis';
import type { OutMessage, Publisher } from '../broker/types.ts';
import type { Config } from '../config-schema.ts';
import { EXCHANGE, jobKey } from '../contracts/names.ts';
import type { RetryMessage } from '../contracts/retry.ts';
import type { RetryAlarm } from '../ledger/types.ts';
import type { Log, Service } from '../ops/types.ts';
import { redisPlace } from '../redis-place.ts';

interface RetryAlarmsDeps {
  readonly servers: Pick<Config['servers'], 'redisUrl' | 'connectTimeoutMs' | 'reconnectDelayMsMax'>;
  readonly fleet: Pick<Config['fleet'], 'keyPrefix' | 'commandMsMax'>;
  readonly publisher: Publisher;
  readonly log: Log;
}

const QUEUE_NAME = 'retries';
/** Alarms that ring at the same time in one process. */
const CONCURRENCY = 64;
/** Tries of a ring whose message the broker did not take, and the pause before the second; then the sweep finds the attempt. */
const RING_TRIES = 3;
const RING_PAUSE_MS = 500;
/** Longest wait for BullMQ to close, in milliseconds: with Redis away it would wait for it. */
const CLOSE_MS_MAX = 1_000;

/**
 * The alarm clock of delayed retries: BullMQ rings, and a ring is a message to the job's own pool. It holds nothing that is not in
 * PostgreSQL (`retry_at`): an alarm that is lost with Redis is set again by the sweep, and one that rings twice is a message that
 * finds its attempt placed. Retries that are due now go out at once. Source: design [24].
 */
export class RetryAlarmClock implements Service {
  readonly #deps: RetryAlarmsDeps;
  readonly #connections: (Redis | Cluster)[] = [];
  #queue: Queue<RetryAlarm> | null = null;
  #worker: Worker<RetryAlarm> | null = null;

  constructor(deps: RetryAlarmsDeps) {
    this.#deps = deps;
  }

  /** Begins to ring. Does not wait for Redis. */
  start(): Promise<void> {
    if (this.#queue !== null) return Promise.resolve();
    // One key for all that BullMQ keeps: its scripts touch several at once.
    const prefix = `{${this.#deps.fleet.keyPrefix}:alarms}`;
    const options = { prefix, skipVersionCheck: true };
    this.#queue = new Queue<RetryAlarm>(QUEUE_NAME, {
      ...options,
      connection: this.#connect({ enableOfflineQueue: false, commandTimeout: this.#deps.fleet.commandMsMax }),
    });
    this.#worker = new Worker<RetryAlarm>(QUEUE_NAME, async ({ data }) => this.#ring(data), {
      ...options,
      connection: this.#connect({ maxRetriesPerRequest: null }),
      concurrency: CONCURRENCY,
    });
    const waits = (error: Error) => this.#deps.log.debug({ error: error.message }, 'the alarm clock waits');
    this.#queue.on('error', waits);
    this.#worker.on('error', waits);
    return Promise.resolve();
  }

  /** Stops ringing; alarms that are set ring at another coordinator. */
  async stop(): Promise<void> {
    const closing = Promise.allSettled([this.#worker?.close(true), this.#queue?.close()]);
    const given = new AbortController();
    await Promise.race([
      closing,
      sleep(CLOSE_MS_MAX, undefined, { signal: given.signal }).catch(() => undefined),
    ]);
    given.abort();
    for (const connection of this.#connections.splice(0)) connection.disconnect();
    this.#queue = null;
    this.#worker = null;
  }

  /** Sets one alarm each, those due now ring at once. Never rejects: what could not be set is found by the sweep. */
  async set(alarms: readonly RetryAlarm[]): Promise<void> {
    const due = alarms.filter(({ delayMs }) => delayMs <= 0);
    const later = alarms.filter(({ delayMs }) => delayMs > 0);
    await Promise.all([this.#publish(due), this.#delay(later)]);
  }

  async #publish(alarms: readonly RetryAlarm[]): Promise<void> {
    if (alarms.length === 0) return;
    const outcomes = await this.#deps.publisher.publishBatch(alarms.map(retryMessage));
    const lost = outcomes.filter((outcome) => outcome !== 'confirmed').length;
    if (lost > 0) this.#deps.log.warn({ alarms: lost }, 'retries not published: the sweep will');
  }

  async #delay(alarms: readonly RetryAlarm[]): Promise<void> {
    if (alarms.length === 0) return;
    const tooLong = new AbortController();
    try {
      await Promise.race([
        this.#queue?.addBulk(alarms.map(delayedJob)),
        sleep(this.#deps.fleet.commandMsMax, undefined, { signal: tooLong.signal }).then(() => {
          throw new Error('no answer in time');
        }),
      ]);
    } catch (error) {
      this.#deps.log.warn(
        { alarms: alarms.length, error: String(error) },
        'alarms not set: the sweep will ring',
      );
    } finally {
      tooLong.abort();
    }
  }

  async #ring(alarm: RetryAlarm): Promise<void> {
    const outcome = await this.#deps.publisher.publish(retryMessage(alarm));
    if (outcome !== 'confirmed') throw new Error(`the retry message was ${outcome}`);
  }

  #connect(options: {
    enableOfflineQueue?: false;
    commandTimeout?: number;
    maxRetriesPerRequest?: null;
  }): Redis | Cluster {
    const { redisUrl, connectTimeoutMs, reconnectDelayMsMax } = this.#deps.servers;
    const common = { ...options, connectionName: 'tollgate-alarms', connectTimeout: connectTimeoutMs };
    const delayMs = (tries: number) => Math.min(reconnectDelayMsMax, 50 * 2 ** Math.min(tries, 10));
    const place = redisPlace(redisUrl);
    const connection =
      place.kind === 'server'
        ? new Redis(place.url, { ...common, retryStrategy: delayMs })
        : new Cluster([...place.nodes], {
            clusterRetryStrategy: delayMs,
            ...(options.enableOfflineQueue === false ? { enableOfflineQueue: false } : {}),
            redisOptions: { ...common, ...place.login },
          });
    connection.on('error', (error: Error) =>
      this.#deps.log.debug({ error: error.message }, 'alarm connection'),
    );
    this.#connections.push(connection);
    return connection;
  }
}

/** BullMQ takes no colon in an id of ours. */
function delayedJob(alarm: RetryAlarm) {
  return {
    name: 'retry',
    data: alarm,
    opts: {
      jobId: `${alarm.jobId}.${alarm.attempt}`,
      delay: alarm.delayMs,
      attempts: RING_TRIES,
      backoff: { type: 'fixed', delay: RING_PAUSE_MS },
      removeOnComplete: true,
      removeOnFail: true,
    },
  };
}

function retryMessage({ jobId, attempt, pool, priority, remainingMs }: RetryAlarm): OutMessage {
  const message: RetryMessage = { v: 1, job: jobId, attempt };
  return {
    exchange: EXCHANGE.retry,
    routingKey: jobKey(pool, priority),
    body: Buffer.from(JSON.stringify(message)),
    messageId: `${jobId}.${attempt}`,
    // It means nothing after its job's time, and would otherwise stand in front of others whose time is judged at the head.
    expirationMs: Math.max(1, remainingMs),
    mandatory: true,
  };
}
