import { explainRoutes } from './api/explain-routes.ts';
import { healthRoutes } from './api/health-routes.ts';
import { HttpServer } from './api/http.ts';
import { AmqpBroker } from './broker/connection.ts';
import { queueDepth } from './broker/queue-depth.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Config } from './config-schema.ts';
import { digestKeyOf } from './contracts/canonical.ts';
import { fleetQueue, QUEUE } from './contracts/names.ts';
import { ByteBudget } from './dispatcher/byte-budget.ts';
import { CancelIntake } from './dispatcher/cancel-intake.ts';
import { deadLetter } from './dispatcher/dead-letter.ts';
import { FailureOwner } from './dispatcher/failure-owner.ts';
import { FleetConsumer } from './dispatcher/fleet-consumer.ts';
import { JobLine } from './dispatcher/job-line.ts';
import { NodeQueues } from './dispatcher/node-queues.ts';
import { Pools } from './dispatcher/pools.ts';
import { Replier } from './dispatcher/replies.ts';
import { ResultLine } from './dispatcher/result-line.ts';
import { SeenJobs } from './dispatcher/seen-jobs.ts';
import { SideIntake } from './dispatcher/side-intake.ts';
import { StageRunner } from './dispatcher/stage-runner.ts';
import { Suspects } from './dispatcher/suspects.ts';
import { Sweeps } from './dispatcher/sweeps.ts';
import { refusal, StoreError, TollgateError } from './errors.ts';
import { AttemptsPg } from './ledger/attempts.ts';
import { CancellationsPg } from './ledger/cancellations.ts';
import { newUuidV7 } from './ids.ts';
import { CreditLocksPg } from './ledger/credit-locks.ts';
import { JobRecords } from './ledger/job-records.ts';
import { SettlementsPg } from './ledger/settlements.ts';
import { SweepsPg } from './ledger/sweeps.ts';
import { RetryAlarmClock } from './maintenance/retry-alarms.ts';
import { DirectoryPg } from './network/directory.ts';
import { PoolRecords } from './network/pools.ts';
import { exposeGauges, healthChecks } from './observe.ts';
import { Health } from './ops/health.ts';
import { Lifecycle } from './ops/lifecycle.ts';
import { createLog } from './ops/log.ts';
import { PrometheusMetrics } from './ops/metrics.ts';
import type { Log, Service } from './ops/types.ts';
import { Database } from './postgres/database.ts';
import { loginAs } from './postgres/role-url.ts';
import { ensureCollectionsWhenUp } from './traces/collections.ts';
import { SchemaKeeper } from './postgres/schema-keeper.ts';
import { MongoConnection } from './traces/mongo.ts';
import { MongoTraceSink } from './traces/sink.ts';
import { TraceSpool } from './traces/spool.ts';
import { SpoolDrain } from './traces/spool-drain.ts';
import { MongoTraceStore } from './traces/store.ts';
import { FleetRedis } from './workers/redis.ts';
import { RedisFleetRegistry } from './workers/registry.ts';
import { RedisSlotLeases } from './workers/slot-leases.ts';
import { RedisSuspectCounts } from './workers/suspect-counts.ts';

/** A running coordinator. `stop` drains: nothing new is taken, what is under way ends, the rest goes back to the broker. */
export interface Daemon extends Service {
  /** Where `/metrics`, `/livez` and `/readyz` answer. */
  readonly httpUrl: string;
}

/** Milliseconds that all parts together may take to stop after the drain. */
const STOP_GRACE_MS = 10_000;

/**
 * Puts one coordinator together and starts it. This is the only place that knows all the parts; read it as the list of them.
 * Resolves when it takes work. Rejects if PostgreSQL or RabbitMQ does not answer or the schema is not the one this version
 * needs; Redis and MongoDB may come later, and `/readyz?verbose` says what is awaited. `signal` aborts the start. Logs to
 * standard output unless `log` is given.
 */
