import { AmqpBroker } from '../../src/broker/connection.ts';
import type { ConsumerChannel, Consumption, Delivery } from '../../src/broker/types.ts';
import { systemClock } from '../../src/clock.ts';
import type { Config } from '../../src/config-schema.ts';
import { digestKeyOf } from '../../src/contracts/canonical.ts';
import { fleetQueue, jobQueue, QUEUE } from '../../src/contracts/names.ts';
import { type AdmitDeps, admit } from '../../src/dispatcher/admit.ts';
import { dispatch } from '../../src/dispatcher/dispatch.ts';
import { requestDocument, routingEntry } from '../../src/dispatcher/documents.ts';
import { FleetConsumer } from '../../src/dispatcher/fleet-consumer.ts';
import { lock } from '../../src/dispatcher/lock.ts';
import { Replier } from '../../src/dispatcher/replies.ts';
import { reserve } from '../../src/dispatcher/reserve.ts';
import { attemptDocument, resultReply } from '../../src/dispatcher/result-documents.ts';
import { settle } from '../../src/dispatcher/settle.ts';
import type { Arrival, WaitingRoom } from '../../src/dispatcher/types.ts';
import { verify } from '../../src/dispatcher/verify.ts';
import { CreditLocksPg } from '../../src/ledger/credit-locks.ts';
import { SettlementsPg } from '../../src/ledger/settlements.ts';
import { DirectoryPg } from '../../src/network/directory.ts';
import { createLog } from '../../src/ops/log.ts';
import { PrometheusMetrics } from '../../src/ops/metrics.ts';
import { Database } from '../../src/postgres/database.ts';
import { MongoConnection } from '../../src/traces/mongo.ts';
import { MongoTraceSink } from '../../src/traces/sink.ts';
import { TraceSpool } from '../../src/traces/spool.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisFleetRegistry } from '../../src/workers/registry.ts';
import { RedisSlotLeases } from '../../src/workers/slot-leases.ts';
import { serveParent } from '../process/child.ts';
import { MODEL } from '../world/names.ts';

/**
 * The same product as most would write it first: each job on its own, 32 at a time. Every step is the product's own stage
 * with a batch of one: one script call, one transaction, one publish and its confirm, one insert, one acknowledgement. So the
 * two differ in nothing but that these jobs share none of it.
 */

/** Jobs in flight, and results: the consumers' prefetch. */
const LANES = 32;
/** PostgreSQL connections of each role: more than eight were slower for single transactions. */
const CONNECTIONS = 8;
/** The id by which it hears the fleet. */
const COORDINATOR = 'one-at-a-time';

class OneAtATime {
  readonly #broker: AmqpBroker;
  readonly #directory: DirectoryPg;
  readonly #slots: RedisSlotLeases;
  readonly #locks: CreditLocksPg;
  readonly #settlements: SettlementsPg;
  readonly #traces: MongoTraceSink;
  readonly #replier: Replier;
  readonly #registry: RedisFleetRegistry;
  readonly #parts: readonly { start(): Promise<void> }[];
  readonly #metrics = new PrometheusMetrics();
  readonly #config: Config;
  readonly #digestKey: ReturnType<typeof digestKeyOf>;
  #channel: ConsumerChannel | null = null;
  #consumptions: Consumption[] = [];

