import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { findBinary } from '../../src/stack/binaries.ts';
import type { Books } from './books.ts';

const run = promisify(execFile);
const DUMP_BYTES_MAX = 268_435_456;

/**
 * Everything that PostgreSQL keeps, as text: a `pg_dump` where the program lies beside the server's, else every row of every
 * table, which is the part of a dump that data can be in.
 */
export async function postgresText(adminUrl: string, books: Books): Promise<string> {
  const { found } = await findBinary('postgres');
  const program = found && join(dirname(found.path), 'pg_dump');
  if (program !== undefined && existsSync(program))
    return (await run(program, ['--dbname', adminUrl], { maxBuffer: DUMP_BYTES_MAX })).stdout;
  const tables = await books.sql<{ name: string }>(`
    select format('%I.%I', schemaname, tablename) as name from pg_tables
     where schemaname not in ('pg_catalog', 'information_schema')`);
  const parts: string[] = [];
  for (const { name } of tables)
    for (const { row } of await books.sql<{ row: string }>(`select each::text as row from ${name} as each`))
      parts.push(row);
  return parts.join('\n');
}

/** Every key of a Redis database with all it holds, as text. */
export async function redisText(url: string): Promise<string> {
  const redis = new Redis(url);
  const parts: string[] = [];
  for (let cursor = '0'; ; ) {
    const [next, keys] = await redis.scan(cursor, 'COUNT', 500);
    for (const key of keys) parts.push(key, JSON.stringify(await valueOf(redis, key)));
    cursor = next;
    if (cursor === '0') break;
  }
  redis.disconnect();
  return parts.join('\n');
}

async function valueOf(redis: Redis, key: string): Promise<unknown> {
  const type = await redis.type(key);
  switch (type) {
    case 'string':
      return redis.get(key);
    case 'hash':
      return redis.hgetall(key);
    case 'set':
      return redis.smembers(key);
    case 'zset':
      return redis.zrange(key, '0', '-1', 'WITHSCORES');
    case 'list':
      return redis.lrange(key, 0, -1);
    case 'stream':
      return redis.xrange(key, '-', '+');
    case 'none':
      return null;
    default:
      throw new Error(`${key} is a ${type}`);
  }
}

/** How `word` looks as it is, in hex and in base64, whatever stands before it. */
export function encodingsOf(word: string): string[] {
  const bytes = Buffer.from(word);
  const inBase64 = [0, 1, 2].map((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64');
    // The first and last characters also carry bits of what stands beside it.
    return text.slice(offset === 0 ? 0 : 4, -4);
  });
  return [word, bytes.toString('hex'), ...inBase64];
}