export async function runDaemon(
  config: Config,
  options: { signal?: AbortSignal; log?: Log } = {},
): Promise<Daemon> {
  const clock = systemClock;
  const log = options.log ?? createLog(config.log);
  const metrics = new PrometheusMetrics();
  const stores = connectStores(config, clock, log, metrics);
  const parts = assemble(config, clock, log, metrics, stores);
  const http = new HttpServer(config.http, log, {
    ...healthRoutes(parts.health, metrics),
    ...explainRoutes(explaining(config, stores, parts)),
  });

  const lifecycle = new Lifecycle(
    [
      { name: 'http', service: http },
      ...stores.services,
      { name: 'replies', service: onlyStop(() => parts.replier.close()) },
      { name: 'retry alarms', service: parts.alarms },
      { name: 'results', service: parts.results },
      { name: 'node queues', service: parts.nodeQueues },
      { name: 'fleet', service: parts.fleet },
      { name: 'sweeps', service: parts.sweeps },
      { name: 'job line', service: onlyStop(() => parts.line.stop()) },
      { name: 'cancellations', service: parts.cancels },
      { name: 'unroutable jobs', service: parts.unroutable },
      { name: 'expired jobs', service: parts.expired },
      { name: 'pools', service: parts.pools },
      { name: 'stage patience', service: onlyStop(async () => parts.stages.stopAfter(config.line.drainMs)) },
      { name: 'readiness', service: onlyStop(async () => parts.health.drain()) },
    ],
    log,
    config.line.drainMs + STOP_GRACE_MS,
  );
  options.signal?.addEventListener('abort', () => void lifecycle.stop().catch(() => undefined), {
    once: true,
  });
  await lifecycle.start();
  log.info({ http: http.url }, 'serving');
  return { start: () => lifecycle.start(), stop: () => lifecycle.stop(), httpUrl: http.url };
}

type Stores = ReturnType<typeof connectStores>;
type Parts = ReturnType<typeof assemble>;

/** The four servers, each behind the room that owns its driver. */
function connectStores(config: Config, clock: Clock, log: Log, metrics: PrometheusMetrics) {
  const database = (url: string) => new Database({ ...config.ledger, ...config.servers, url }, log);
  const dispatcherDb = database(config.servers.postgresUrl);
  const { postgresUrl, postgresSettlerUrl } = config.servers;
  const settlerDb = database(postgresSettlerUrl ?? loginAs(postgresUrl, 'tollgate_settler'));
  const directory = new DirectoryPg(config.directory, clock, log, dispatcherDb);
  const id = newUuidV7();
  const broker = new AmqpBroker({
    ...config.broker,
    url: config.servers.amqpUrl,
    name: 'tollgate',
    connectTimeoutMs: config.servers.connectTimeoutMs,
    reconnectDelayMsMax: config.servers.reconnectDelayMsMax,
    bounds: config.broker,
    setup: async (topology) => {
      await topology.declareCore();
      await topology.declareFleet(id);
    },
    log,
    clock,
  });
  const redis = new FleetRedis(config.servers, config.fleet, log);
  const mongo = new MongoConnection(config, log);
  ensureCollectionsWhenUp(mongo, config.servers, log);
  const spool = new TraceSpool(config.traces, broker.publisher);
  const bury = async (body: Buffer, reason: string): Promise<void> => {
    const outcome = await broker.publisher.publish(
      deadLetter(
        { body, messageId: null, queue: QUEUE.spool, userId: null },
        refusal('TG_MESSAGE_INVALID', null, reason),
      ),
    );
    if (outcome !== 'confirmed') throw new StoreError('rabbitmq', `dead letter ${outcome}`);
  };
  const services = [
    {
      name: 'postgres',
      service: onlyStop(async () => void (await Promise.all([dispatcherDb.close(), settlerDb.close()]))),
    },
    { name: 'schema', service: new SchemaKeeper(dispatcherDb, log) },
    { name: 'directory', service: directory },
    { name: 'rabbitmq', service: broker },
    { name: 'redis', service: tolerant(redis, log) },
    { name: 'mongodb', service: tolerant(mongo, log) },
    { name: 'spool drain', service: new SpoolDrain(config.traces, log, mongo, broker, bury) },
  ];
  return {
    /** What this coordinator is called wherever several are told apart; new with every start. */
    id,
    dispatcherDb,
    settlerDb,
    directory,
    broker,
    redis,
    mongo,
    traces: new MongoTraceSink(log, metrics, mongo, spool),
    traceStore: new MongoTraceStore(mongo),
    services,
  };
}

/** What several parts are handed: the slots, the runner of stages, the replies, and the owner of failure with its alarm clock. */
function sharedParts(config: Config, clock: Clock, log: Log, metrics: PrometheusMetrics, stores: Stores) {
  const { directory, broker, redis, traces, traceStore, dispatcherDb } = stores;
  const { publisher } = broker;
  const slots = new RedisSlotLeases(redis);
  const stages = new StageRunner(clock, log, metrics, config.line);
  const replier = new Replier({ publisher, traces, bounds: config.line, clock, log, metrics });
  const attempts = new AttemptsPg(config.ledger, log, dispatcherDb);
  const alarms = new RetryAlarmClock({ servers: config.servers, fleet: config.fleet, publisher, log });
  const basics = { clock, log, metrics, directory, broker, publisher, slots, traces, traceStore };
  const bounds = config.retries;
  const failures = new FailureOwner({ ...basics, attempts, alarms, bounds, random: Math.random });
  return { ...basics, stages, replier, attempts, alarms, failures };
}

