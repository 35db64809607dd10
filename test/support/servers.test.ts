import { Redis } from 'ioredis';
import t from 'tap';
import { isolatedServers } from './servers.ts';

await t.test('two test files get different places on the same servers', async (t) => {
  const needs = { postgres: true, redis: true, amqp: true, mongo: true } as const;
  const [one, two] = await Promise.all([isolatedServers(t, needs), isolatedServers(t, needs)]);
  for (const key of ['postgresAdminUrl', 'redisUrl', 'keyPrefix', 'amqpUrl', 'vhost', 'mongoUrl'] as const) {
    t.ok(one[key], key);
    t.not(one[key], two[key], key);
  }
});

await t.test('a Redis database is empty again after the test', async (t) => {
  let url = '';
  await t.test('a file leaves a key', async (t) => {
    url = (await isolatedServers(t, { redis: true })).redisUrl;
    const redis = new Redis(url);
    t.equal(await redis.set('left', 'behind'), 'OK');
    redis.disconnect();
  });
  const redis = new Redis(url);
  t.after(() => redis.disconnect());
  t.equal(await redis.exists('left'), 0);
});
