import { existsSync, readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { MongoClient } from 'mongodb';
import { Client } from 'pg';
import t from 'tap';
import { startStack } from '../../src/stack/stack.ts';
import { until } from '../support/until.ts';

const told: string[] = [];
const stack = await startStack({ environment: {}, onProgress: (line) => told.push(line) });
t.teardown(async () => await stack.stop());
const { urls } = stack;

async function query<T>(text: string): Promise<T[]> {
  const client = new Client({ connectionString: urls.postgresAdmin });
  client.on('error', () => {});
  await client.connect();
  try {
    const { rows } = await client.query(text);
    return rows;
  } finally {
    await client.end();
  }
}

async function withMongo<T>(use: (client: MongoClient) => Promise<T>): Promise<T> {
  const client = new MongoClient(urls.mongo, { serverSelectionTimeoutMS: 10_000 });
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

async function manage(method: string, path: string, body?: object): Promise<Response> {
  const { origin, username, password } = new URL(urls.amqpAdmin);
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const headers = { authorization, 'content-type': 'application/json' };
  return await fetch(origin + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
}

function withWrongPassword(url: string): string {
  return url.replace(/\/\/([^:@]*):[^@]*@/, '//$1:wrong@');
}

await t.test('a start tells each server with its version, and takes the time apart', (t) => {
  t.equal(told.length, 4);
  t.match(told.join('\n'), /PostgreSQL \d+.*answers after \d+\.\d s/);
  t.ok(stack.timings.startMs > 0);
  t.match(stack.timings, { downloadMs: Number, installMs: Number });
  t.end();
});

await t.test('PostgreSQL is durable and keeps commit timestamps', async (t) => {
  const names = [
    'fsync',
    'synchronous_commit',
    'track_commit_timestamp',
    'listen_addresses',
    'shared_buffers',
  ];
  const rows = await query<{ name: string; value: string }>(
    `select name, current_setting(name) as value from pg_settings where name in ('${names.join("','")}')`,
  );
  const settings = Object.fromEntries(rows.map(({ name, value }) => [name, value]));
  t.same(settings, {
    fsync: 'on',
    synchronous_commit: 'on',
    track_commit_timestamp: 'on',
    listen_addresses: '127.0.0.1',
    shared_buffers: '256MB',
  });
});

await t.test('nobody gets in without the password', async (t) => {
  await t.rejects(new Client({ connectionString: withWrongPassword(urls.postgresAdmin) }).connect(), {
    code: '28P01',
  });
  const redis = new Redis(withWrongPassword(urls.redis), { lazyConnect: true, retryStrategy: () => null });
  redis.on('error', () => {});
  await t.rejects(redis.connect().then(async () => await redis.ping()));
  redis.disconnect();
  const stranger = new MongoClient(withWrongPassword(urls.mongo), { serverSelectionTimeoutMS: 5_000 });
  await t.rejects(stranger.db().collection('x').findOne(), { code: 18 });
  await stranger.close();
  const guest = `Basic ${Buffer.from('guest:guest').toString('base64')}`;
  const answer = await fetch(`${new URL(urls.amqpAdmin).origin}/api/whoami`, {
    headers: { authorization: guest },
  });
  t.equal(answer.status, 401);
});

await t.test('everything listens on loopback only', (t) => {
  const first = Math.min(...Object.values(urls).map((url) => Number(/:(\d+)(?:\/|$)/.exec(url)?.[1])));
  const block = first - (first % 16);
  const addresses = ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ 0A /.exec(line))
      .filter(
        (match) => match !== null && Math.floor(Number.parseInt(match[2] ?? '', 16) / 16) * 16 === block,
      )
      .map((match) => match?.[1]),
  );
  t.ok(addresses.length >= 8, 'the guard, PostgreSQL, Redis, AMQP, management, distribution, epmd, mongod');
  const loopback = new Set(['0100007F', '00000000000000000000000001000000']);
  t.same(
    addresses.filter((address) => !loopback.has(address ?? '')),
    [],
  );
  t.end();
});

await t.test('PostgreSQL keeps its data and port when it is stopped and when it is killed', async (t) => {
  await query('create table kept (n int)');
  for (const how of ['fast', 'kill'] as const) {
    await query('insert into kept values (1)');
    await stack.server('postgres').stop(how);
    await t.rejects(query('select 1'), { code: 'ECONNREFUSED' });
    await stack.server('postgres').start();
  }
  t.same(await query('select count(*)::int as n from kept'), [{ n: 2 }]);
});

await t.test('mongod keeps its data and port when it is killed', async (t) => {
  const writeConcern = { w: 'majority', journal: true } as const;
  await withMongo(
    async (client) => await client.db().collection('kept').insertOne({ n: 1 }, { writeConcern }),
  );
  await stack.server('mongodb').stop('kill');
  await stack.server('mongodb').start();
  const count = await withMongo(async (client) => await client.db().collection('kept').countDocuments());
  t.equal(count, 1);
});

await t.test('RabbitMQ keeps a persistent message and its port when it is stopped', async (t) => {
  const put = await manage('PUT', '/api/queues/%2F/kept', {
    durable: true,
    arguments: { 'x-queue-type': 'quorum' },
  });
  t.equal(put.status, 201);
  const message = {
    properties: { delivery_mode: 2 },
    routing_key: 'kept',
    payload: 'x',
    payload_encoding: 'string',
  };
  const published = await manage('POST', '/api/exchanges/%2F/amq.default/publish', message);
  t.same(await published.json(), { routed: true });
  await stack.server('rabbitmq').stop('fast');
  await stack.server('rabbitmq').start();
  const ask = { count: 1, ackmode: 'ack_requeue_false', encoding: 'auto' };
  const got = await until(async () => {
    const answer = await manage('POST', '/api/queues/%2F/kept/get', ask);
    return answer.ok && (await answer.json());
  }, 'the queue to have its leader again');
  t.match(got, [{ payload: 'x' }]);
});

await t.test('Redis comes back empty on the same port', async (t) => {
  const redis = new Redis(urls.redis);
  redis.on('error', () => {});
  t.teardown(() => redis.disconnect());
  await redis.set('lost', 1);
  await stack.server('redis').stop('fast');
  await stack.server('redis').start();
  t.equal(await redis.get('lost'), null);
});

await t.test('a paused server accepts nothing until it is resumed', async (t) => {
  const redis = new Redis(urls.redis);
  t.teardown(() => redis.disconnect());
  await redis.ping();
  stack.server('redis').pause();
  const pong = redis.ping();
  const later = query('select pg_sleep(0.2)');
  t.not(await Promise.race([pong, later]), 'PONG');
  stack.server('redis').resume();
  t.equal(await pong, 'PONG');
});

await t.test('a stopped stack leaves no folder, and may be stopped twice', async (t) => {
  stack.server('postgres').pause();
  await stack.stop();
  await stack.stop();
  t.notOk(existsSync(stack.folder));
  await t.rejects(query('select 1'), { code: 'ECONNREFUSED' });
});