function nodeQueuesOf({ topology }: AmqpBroker, directory: DirectoryPg, log: Log): NodeQueues {
  return new NodeQueues({
    directory,
    log,
    declareNode: (node) => topology.declareNode(node),
    forgetNode: (node) => topology.forgetNode(node),
  });
}

/** The lines, the intakes and the sweeps, wired to their stores. */
function assemble(config: Config, clock: Clock, log: Log, metrics: PrometheusMetrics, stores: Stores) {
  const shared = sharedParts(config, clock, log, metrics, stores);
  const { directory, broker, slots, replier, stages, alarms } = shared;
  const registry = new RedisFleetRegistry(stores.redis, config.fleet, () => fleet.isListening);
  const locks = new CreditLocksPg(config.ledger, log, stores.dispatcherDb);
  const settlements = new SettlementsPg(log, stores.settlerDb);
  const ledger = new SweepsPg(stores.dispatcherDb);
  const digestKey = digestKeyOf(config.secrets.digestKey);
  const nodeQueues = nodeQueuesOf(broker, directory, log);
  const poolRecords = new PoolRecords(stores.dispatcherDb, config.line.poolsMax);
  const line = new JobLine({
    ...shared,
    bounds: { ...config.line, ...config.retries },
    digestKey,
    locks,
    nodeQueues,
    openPools: (wanted) => poolRecords.open(wanted),
  });
  const budget = new ByteBudget(config.line.heldBytesMax);
  const declarePool = (pool: string) => broker.topology.declarePool(pool);
  const suspects = new Suspects(new RedisSuspectCounts(stores.redis), config.line, clock, log);
  const seen = new SeenJobs(clock);
  const pools = new Pools({ ...shared, suspects, seen, bounds: config.line, budget, declarePool, line });
  const fleet = new FleetConsumer({ ...shared, queue: fleetQueue(stores.id), registry });
  const results = new ResultLine({
    ...shared,
    bounds: { ...config.line, ...config.results },
    settlements,
    suspects,
    random: Math.random,
  });
  const sweeps = new Sweeps({
    ...shared,
    ledger,
    registry,
    isListening: () => fleet.isListening && results.isListening,
    leases: slots,
    bounds: { ...config.fleet, ...config.retries, ...config.sweeps },
  });
  const cancellations = new CancellationsPg(stores.dispatcherDb);
  const health = new Health(config.http, clock, healthChecks(stores, registry, fleet));
  exposeGauges(metrics, stores, { line, results, pools, budget, replier, sweeps });
  return {
    line,
    pools,
    results,
    fleet,
    registry,
    attempts: shared.attempts,
    sweeps,
    cancels: new CancelIntake({ ...shared, cancellations, bounds: config.line }),
    replier,
    alarms,
    stages,
    health,
    nodeQueues,
    unroutable: new SideIntake({ ...shared, line, suspects, seen }, 'unroutable'),
    expired: new SideIntake({ ...shared, line, suspects, seen }, 'expired'),
  };
}

/** What answers why a job waits: it reads, and changes nothing. */
function explaining(
  config: Config,
  { directory, dispatcherDb }: Stores,
  { registry, pools, attempts }: Parts,
) {
  const { amqpUrl: url, connectTimeoutMs } = config.servers;
  return {
    directory,
    fleet: registry,
    records: new JobRecords(dispatcherDb),
    triedNodes: async (jobId: string): Promise<readonly string[]> => {
      const [facts] = await attempts.readRetries([jobId]);
      return facts?.tried ?? [];
    },
    seen: (jobId: string) => pools.seen(jobId),
    queueDepth: async (queue: string): Promise<number | null> => {
      try {
        return await queueDepth({ url, connectTimeoutMs }, queue);
      } catch (error) {
        // No such queue, or no broker: the rest of the answer stands without it.
        if (error instanceof TollgateError) return null;
        throw error;
      }
    },
  };
}

/** A part that needs no start. */
function onlyStop(stop: () => Promise<void>): Service {
  return { start: () => Promise.resolve(), stop };
}

/** A server the coordinator can start without: it connects later by itself, and jobs wait in RabbitMQ meanwhile. */
function tolerant(service: Service, log: Log): Service {
  const start = async (): Promise<void> => {
    try {
      await service.start();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      log.warn({ store: error.store, reason: error.message }, 'starting without it');
    }
  };
  return { start, stop: () => service.stop() };
}
