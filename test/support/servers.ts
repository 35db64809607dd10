import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { MongoClient } from 'mongodb';
import { Client } from 'pg';

/** Addresses of fresh, empty places on the four real servers; only those that were asked for are set. */
export interface TestServers {
  /** Superuser on a fresh, empty database, dropped at the end. Roles are shared by the whole server. */
  readonly postgresAdminUrl: string;
  /** A database number of its own, empty. */
  readonly redisUrl: string;
  /** Random; use it as `fleet.keyPrefix`. */
  readonly keyPrefix: string;
  /** An administrator of a fresh vhost, deleted at the end. */
  readonly amqpUrl: string;
  /** Management HTTP API of the same broker, with the administrator's name and password. */
  readonly amqpAdminUrl: string;
  readonly vhost: string;
  /** A fresh database name, dropped at the end. */
  readonly mongoUrl: string;
}

/** Which of the four a test file uses. */
export interface ServerNeeds {
  readonly postgres?: true;
  readonly redis?: true;
  readonly amqp?: true;
  readonly mongo?: true;
}

/** The part of a tap test that is used: it runs `cleanUp` when the test ends, latest registered first. */
export interface Teardown {
  after(cleanUp: () => unknown): void;
}

interface Place<T> {
  readonly place: T;
  readonly cleanUp: () => Promise<void>;
}

/**
 * Fresh, isolated databases on the real servers that the environment names; `npm test` starts the servers and sets it.
 * What was made is removed when `t` ends. Throws when a server that is needed has no URL in the environment.
 */
export async function isolatedServers(t: Teardown, needs: ServerNeeds): Promise<TestServers> {
  const name = `tg_test_${process.pid}_${randomBytes(4).toString('hex')}`;
  const made = async <T>(wanted: true | undefined, make: () => Promise<Place<T>>): Promise<T | undefined> => {
    if (!wanted) return undefined;
    const { place, cleanUp } = await make();
    t.after(cleanUp);
    return place;
  };
  const [postgresAdminUrl, redisUrl, amqp, mongoUrl] = await Promise.all([
    made(needs.postgres, () => freshPostgres(fromEnvironment('TOLLGATE_POSTGRES_ADMIN_URL'), name)),
    made(needs.redis, () => freshRedis(fromEnvironment('TOLLGATE_REDIS_URL'), name)),
    made(needs.amqp, () => freshVhost(name)),
    made(needs.mongo, () => freshMongo(fromEnvironment('TOLLGATE_MONGO_URL'), name)),
  ]);
  return {
    postgresAdminUrl: postgresAdminUrl ?? '',
    redisUrl: redisUrl ?? '',
    keyPrefix: name,
    amqpUrl: amqp?.url ?? '',
    amqpAdminUrl: amqp?.adminUrl ?? '',
    vhost: amqp?.vhost ?? '',
    mongoUrl: mongoUrl ?? '',
  };
}

function fromEnvironment(variable: string): string {
  const url = process.env[variable];
  if (!url) throw new Error(`${variable} is not set: run the tests with "npm test"`);
  return url;
}