  constructor(config: Config) {
    this.#config = config;
    this.#digestKey = digestKeyOf(config.secrets.digestKey);
    const log = createLog({ level: 'warn' }, 2);
    const clock = systemClock;
    const { servers } = config;
    const bounds = { ...config.ledger, ...servers, connectionsMax: CONNECTIONS };
    const dispatcher = new Database({ ...bounds, url: servers.postgresUrl }, log);
    const settler = new Database({ ...bounds, url: servers.postgresSettlerUrl ?? '' }, log);
    this.#broker = new AmqpBroker({
      ...config.broker,
      ...servers,
      url: servers.amqpUrl,
      name: 'bench one at a time',
      bounds: config.broker,
      setup: (topology) => topology.declareFleet(COORDINATOR),
      log,
      clock,
    });
    const { publisher } = this.#broker;
    const redis = new FleetRedis(servers, config.fleet, log);
    // A pool of connections as large as the lanes, so that no insert waits for another.
    const traces = { ...config.traces, connectionsMax: LANES };
    const mongo = new MongoConnection({ servers, traces }, log);
    this.#directory = new DirectoryPg(config.directory, clock, log, dispatcher);
    this.#slots = new RedisSlotLeases(redis);
    this.#locks = new CreditLocksPg(config.ledger, log, dispatcher);
    this.#settlements = new SettlementsPg(log, settler);
    this.#traces = new MongoTraceSink(log, this.#metrics, mongo, new TraceSpool(config.traces, publisher));
    const shared = { publisher, traces: this.#traces, clock, log, metrics: this.#metrics };
    this.#replier = new Replier({ ...shared, bounds: config.line });
    this.#registry = new RedisFleetRegistry(redis, config.fleet, () => true);
    const fleet = new FleetConsumer({
      ...shared,
      queue: fleetQueue(COORDINATOR),
      health: config.health,
      broker: this.#broker,
      registry: this.#registry,
      directory: this.#directory,
    });
    this.#parts = [this.#directory, this.#broker, redis, mongo, fleet];
  }

  async start(): Promise<void> {
    for (const part of this.#parts) await part.start();
    // Nothing runs yet, so there is nothing to give back first.
    for (const [cell, standing] of (await this.#registry.cells()).entries())
      if (standing.state !== 'away') await this.#slots.open(cell, standing.epochMs);
  }

  /** Workers that have a slot to give. */
  async workers(): Promise<number> {
    return (await this.#registry.list()).length;
  }

  async begin(): Promise<void> {
    this.#channel ??= await this.#broker.openChannel(() => undefined);
    const consume = async (queue: string, take: (delivery: Delivery) => Promise<void>): Promise<void> => {
      const consumption = await this.#channel?.consume(queue, LANES, (delivery) => void take(delivery));
      if (consumption) this.#consumptions.push(consumption);
    };
    await consume(QUEUE.results, (delivery) => this.#settle(delivery));
    await consume(jobQueue(MODEL, 'interactive'), (delivery) => this.#dispatch(delivery));
  }

  async end(): Promise<void> {
    const consumptions = this.#consumptions;
    this.#consumptions = [];
    await Promise.all(consumptions.map((consumption) => consumption.cancel()));
  }

  async #dispatch(delivery: Delivery): Promise<void> {
    const arrival: Arrival = {
      delivery,
      source: 'pool',
      priority: 'interactive',
      room: NO_ROOM,
      parsed: null,
      jobId: null,
      resumed: null,
      asked: 0,
      isPoison: false,
      isRefreshed: false,
    };
    const admission = admit(arrival, {
      directory: this.#directory,
      limits: NO_LIMITS,
      digestKey: this.#digestKey,
    });
    if (admission.kind !== 'admitted') throw new Error(`a job was not admitted: ${admission.kind}`);
    const { admitted } = admission;
    const reserved = await reserve([admitted], { slots: this.#slots, directory: this.#directory });
    const seats = reserved.on.map((one) => ({ ...one, admitted }));
    const locked = await lock(seats, {
      locks: this.#locks,
      clock: systemClock,
      metrics: this.#metrics,
    });
    const { publisher } = this.#broker;
    const sent = await dispatch(locked.on, { publisher, clock: systemClock, firstTokenMs: 60_000 });
    const [dispatched] = sent.on;
    if (dispatched === undefined) throw new Error('a job was not dispatched');
    const atMs = systemClock.nowMs();
    const routing = routingEntry(dispatched, atMs);
    await this.#traces.writeRequests([requestDocument(admitted, atMs, routing)]);
    delivery.acknowledge();
  }

  async #settle(delivery: Delivery): Promise<void> {
    const bounds = this.#config.results;
    const verified = await verify([delivery], { directory: this.#directory, bounds, random: Math.random });
    const settled = await settle(verified.on, this.#settlements);
    const [one] = settled.on;
    if (one === undefined) throw new Error('a result was not settled');
    const { job, attempt, node, session } = one.verified.result;
    await this.#slots.releaseBatch([{ jobId: job, attempt, node, session }]);
    const reply = resultReply(one, this.#directory);
    if (reply) await this.#replier.send([reply]);
    await this.#traces.writeAttempts([attemptDocument(one)]);
    delivery.acknowledge();
  }
}

/** Nobody asks for too much in a bench. */
const NO_LIMITS: AdmitDeps['limits'] = { ofPublisher: () => null, ofAccount: () => null };

/** There is a slot for every job of a bench. */
const NO_ROOM: WaitingRoom = {
  prefetch: Number.POSITIVE_INFINITY,
  hold: () => {
    throw new Error('no slot');
  },
  placed: () => undefined,
  heldBy: () => 0,
  isAwaited: () => false,
  left: () => undefined,
};

let line: OneAtATime | null = null;

/** What the bench may ask of this process. */
const methods = {
  async start(config: Config): Promise<void> {
    line = new OneAtATime(config);
    await line.start();
  },
  workers: async (): Promise<number> => (await line?.workers()) ?? 0,
  async begin(): Promise<void> {
    await line?.begin();
  },
  async end(): Promise<void> {
    await line?.end();
  },
};

/** This process's methods, for `Child`. */
export type OneAtATimeMethods = typeof methods;

serveParent(methods);
