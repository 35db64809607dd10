import { AmqpBroker } from '../broker/connection.ts';
import type { Broker } from '../broker/types.ts';
import { QUEUE } from '../contracts/names.ts';
import { deadLetter } from '../dispatcher/dead-letter.ts';
import { refusal, StoreError } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';
import { DirectoryPg } from '../network/directory.ts';
import { NodeHealthPg } from '../network/health.ts';
import type { Log, Service } from '../ops/types.ts';
import { Database } from '../postgres/database.ts';
import { loginAs } from '../postgres/role-url.ts';
import { SchemaKeeper } from '../postgres/schema-keeper.ts';
import { ensureCollectionsWhenUp } from '../traces/collections.ts';
import { MongoConnection } from '../traces/mongo.ts';
import { MongoTraceSink } from '../traces/sink.ts';
import { TraceSpool } from '../traces/spool.ts';
import { SpoolDrain } from '../traces/spool-drain.ts';
import { MongoTraceStore } from '../traces/store.ts';
import { FleetRedis } from '../workers/redis.ts';
import { type Base, onlyStop } from './base.ts';
import { incidentsOf } from './incidents.ts';

/** What `connectStores` gives. */
export type Stores = ReturnType<typeof connectStores>;

/** The four servers, each behind the room that owns its driver. */
export function connectStores(base: Base) {
  const { config, clock, log, metrics, decorate } = base;
  const database = (url: string) => new Database({ ...config.ledger, ...config.servers, url }, log);
  const dispatcherDb = database(config.servers.postgresUrl);
  const { postgresUrl, postgresSettlerUrl, postgresMaintainerUrl } = config.servers;
  const settlerDb = database(postgresSettlerUrl ?? loginAs(postgresUrl, 'tollgate_settler'));
  const maintainerUrl = postgresMaintainerUrl ?? loginAs(postgresUrl, 'tollgate_maintainer');
  const maintainerDb = new Database(
    { ...config.ledger, ...config.servers, connectionsMax: 1, url: maintainerUrl },
    log,
  );
  const directory = new DirectoryPg(config.directory, clock, log, dispatcherDb);
  const nodeHealth = new NodeHealthPg(config.health, clock, log, dispatcherDb);
  const id = newUuidV7();
  const amqp = new AmqpBroker({
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
  const broker = decorate('broker', amqp);
  const redis = new FleetRedis(config.servers, config.fleet, log);
  const mongo = new MongoConnection(config, log);
  ensureCollectionsWhenUp(mongo, config.servers, log);
  const spool = new TraceSpool(config.traces, broker.publisher);
  const incidents = incidentsOf(base, { postgres: dispatcherDb, broker: amqp, redis }, nodeHealth);
  const services = [
    {
      name: 'postgres',
      service: onlyStop(async () => {
        await Promise.all([dispatcherDb, settlerDb, maintainerDb].map((db) => db.close()));
      }),
    },
    { name: 'schema', service: new SchemaKeeper(dispatcherDb, log) },
    { name: 'directory', service: directory },
    { name: 'node health', service: nodeHealth },
    { name: 'rabbitmq', service: amqp },
    { name: 'redis', service: tolerant(redis, log) },
    { name: 'mongodb', service: tolerant(mongo, log) },
    { name: 'incident watch', service: incidents },
    { name: 'spool drain', service: new SpoolDrain(config.traces, log, mongo, broker, burier(broker)) },
  ];
  return {
    /** What this coordinator is called wherever several are told apart; new with every start. */
    id,
    dispatcherDb,
    settlerDb,
    maintainerDb,
    maintainerUrl,
    directory,
    nodeHealth,
    broker,
    topology: amqp.topology,
    redis,
    mongo,
    traces: decorate('traces', new MongoTraceSink(log, metrics, mongo, spool)),
    traceStore: new MongoTraceStore(mongo),
    services,
  };
}

/** Keeps a spool message that nobody can read in the dead-letter queue. */
function burier({ publisher }: Broker): (body: Buffer, reason: string) => Promise<void> {
  return async (body, reason) => {
    const outcome = await publisher.publish(
      deadLetter(
        { body, messageId: null, queue: QUEUE.spool, userId: null },
        refusal('TG_MESSAGE_INVALID', null, reason),
      ),
    );
    if (outcome !== 'confirmed') throw new StoreError('rabbitmq', `dead letter ${outcome}`);
  };
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
