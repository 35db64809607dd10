import { isDeepStrictEqual } from 'node:util';
import { type ChannelModel, connect } from 'amqplib';
import { Redis } from 'ioredis';
import { MongoClient } from 'mongodb';
import { Client } from 'pg';
import { nodeDeclarations, poolDeclarations } from '../../src/broker/topology.ts';
import { EXCHANGE, jobKey, jobQueue, nodeQueue, RESULT_KEY } from '../../src/contracts/names.ts';
import type { World } from '../world/world.ts';

/** One setting that a figure stands on, as the server itself told it. */
export interface Setting {
  readonly server: 'postgres' | 'redis' | 'rabbitmq' | 'mongodb';
  readonly name: string;
  readonly value: string;
  /** What it has to be. */
  readonly needed: string;
}

/** Those that are weaker than what the report claims. */
export function weakSettings(settings: readonly Setting[]): Setting[] {
  return settings.filter(({ value, needed }) => value !== needed);
}

/** Versions as the servers tell them. */
export async function readVersions(world: World): Promise<Record<Setting['server'], string>> {
  const { servers } = world;
  const overview = await managed(world, '/overview');
  return {
    postgres: await asPostgres(
      world,
      async (client) =>
        (await client.query<{ version: string }>('select version()')).rows[0]?.version.split(' ')[1] ?? '',
    ),
    redis: await asRedis(
      servers.redisUrl,
      async (redis) => /redis_version:(\S+)/.exec(await redis.info('server'))?.[1] ?? '',
    ),
    rabbitmq: `${String(overview['rabbitmq_version'])}, Erlang ${String(overview['erlang_version'])}`,
    mongodb: await asMongo(servers.mongoUrl, async (client) =>
      String((await client.db().admin().buildInfo())['version']),
    ),
  };
}

/** Reads back what the durability of a world's queues, and of its stores if it has any, rests on. */
export async function readSettings(world: World, hasStores: boolean): Promise<Setting[]> {
  const queues = await queueSettings(world);
  return hasStores
    ? [...(await postgresSettings(world)), ...(await mongoSettings(world)), ...queues]
    : queues;
}

async function postgresSettings(world: World): Promise<Setting[]> {
  return asPostgres(world, async (client) => {
    const settings: Setting[] = [];
    for (const name of ['fsync', 'synchronous_commit', 'full_page_writes']) {
      const { rows } = await client.query<{ value: string }>('select current_setting($1) as value', [name]);
      settings.push({ server: 'postgres', name, value: rows[0]?.value ?? '', needed: 'on' });
    }
    return settings;
  });
}

async function mongoSettings(world: World): Promise<Setting[]> {
  return asMongo(world.servers.mongoUrl, async (client) => {
    const admin = client.db().admin();
    const { config } = await admin.command({ replSetGetConfig: 1 });
    const { storageEngine } = await admin.serverStatus();
    return [
      // On: a majority write has been journaled, not only received.
      mongoSetting(
        'writeConcernMajorityJournalDefault',
        config['writeConcernMajorityJournalDefault'] ?? true,
        'true',
      ),
      mongoSetting('storageEngine.persistent', storageEngine?.persistent, 'true'),
    ];
  });
}

function mongoSetting(name: string, value: unknown, needed: string): Setting {
  return { server: 'mongodb', name, value: String(value), needed };
}

async function queueSettings(world: World): Promise<Setting[]> {
  // All pools and all nodes are declared by the same two functions, so one of each stands for the others.
  const [model = ''] = world.plan.models;
  const [node = ''] = world.plan.nodes.map(({ id }) => id);
  const wanted = [
    ...poolDeclarations(model, world.config.broker),
    ...nodeDeclarations(node, world.config.broker),
  ];
  const names = [jobQueue(model, 'interactive'), nodeQueue(node)];
  const settings: Setting[] = [];
  for (const name of names) {
    const queue = await managed(world, `/queues/${encodeURIComponent(world.servers.vhost)}/${name}`);
    const declared = wanted.find((one) => 'queue' in one && one.queue === name);
    const isSame =
      declared !== undefined &&
      'arguments' in declared &&
      isDeepStrictEqual(queue['arguments'], { ...declared.arguments });
    const kind = name.startsWith('node.') ? 'classic' : 'quorum';
    const what = `${world.name}: ${name}`;
    settings.push(
      { server: 'rabbitmq', name: `${what} type`, value: String(queue['type']), needed: kind },
      { server: 'rabbitmq', name: `${what} durable`, value: String(queue['durable']), needed: 'true' },
      {
        server: 'rabbitmq',
        name: `${what} arguments`,
        value: isSame ? 'as declared' : JSON.stringify(queue['arguments']),
        needed: 'as declared',
      },
    );
  }
  return settings;
}

/** Watches one run and tells how its messages and documents were really written. */
export interface Witness {
  /** Call it after the run. */
  read(): Promise<Setting[]>;
}

const WITNESS_QUEUE = 'bench.witness';

/**
 * Looks over the shoulder of a warm-up run: a queue beside the real ones gets a copy of each job, dispatch and result, and
 * MongoDB's profiler keeps the inserts with the write concern that came with them. `keepsDispatches`: they have to be persistent, as
 * those of one who has no ledger to make them again from.
 */
