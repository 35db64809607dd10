import { randomBytes } from 'node:crypto';
import { AmqpBroker } from '../../src/broker/connection.ts';
import { Management } from '../../src/broker/management.ts';
import { nodePermissions, publisherPermissions } from '../../src/broker/permissions.ts';
import { systemClock } from '../../src/clock.ts';
import { loadConfig } from '../../src/config.ts';
import type { Config } from '../../src/config-schema.ts';
import { nodeUser, publisherUser } from '../../src/contracts/names.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { Accounts } from '../../src/ledger/accounts.ts';
import { Models } from '../../src/network/models.ts';
import { Nodes } from '../../src/network/nodes.ts';
import { Database } from '../../src/postgres/database.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { ensureCollections } from '../../src/traces/collections.ts';
import { generateNodeKey, rawPublicKey } from '../../src/workers/agent/keys.ts';
import { databaseOptions, quietLog, roleUrls } from '../../test/support/ledger.ts';
import { isolatedServers, type Teardown, type TestServers } from '../../test/support/servers.ts';
import { BenchError } from '../bench-error.ts';
import { INPUT_TOKENS_MAX } from './jobs.ts';
import { FLOOD_REPLY_QUEUE, FLOODER, PUBLISHER, REPLY_QUEUE } from './names.ts';
import { USUAL_PLAN, type WorldPlan } from './plan.ts';

const REPLY_QUEUE_UNUSED_MS = 3_600_000;

const CREDIT_MICRO = 1_000_000_000_000n;

/** Of every model. */
const PRICES_AND_LIMITS = {
  inputPriceMicro: 100_000_000n,
  outputPriceMicro: 300_000_000n,
  inputTokensMax: INPUT_TOKENS_MAX,
  outputTokensMax: 4_096,
  timeoutMsMax: 600_000,
};

/** Broker users are the whole broker's, so one password serves all worlds of a run. */
const password = randomBytes(16).toString('hex');
/** Identity keys of the nodes, PKCS #8 PEM, the same in all worlds. */
const keys = new Map<string, ReturnType<typeof generateNodeKey>>();

/**
 * A place of its own on the same servers: a vhost with the product's exchanges and queues, and, where a whole Tollgate
 * lives in it, databases with accounts, publisher, model and nodes.
 */
export interface World {
  readonly name: string;
  readonly plan: WorldPlan;
  readonly servers: TestServers;
  /** Complete where the world has all four servers; its bounds are the product's defaults. */
  readonly config: Config;
  /** For what a bench declares and reads. */
  readonly admin: AmqpBroker;
}

/** A node as the fleet speaks for it. */
export interface BenchNode {
  readonly id: string;
  readonly amqpUrl: string;
  readonly keyPem: string;
  readonly pools: readonly string[];
}

/** Brings an empty database to a schema. */
type Migrate = (postgresAdminUrl: string) => Promise<unknown>;

/** How a world is made; what is left out is the usual. */
export interface WorldOptions {
  readonly plan?: WorldPlan;
  /** Whose schema it gets; default: ours. */
  readonly migrateStores?: Migrate;
}

/** Makes a world; it is removed when `t` ends. Without `hasStores` it is a vhost only. */
export async function makeWorld(
  t: Teardown,
  name: string,
  hasStores: boolean,
  { plan = USUAL_PLAN, migrateStores = (url) => migrate({ url }, quietLog) }: WorldOptions = {},
): Promise<World> {
  const needs = hasStores
    ? ({ postgres: true, redis: true, amqp: true, mongo: true } as const)
    : ({ amqp: true } as const);
  const servers = await isolatedServers(t, needs).catch((error: unknown) => {
    const said = error instanceof Error ? error.message : String(error);
    throw new BenchError(`no place of its own could be made on the servers: ${said}`, { cause: error });
  });
  const config = loadConfig({ flags: settingsOf(servers, hasStores), env: {}, needs: [] });
  if (hasStores) {
    await migrateStores(servers.postgresAdminUrl);
    await fillStores(servers, config, plan);
  }
  const admin = new AmqpBroker({
    ...config.broker,
    ...config.servers,
    url: servers.amqpUrl,
    name: `bench ${name}`,
    bounds: config.broker,
    setup: (topology) => topology.declareCore(),
    log: quietLog,
    clock: systemClock,
  });
  await admin.start();
  t.after(() => admin.stop());
  for (const model of plan.models) await admin.topology.declarePool(model);
  for (const { id } of plan.nodes) await admin.topology.declareNode(id);
  await admin.topology.declareReplyQueue(REPLY_QUEUE, REPLY_QUEUE_UNUSED_MS);
  await addUsers(t, servers, plan);
  return { name, plan, servers, config, admin };
}

/** The nodes with their logins in this world. */
export function nodesOf(world: World): BenchNode[] {
  return world.plan.nodes.map(({ id, models }) => ({
    id,
    amqpUrl: amqpUrlAs(world, nodeUser(id)),
    keyPem: keyOf(id).export({ type: 'pkcs8', format: 'pem' }).toString(),
    pools: models,
  }));
}

