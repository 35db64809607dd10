import { healthRoutes } from './api/health-routes.ts';
import { HttpServer } from './api/http.ts';
import { AmqpBroker } from './broker/connection.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Config } from './config-schema.ts';
import { digestKeyOf } from './contracts/canonical.ts';
import { QUEUE } from './contracts/names.ts';
import { ByteBudget } from './dispatcher/byte-budget.ts';
import { deadLetter } from './dispatcher/dead-letter.ts';
import { FleetConsumer } from './dispatcher/fleet-consumer.ts';
import { JobLine } from './dispatcher/job-line.ts';
import { NodeQueues } from './dispatcher/node-queues.ts';
import { Pools } from './dispatcher/pools.ts';
import { Replier } from './dispatcher/replies.ts';
import { ResultLine } from './dispatcher/result-line.ts';
import { SideIntake } from './dispatcher/side-intake.ts';
import { StageRunner } from './dispatcher/stage-runner.ts';
import { Suspects } from './dispatcher/suspects.ts';
import { Sweeps } from './dispatcher/sweeps.ts';
import { refusal, StoreError } from './errors.ts';
import { CreditLocksPg } from './ledger/credit-locks.ts';
import { SettlementsPg } from './ledger/settlements.ts';
import { SweepsPg } from './ledger/sweeps.ts';
import { DirectoryPg } from './network/directory.ts';
import { exposeGauges, healthChecks, watchOver } from './observe.ts';
import { Health } from './ops/health.ts';
import { Lifecycle } from './ops/lifecycle.ts';
import { createLog } from './ops/log.ts';
import { PrometheusMetrics } from './ops/metrics.ts';
import type { ServiceManager } from './ops/service-manager.ts';
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
  /** What is in hand at this moment, for the log of a stop that is cut short; the broker keeps all of it. */
  left(): Readonly<Record<string, number | readonly string[]>>;
}

/** Milliseconds that all parts together may take to stop after the drain. */
const STOP_GRACE_MS = 10_000;

/**
 * Puts one coordinator together and starts it. This is the only place that knows all the parts; read it as the list of them.
 * Resolves when it takes work. Rejects if PostgreSQL or RabbitMQ does not answer or the schema is not the one this version
 * needs; Redis and MongoDB may come later, and `/readyz?verbose` says what is awaited. `signal` aborts the start. Logs to
 * standard output unless `log` is given. `manager` is told when it is ready, that it lives, and that it stops.
 */
export async function runDaemon(
  config: Config,
  options: { signal?: AbortSignal; log?: Log; manager?: ServiceManager | null } = {},
): Promise<Daemon> {
  const clock = systemClock;
  const log = options.log ?? createLog(config.log);
  const metrics = new PrometheusMetrics();
  const stores = connectStores(config, clock, log, metrics);
  const parts = assemble(config, clock, log, metrics, stores);
  const { line, results } = parts;
  const tools = { clock, log, metrics };
  const { backlog, watch } = observe(config, tools, options.manager ?? null, stores, parts);
  const http = new HttpServer(config.http, log, healthRoutes(parts.health, metrics));

  const lifecycle = new Lifecycle(
    [
      // The last to stop: the watchdog is fed while the others drain.
      { name: 'watch', service: watch },
      { name: 'http', service: http },
      ...stores.services,
      { name: 'replies', service: onlyStop(() => parts.replier.close()) },
      { name: 'results', service: parts.results },
      { name: 'node queues', service: parts.nodeQueues },
      { name: 'fleet', service: parts.fleet },
      { name: 'sweeps', service: parts.sweeps },
      { name: 'job line', service: onlyStop(() => parts.line.stop()) },
      { name: 'unroutable jobs', service: parts.unroutable },
      { name: 'expired jobs', service: parts.expired },
      { name: 'pools', service: parts.pools },
      { name: 'backlog', service: backlog },
      { name: 'stage patience', service: onlyStop(async () => parts.stages.stopAfter(config.line.drainMs)) },
      { name: 'readiness', service: onlyStop(async () => parts.health.drain()) },
      { name: 'service manager', service: onlyStop(async () => watch.drain()) },
    ],
    log,
    stopMsMax(config),
  );
  options.signal?.addEventListener('abort', () => void lifecycle.stop().catch(() => undefined), {
    once: true,
  });
  await lifecycle.start();
  log.info({ http: http.url }, 'serving');
  watch.serving();
  const left = () => ({
    services: lifecycle.left,
    jobsWaiting: line.waiting,
    jobsInFlight: line.inFlight,
    resultsWaiting: results.waiting,
    replies: parts.replier.pending,
  });
  return { start: () => lifecycle.start(), stop: () => lifecycle.stop(), httpUrl: http.url, left };
}

