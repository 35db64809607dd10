import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { QUEUE } from '../src/contracts/names.ts';
import { findBinary } from '../src/stack/binaries.ts';
import { allProcesses } from '../src/stack/processes.ts';
import type { Stack } from '../src/stack/stack.ts';

/** What is done to a server from inside it. Each reaches the server itself, past the links, and mends what it broke. */

const REQUEST_MS_MAX = 10_000;
const TERMINATE = `select pg_terminate_backend(pid) from pg_stat_activity
                    where backend_type = 'client backend' and pid <> pg_backend_pid()`;

/** Ends every connection to PostgreSQL. */
export async function terminateBackends(url: string): Promise<void> {
  await withPostgres(url, (client) => client.query(TERMINATE));
}

/** Ends every connection of the roles that log in, and lets none of them open another `during` that. */
export async function refuseConnections(url: string, during: () => Promise<void>): Promise<void> {
  await withPostgres(url, async (client) => {
    const { rows } = await client.query<{ name: string }>(
      "select quote_ident(rolname) as name from pg_roles where rolcanlogin and not rolsuper and rolname like 'tollgate%'",
    );
    const limit = async (count: number) => {
      for (const { name } of rows) await client.query(`alter role ${name} connection limit ${count}`);
    };
    try {
      await limit(0);
      await client.query(TERMINATE);
      await during();
    } finally {
      await limit(-1);
    }
  });
}

async function withPostgres(url: string, work: (client: Client) => Promise<unknown>): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Empties Redis. */
export async function flush(url: string): Promise<void> {
  await withRedis(url, (redis) => redis.flushall());
}

/** Redis answers nobody for `ms` milliseconds. */
export async function stall(url: string, ms: number): Promise<void> {
  await withRedis(url, (redis) => redis.call('CLIENT', 'PAUSE', ms, 'ALL'));
  await sleep(ms);
}

/** Redis is beyond its memory limit `during` that, and refuses what would need more. */
export async function refuseWrites(url: string, during: () => Promise<void>): Promise<void> {
  await withRedis(url, async (redis) => {
    const [, limit = '0'] = await redis.config('GET', 'maxmemory');
    try {
      await redis.config('SET', 'maxmemory', '1');
      await during();
    } finally {
      await redis.config('SET', 'maxmemory', limit);
    }
  });
}

async function withRedis(url: string, work: (redis: Redis) => Promise<unknown>): Promise<void> {
  const redis = new Redis(url, { retryStrategy: () => null });
  redis.on('error', () => undefined);
  try {
    await work(redis);
  } finally {
    redis.disconnect();
  }
}

/** Ends every AMQP connection, as an operator would: of coordinators, workers and the load. */
export async function closeConnections(adminUrl: string): Promise<void> {
  const found: unknown = await (await manage(adminUrl, 'GET', '/connections?columns=name')).json();
  if (!Array.isArray(found)) throw new Error('the management API lists no connections');
  for (const connection of found) {
    const name: unknown = Reflect.get(Object(connection), 'name');
    if (typeof name === 'string')
      await manage(adminUrl, 'DELETE', `/connections/${encodeURIComponent(name)}`);
  }
}

/** The queue that keeps traces for MongoDB takes none `during` that: a policy bounds it at one message. */
export async function fillSpool(adminUrl: string, during: () => Promise<void>): Promise<void> {
  const policy = '/policies/%2F/chaos-spool';
  const bound = {
    pattern: `^${QUEUE.spool.replaceAll('.', String.raw`\.`)}$`,
    definition: { 'max-length': 1 },
    'apply-to': 'queues',
  };
  try {
    await manage(adminUrl, 'PUT', policy, bound);
    await during();
  } finally {
    await manage(adminUrl, 'DELETE', policy);
  }
}

async function manage(
  adminUrl: string,
  method: 'GET' | 'PUT' | 'DELETE',
  path: string,
  body?: object,
): Promise<Response> {
  const { origin, username, password } = new URL(adminUrl);
  const headers = {
    authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
    'content-type': 'application/json',
  };
  const signal = AbortSignal.timeout(REQUEST_MS_MAX);
  const request = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await fetch(`${origin}/api${path}`, { method, headers, signal, ...request });
  // A connection may be gone by itself.
  if (!response.ok && response.status !== 404)
    throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response;
}

/**
 * A memory alarm with a share near zero: the broker reads no publisher. Through the broker's own tool, in the environment of this very
 * broker: its cookie and its port mapper are its own. The tool is the one beside the broker, because Debian's wrapper on PATH knows the
 * system's broker only.
 */
export async function setMemoryWatermark(stack: Stack, share: string): Promise<void> {
  const name = `RABBITMQ_NODENAME=tollgate-${new URL(stack.urls.amqp).port}@localhost`;
  const environments = allProcesses().map(({ pid }) => environmentOf(pid));
  const found = environments.find((pairs) => pairs.includes(name));
  if (found === undefined) throw new Error('the broker does not run');
  const env = Object.fromEntries(
    found
      .filter((pair) =>
        /^(PATH|HOME|LC_ALL|ERL_EPMD_PORT|RABBITMQ_NODENAME|RABBITMQ_CONF_ENV_FILE)=/.test(pair),
      )
      .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
  );
  const { found: binary } = await findBinary('rabbitmq');
  if (binary === undefined) throw new Error('there is no broker on this machine');
  const tool = join(dirname(binary.path), 'rabbitmqctl');
  await promisify(execFile)(tool, ['set_vm_memory_high_watermark', share], { env, timeout: 30_000 });
}

/** `NAME=value` pairs of a process; none of one that is gone. */
function environmentOf(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