export async function startWitness(
  world: World,
  hasStores: boolean,
  keepsDispatches = false,
): Promise<Witness> {
  const { servers } = world;
  const model = await connect(servers.amqpUrl);
  model.on('error', () => undefined);
  const channel = await model.createChannel();
  const keys = [
    ...world.plan.models.map((pool) => [EXCHANGE.jobs, jobKey(pool, 'interactive')]),
    ...world.plan.nodes.map(({ id }) => [EXCHANGE.dispatch, id]),
    [EXCHANGE.results, RESULT_KEY],
  ];
  await channel.assertQueue(WITNESS_QUEUE, { durable: false });
  for (const [exchange = '', key = ''] of keys) await channel.bindQueue(WITNESS_QUEUE, exchange, key);
  if (hasStores) await profileMongo(servers.mongoUrl, 2);
  return {
    read: async () => {
      const settings = await persistence(world.name, model, keepsDispatches);
      if (hasStores) settings.push(...(await writeConcerns(world)));
      return settings;
    },
  };
}

async function persistence(world: string, model: ChannelModel, keepsDispatches: boolean): Promise<Setting[]> {
  const channel = await model.createChannel();
  const modes = new Map<string, Set<unknown>>();
  for (;;) {
    const message = await channel.get(WITNESS_QUEUE, { noAck: true });
    if (message === false) break;
    const { exchange } = message.fields;
    modes.set(exchange, (modes.get(exchange) ?? new Set()).add(message.properties.deliveryMode));
  }
  await channel.deleteQueue(WITNESS_QUEUE);
  await model.close();
  return [EXCHANGE.jobs, EXCHANGE.dispatch, EXCHANGE.results].map((exchange) => {
    const value = [...(modes.get(exchange) ?? ['none seen'])].join(' and ');
    const isFree = exchange === EXCHANGE.dispatch && !keepsDispatches && modes.has(exchange);
    return {
      server: 'rabbitmq',
      name: `${world}: delivery mode on ${exchange}`,
      value,
      needed: isFree ? value : '2',
    };
  });
}

async function writeConcerns({ name: world, servers }: World): Promise<Setting[]> {
  await profileMongo(servers.mongoUrl, 0);
  return asMongo(servers.mongoUrl, async (client) => {
    const settings: Setting[] = [];
    for (const section of ['requests', 'attempts']) {
      const db = client.db();
      const seen = await db
        .collection('system.profile')
        .aggregate<ProfiledInsert>([
          { $match: { op: 'insert', ns: `${db.databaseName}.${section}` } },
          { $project: { concern: '$command.writeConcern', text: BEGINNING_OF_TRUNCATED } },
        ])
        .toArray();
      const concerns = new Set(seen.map(writeConcernOf));
      settings.push({
        server: 'mongodb',
        name: `${world}: write concern of ${section}`,
        value: [...concerns].join(' and ') || 'none seen',
        needed: '{"w":"majority","j":true}',
      });
    }
    return settings;
  });
}

/** Of an insert as the profiler keeps it. A large one is kept as the beginning of its text only. */
export interface ProfiledInsert {
  readonly concern?: unknown;
  readonly text: string;
}

/** Room for what comes before the documents. */
const TEXT_CHARACTERS = 300;
const BEGINNING_OF_TRUNCATED = {
  $substrCP: [
    { $ifNull: [{ $getField: { field: { $literal: '$truncated' }, input: '$command' } }, ''] },
    0,
    TEXT_CHARACTERS,
  ],
};

/** The write concern of one insert, as JSON without blanks. */
export function writeConcernOf({ concern, text }: ProfiledInsert): string {
  if (concern !== undefined) return JSON.stringify(concern);
  const [, level, isJournaled] = /writeConcern: \{ w: (\S+), j: (\w+) \}/.exec(text) ?? [];
  return level === undefined ? 'not told' : `{"w":${level},"j":${isJournaled}}`;
}

/** Where the profiler's 1 MB of its own would be full, 1,000 pools' inserts of requests were gone when they were looked for. */
const PROFILE_BYTES = 67_108_864;

async function profileMongo(url: string, level: 0 | 2): Promise<void> {
  await asMongo(url, async (client) => {
    const db = client.db();
    const name = 'system.profile';
    if (!(await db.listCollections({ name }).hasNext()))
      await db.createCollection(name, { capped: true, size: PROFILE_BYTES });
    await db.command({ profile: level });
  });
}

async function asPostgres<T>(world: World, work: (client: Client) => Promise<T>): Promise<T> {
  // The login that commits the locks: a role may have settings of its own.
  const client = new Client({ connectionString: world.config.servers.postgresUrl });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function asRedis<T>(url: string, work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url);
  try {
    return await work(redis);
  } finally {
    redis.disconnect();
  }
}

async function asMongo<T>(url: string, work: (client: MongoClient) => Promise<T>): Promise<T> {
  const client = new MongoClient(url);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

async function managed({ servers }: World, path: string): Promise<Record<string, unknown>> {
  const { origin, username, password } = new URL(servers.amqpAdminUrl);
  const authorization = `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')}`;
  const response = await fetch(`${origin}/api${path}`, {
    headers: { authorization },
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  const answer: unknown = await response.json();
  return typeof answer === 'object' && answer !== null ? { ...answer } : {};
}