async function freshPostgres(serverUrl: string, name: string): Promise<Place<string>> {
  // template0, because nobody may be connected to it: two files may create at once.
  await asPostgresAdmin(serverUrl, `create database ${name} template template0`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const drop = `drop database if exists ${name} with (force)`;
  return { place: url.href, cleanUp: () => asPostgresAdmin(serverUrl, drop) };
}

async function asPostgresAdmin(url: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** In database 0: the numbers that a test run has in use, or left behind when it was killed. */
const REDIS_USED = 'tg-test-dbs';
/** In database 0: `tg-test-db:<n>` is held while `n` is in use; it ends by itself after a killed run. */
const redisLock = (n: number) => `tg-test-db:${n}`;
const REDIS_LOCK_S = 900;

async function freshRedis(serverUrl: string, name: string): Promise<Place<string>> {
  const zero = new URL(serverUrl);
  zero.pathname = '/0';
  const n = await withRedis(zero, (redis) => takeDatabaseNumber(redis, name));
  const url = new URL(serverUrl);
  url.pathname = `/${n}`;
  const cleanUp = () =>
    withRedis(zero, async (redis) => {
      // A server that was stopped and started again has forgotten the lock, and the number may be somebody else's by now.
      if ((await redis.get(redisLock(n))) !== name) return;
      await redis.pipeline().select(n).flushdb().select(0).srem(REDIS_USED, n).del(redisLock(n)).exec();
    });
  return { place: url.href, cleanUp };
}

/** A connection for one piece of work: an open one would keep the process, and so the test of a whole file, from ending. */
async function withRedis<T>(url: URL, work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url.href, { maxRetriesPerRequest: 2 });
  try {
    return await work(redis);
  } finally {
    redis.disconnect();
  }
}

/** Takes a number that is empty or that a killed test run left behind; data that is not ours is never flushed. */
async function takeDatabaseNumber(redis: Redis, owner: string): Promise<number> {
  const reply = await redis.config('GET', 'databases');
  const count = Number(reply[1] ?? 16);
  const first = process.pid % (count - 1);
  for (let i = 0; i < count - 1; i++) {
    const n = 1 + ((first + i) % (count - 1));
    if ((await redis.set(redisLock(n), owner, 'EX', REDIS_LOCK_S, 'NX')) === null) continue;
    const isOurs = (await redis.sismember(REDIS_USED, n)) === 1;
    const sizes = await redis.multi().select(n).dbsize().select(0).exec();
    if (isOurs || sizes?.[1]?.[1] === 0) {
      await redis.multi().sadd(REDIS_USED, n).select(n).flushdb().select(0).exec();
      return n;
    }
    await redis.del(redisLock(n));
  }
  throw new Error('no free Redis database number');
}

async function freshVhost(name: string): Promise<Place<{ url: string; adminUrl: string; vhost: string }>> {
  const adminUrl = fromEnvironment('TOLLGATE_AMQP_ADMIN_URL');
  const url = new URL(fromEnvironment('TOLLGATE_AMQP_URL'));
  url.pathname = `/${name}`;
  const user = url.username === '' ? 'guest' : url.username;
  await manage(adminUrl, 'PUT', `/api/vhosts/${name}`, {});
  await manage(adminUrl, 'PUT', `/api/permissions/${name}/${user}`, {
    configure: '.*',
    write: '.*',
    read: '.*',
  });
  return {
    place: { url: url.href, adminUrl, vhost: name },
    cleanUp: () => manage(adminUrl, 'DELETE', `/api/vhosts/${name}`),
  };
}

async function manage(
  adminUrl: string,
  method: 'PUT' | 'DELETE',
  path: string,
  body?: object,
): Promise<void> {
  const { username, password, origin } = new URL(adminUrl);
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const headers = {
    authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
    'content-type': 'application/json',
  };
  const request = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
  const response = await fetch(origin + path, { ...request, signal: AbortSignal.timeout(15_000) });
  if (!response.ok && !(method === 'DELETE' && response.status === 404)) {
    throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  }
}

async function freshMongo(serverUrl: string, name: string): Promise<Place<string>> {
  // By hand, because a URL with several hosts is one that `URL` refuses.
  const parts = /^(mongodb(?:\+srv)?:\/\/[^/?]+)(?:\/[^?]*)?(\?.*)?$/.exec(serverUrl);
  if (!parts) throw new Error('TOLLGATE_MONGO_URL is not a mongodb:// URL');
  const url = `${parts[1]}/${name}${parts[2] ?? ''}`;
  const cleanUp = async () => {
    const client = new MongoClient(url, { serverSelectionTimeoutMS: 5_000 });
    try {
      await client.db().dropDatabase();
    } finally {
      await client.close();
    }
  };
  return { place: url, cleanUp };
}
