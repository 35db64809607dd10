import t from 'tap';
import { startRedisCluster } from '../../src/stack/redis-cluster.ts';

await t.test(
  'three masters share the slots; one that was killed comes back empty with its own',
  async (t) => {
    const cluster = await startRedisCluster();
    t.after(() => cluster.stop());
    t.equal(cluster.url.split(',').length, 3);
    const keys = Array.from({ length: 30 }, (_, i) => `key-${i}`);
    const masters = await Promise.all(keys.map((key) => cluster.masterOf(key)));
    t.same(new Set(masters), new Set([0, 1, 2]));
    for (const [i, key] of keys.entries())
      await cluster.on(masters[i] ?? 0, (redis) => redis.set(key, 'here'));

    const [killed = 0] = masters;
    await cluster.server(killed).stop('kill');
    await t.rejects(cluster.on(killed, (redis) => redis.ping()));
    await cluster.server(killed).start();
    await cluster.whole();
    for (const [i, key] of keys.entries()) {
      const value = await cluster.on(masters[i] ?? 0, (redis) => redis.get(key));
      t.equal(value, masters[i] === killed ? null : 'here');
    }
    await cluster.flush();
    for (const master of [0, 1, 2]) t.equal(await cluster.on(master, (redis) => redis.dbsize()), 0);
    await cluster.stop();
    for (const master of [0, 1, 2]) await t.rejects(cluster.on(master, (redis) => redis.ping()));
  },
);