function keyOf(node: string): ReturnType<typeof generateNodeKey> {
  const key = keys.get(node) ?? generateNodeKey();
  keys.set(node, key);
  return key;
}

/** The URL by which `user` connects to this world. */
export function amqpUrlAs({ servers }: World, user: string): string {
  const url = new URL(servers.amqpUrl);
  url.username = user;
  url.password = password;
  return url.href;
}

/** The environment of a coordinator of this world. Nothing but addresses: every bound stays at its default. */
export function serveEnvironment({ servers, config }: World): Record<string, string> {
  return {
    TOLLGATE_POSTGRES_URL: config.servers.postgresUrl,
    TOLLGATE_POSTGRES_SETTLER_URL: config.servers.postgresSettlerUrl ?? '',
    TOLLGATE_POSTGRES_MAINTAINER_URL: config.servers.postgresMaintainerUrl ?? '',
    TOLLGATE_REDIS_URL: servers.redisUrl,
    TOLLGATE_AMQP_URL: servers.amqpUrl,
    TOLLGATE_MONGO_URL: servers.mongoUrl,
    TOLLGATE_DIGEST_KEY: config.secrets.digestKey,
    TOLLGATE_FLEET_KEY_PREFIX: config.fleet.keyPrefix,
    TOLLGATE_HTTP_PORT: '0',
  };
}

function settingsOf(servers: TestServers, hasStores: boolean): Record<string, string> {
  const amqp = { 'servers.amqpUrl': servers.amqpUrl, 'fleet.keyPrefix': servers.keyPrefix };
  if (!hasStores) return amqp;
  const { postgresUrl, postgresSettlerUrl, postgresMaintainerUrl } = roleUrls(servers.postgresAdminUrl);
  return {
    ...amqp,
    'servers.postgresUrl': postgresUrl,
    'servers.postgresSettlerUrl': postgresSettlerUrl,
    'servers.postgresMaintainerUrl': postgresMaintainerUrl,
    'servers.redisUrl': servers.redisUrl,
    'servers.mongoUrl': servers.mongoUrl,
    'secrets.digestKey': randomBytes(32).toString('hex'),
  };
}

async function fillStores(servers: TestServers, config: Config, plan: WorldPlan): Promise<void> {
  await ensureCollections(config.servers);
  const db = new Database(databaseOptions(servers.postgresAdminUrl, null), quietLog);
  try {
    const models = new Models(db);
    for (const name of plan.models) await models.add({ name, ...PRICES_AND_LIMITS });
    const accounts = new Accounts(db);
    await accounts.addPublisher(PUBLISHER);
    for (const account of plan.accounts) {
      await accounts.create(account);
      await accounts.addNamespace(`${account}/prod`);
      await accounts.entitle(PUBLISHER, account);
      await accounts.topUp(newUuidV7(), account, CREDIT_MICRO);
    }
    const nodes = new Nodes(db);
    for (const { id, models: served } of plan.nodes) {
      const publicKey = rawPublicKey(keyOf(id));
      await nodes.register({ id, owner: 'bench', publicKey, models: served, lifecycle: 'active' });
    }
  } finally {
    await db.close();
  }
}

/** An account that floods, with a limit of one job a second, and its publisher. */
export async function addFlooder(t: Teardown, world: World): Promise<void> {
  const { postgresAdminUrl, amqpAdminUrl, vhost } = world.servers;
  const db = new Database(databaseOptions(postgresAdminUrl, null), quietLog);
  try {
    const accounts = new Accounts(db);
    await accounts.addPublisher(FLOODER);
    await accounts.create(FLOODER);
    await accounts.addNamespace(`${FLOODER}/prod`);
    await accounts.entitle(FLOODER, FLOODER);
    await accounts.limit(FLOODER, { jobsPerSecond: 1, burstJobs: 1 });
  } finally {
    await db.close();
  }
  await world.admin.topology.declareReplyQueue(FLOOD_REPLY_QUEUE, REPLY_QUEUE_UNUSED_MS);
  const management = new Management({ url: amqpAdminUrl, vhost, requestMsMax: 10_000 });
  const user = publisherUser(FLOODER);
  await management.createUser(user, password, publisherPermissions(user));
  t.after(() => management.deleteUser(user));
}

async function addUsers(
  t: Teardown,
  { amqpAdminUrl, vhost }: TestServers,
  { nodes }: WorldPlan,
): Promise<void> {
  const management = new Management({ url: amqpAdminUrl, vhost, requestMsMax: 10_000 });
  const publisher = publisherUser(PUBLISHER);
  const users = new Map([
    [publisher, publisherPermissions(publisher)],
    ...nodes.map(({ id }) => [nodeUser(id), nodePermissions(id)] as const),
  ]);
  for (const [user, permissions] of users) {
    await management.createUser(user, password, permissions);
    t.after(() => management.deleteUser(user));
  }
}