/** Milliseconds that a stop may take altogether. */
function stopMsMax(config: Config): number {
  return config.line.drainMs + STOP_GRACE_MS;
}

type Stores = ReturnType<typeof connectStores>;

/** The four servers, each behind the room that owns its driver. */
function connectStores(config: Config, clock: Clock, log: Log, metrics: PrometheusMetrics) {
  const database = (url: string) => new Database({ ...config.ledger, ...config.servers, url }, log);
  const dispatcherDb = database(config.servers.postgresUrl);
  const { postgresUrl, postgresSettlerUrl } = config.servers;
  const settlerDb = database(postgresSettlerUrl ?? loginAs(postgresUrl, 'tollgate_settler'));
  const directory = new DirectoryPg(config.directory, clock, log, dispatcherDb);
  const broker = new AmqpBroker({
    ...config.broker,
    url: config.servers.amqpUrl,
    name: 'tollgate',
    connectTimeoutMs: config.servers.connectTimeoutMs,
    reconnectDelayMsMax: config.servers.reconnectDelayMsMax,
    bounds: config.broker,
    setup: (topology) => topology.declareCore(),
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

/** The lines, the intakes and the sweeps, wired to their stores. */
function assemble(config: Config, clock: Clock, log: Log, metrics: PrometheusMetrics, stores: Stores) {
  const { directory, broker, redis, traces, traceStore } = stores;
  const { publisher } = broker;
  const slots = new RedisSlotLeases(redis);
  const registry = new RedisFleetRegistry(redis, config.fleet, () => fleet.isListening);
  const locks = new CreditLocksPg(config.ledger, log, stores.dispatcherDb);
  const settlements = new SettlementsPg(log, stores.settlerDb);
  const ledger = new SweepsPg(stores.dispatcherDb);
  const stages = new StageRunner(clock, log, metrics, config.line);
  const replier = new Replier({ publisher, traces, bounds: config.line, clock, log, metrics });
  const shared = { clock, log, metrics, directory, slots, traces, replier, stages, publisher, broker };
  const digestKey = digestKeyOf(config.secrets.digestKey);
  const { topology } = broker;
  const nodeQueues = new NodeQueues({
    directory,
    log,
    declareNode: (node) => topology.declareNode(node),
    forgetNode: (node) => topology.forgetNode(node),
  });
  const line = new JobLine({ ...shared, bounds: config.line, digestKey, locks, traceStore, nodeQueues });
  const budget = new ByteBudget(config.line.heldBytesMax);
  const declarePool = (pool: string) => broker.topology.declarePool(pool);
  const suspects = new Suspects(new RedisSuspectCounts(redis), config.line, clock, log);
  const pools = new Pools({ ...shared, suspects, bounds: config.line, budget, declarePool, line });
  const fleet = new FleetConsumer({ ...shared, registry });
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
    locks,
    registry,
    isListening: () => fleet.isListening,
    leases: slots,
    bounds: { ...config.sweeps, lostAfterMs: config.fleet.lostAfterMs },
  });
  const health = new Health(config.http, clock, healthChecks(stores, registry, fleet));
  return {
    budget,
    line,
    pools,
    results,
    fleet,
    sweeps,
    replier,
    stages,
    health,
    nodeQueues,
    unroutable: new SideIntake({ broker, line, suspects, log, metrics }, 'unroutable'),
    expired: new SideIntake({ broker, line, suspects, log, metrics }, 'expired'),
  };
}

/** What watches the parts: the metrics, the counts of what waits, and the look at this process. */
function observe(
  config: Config,
  tools: { readonly clock: Clock; readonly log: Log; readonly metrics: PrometheusMetrics },
  manager: ServiceManager | null,
  stores: Stores,
  parts: ReturnType<typeof assemble>,
) {
  const depths = (queues: readonly string[]) => stores.broker.topology.depths(queues);
  const seen = { ...parts, ...tools, config, manager, depths };
  const watched = watchOver(seen, stopMsMax(config));
  exposeGauges(tools.metrics, stores, { ...parts, ...watched });
  return watched;
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
