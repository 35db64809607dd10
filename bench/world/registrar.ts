import { AmqpBroker } from '../../src/broker/connection.ts';
import { systemClock } from '../../src/clock.ts';
import { fleetQueue } from '../../src/contracts/names.ts';
import { FleetConsumer } from '../../src/dispatcher/fleet-consumer.ts';
import { DirectoryPg } from '../../src/network/directory.ts';
import { PrometheusMetrics } from '../../src/ops/metrics.ts';
import { Database } from '../../src/postgres/database.ts';
import { MongoConnection } from '../../src/traces/mongo.ts';
import { MongoTraceSink } from '../../src/traces/sink.ts';
import { TraceSpool } from '../../src/traces/spool.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisFleetRegistry } from '../../src/workers/registry.ts';
import { RedisSlotLeases } from '../../src/workers/slot-leases.ts';
import { quietLog } from '../../test/support/ledger.ts';
import type { Teardown } from '../../test/support/servers.ts';
import type { World } from './world.ts';

/** The id by which it hears the fleet. */
const COORDINATOR = 'bench-registrar';

/** What is spooled was not written to MongoDB: nothing that is measured may be. */
export const NO_SPOOL = {
  spooled: (): never => {
    throw new Error('MongoDB did not take a write of the bench');
  },
};

/** Who knows the live workers of a world without a coordinator. */
export interface Registrar {
  readonly directory: DirectoryPg;
  readonly slots: RedisSlotLeases;
  /** The product's sink; it throws instead of using its spool, whose figures would not be MongoDB's. */
  readonly traces: MongoTraceSink;
  /** Workers that have said hello and been heard. */
  workers(): Promise<number>;
}

/** Hears the workers of `world` and keeps them in Redis, as a coordinator does, and does nothing else; it ends with `t`. */
export async function startRegistrar(
  t: Teardown,
  world: World,
  mongoConnectionsMax: number,
): Promise<Registrar> {
  const { config } = world;
  const { servers, ledger } = config;
  const clock = systemClock;
  const log = quietLog;
  const metrics = new PrometheusMetrics();
  const database = new Database({ ...ledger, ...servers, url: servers.postgresUrl }, log);
  const directory = new DirectoryPg(config.directory, clock, log, database);
  const broker = new AmqpBroker({
    ...config.broker,
    ...servers,
    url: servers.amqpUrl,
    name: 'bench registrar',
    bounds: config.broker,
    setup: (topology) => topology.declareFleet(COORDINATOR),
    log,
    clock,
  });
  const redis = new FleetRedis(servers, config.fleet, log);
  const mongo = new MongoConnection(
    { servers, traces: { ...config.traces, connectionsMax: mongoConnectionsMax } },
    log,
  );
  const traces = new MongoTraceSink(log, NO_SPOOL, mongo, new TraceSpool(config.traces, broker.publisher));
  const registry = new RedisFleetRegistry(redis, config.fleet, () => true);
  const slots = new RedisSlotLeases(redis);
  const shared = { broker, publisher: broker.publisher, registry, directory, traces, clock, log, metrics };
  const fleet = new FleetConsumer({ ...shared, queue: fleetQueue(COORDINATOR), health: config.health });
  t.after(() => database.close());
  for (const part of [directory, broker, redis, mongo, fleet]) {
    await part.start();
    t.after(() => part.stop());
  }
  // Nothing runs yet, so there is nothing to give back first.
  for (const [cell, standing] of (await registry.cells()).entries())
    if (standing.state !== 'away') await slots.open(cell, standing.epochMs);
  return { directory, slots, traces, workers: async () => (await registry.list()).length };
}
