import t from 'tap';
import { StoreError } from '../../src/errors.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { isolatedServers, type Teardown } from '../support/servers.ts';
import { tcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';
import { LONG, silentLog, TestFleet } from './fleet-fixture.ts';

/** The way to a Redis through something that can be broken. */
async function proxied(t: Teardown) {
  const { redisUrl, keyPrefix } = await isolatedServers(t, { redis: true });
  const url = new URL(redisUrl);
  const proxy = await tcpProxy(t, url.hostname, Number(url.port));
  url.port = String(proxy.port);
  return { proxy, proxyUrl: url.href, redisUrl, keyPrefix };
}

/** A coordinator behind a proxy, and one beside it with a link that never breaks. */
async function proxiedFleet(t: Teardown) {
  const { proxy, proxyUrl, redisUrl, keyPrefix } = await proxied(t);
  const fleet = new TestFleet(proxyUrl, { ...LONG, commandMsMax: 200, keyPrefix });
  const direct = new TestFleet(redisUrl, { ...LONG, keyPrefix });
  t.after(async () => {
    for (const one of [fleet, direct]) {
      await one.redis.stop();
      one.raw.disconnect();
    }
  });
  fleet.raw.on('error', () => {});
  await Promise.all([fleet.redis.start(), direct.redis.start()]);
  await direct.open();
  return { proxy, fleet, direct };
}

await t.test('a cut connection fails calls at once, comes back by itself, and is told', async (t) => {
  const { proxy, fleet } = await proxiedFleet(t);
  const changes: boolean[] = [];
  const end = fleet.redis.onChange((isUp) => changes.push(isUp));
  t.equal(fleet.redis.isUp, true);
  proxy.cut();
  await until(() => !fleet.redis.isUp, 'the loss to be noticed');
  await t.rejects(fleet.reserve(1, 1), StoreError);
  proxy.heal();
  await until(() => fleet.redis.isUp, 'the connection to come back');
  t.same(await fleet.reserve(1, 1), [{ kind: 'none' }]);
  t.same(changes, [false, true]);
  end();
});

await t.test('wake-ups are heard again after a cut', async (t) => {
  const { proxy, fleet, direct } = await proxiedFleet(t);
  proxy.cut();
  await until(() => !fleet.redis.isUp, 'the loss to be noticed');
  proxy.heal();
  let n = 0;
  await until(async () => {
    await direct.reserve(++n, 1);
    await direct.say(`n-${n}`);
    await direct.reserve(++n, 1);
    return fleet.woken.includes('m');
  }, 'a wake-up');
});

await t.test('a Redis that does not answer costs a call its time limit and no more', async (t) => {
  const { proxy, fleet } = await proxiedFleet(t);
  proxy.freeze();
  const startMs = performance.now();
  await t.rejects(fleet.reserve(1, 1), StoreError);
  t.ok(performance.now() - startMs < 2_000);
  proxy.heal();
  await until(async () => (await fleet.reserve(1, 1)).length === 1, 'Redis to answer again');
});

await t.test('a reservation whose answer was lost is had when it is asked for again', async (t) => {
  const { proxy, fleet, direct } = await proxiedFleet(t);
  await direct.say('n-1', 'hello', { slots_total: 2 });
  await fleet.reserve(1, 1);
  proxy.holdAnswers();
  await t.rejects(fleet.reserve(2, 1), StoreError);
  t.equal((await direct.allLeases()).length, 2);
  proxy.heal();
  const [answer] = await until(() => fleet.reserve(2, 1), 'Redis to answer again');
  t.match(answer, { kind: 'had', node: 'n-1' });
});

await t.test('a script that Redis has forgotten is sent again', async (t) => {
  const { fleet } = await proxiedFleet(t);
  await fleet.say('n-1');
  await fleet.raw.script('FLUSH');
  t.match(await fleet.reserve(1, 1), [{ kind: 'got', node: 'n-1' }]);
});

await t.test('what Redis refuses is a StoreError that keeps its cause', async (t) => {
  const { fleet, direct } = await proxiedFleet(t);
  await direct.say('n-1');
  const [leases] = await direct.raw.keys('*:pool:m');
  await direct.raw.set(leases ?? '', 'not a sorted set');
  const error: unknown = await fleet.reserve(1, 1).catch((caught: unknown) => caught);
  t.match(error, { code: 'TG_STORE_UNAVAILABLE', store: 'redis', cause: { message: /WRONGTYPE/ } });
});

await t.test('start without a Redis is a StoreError; start and stop may be called twice', async (t) => {
  const { proxy, proxyUrl, keyPrefix } = await proxied(t);
  proxy.cut();
  const servers = { redisUrl: proxyUrl, connectTimeoutMs: 500, reconnectDelayMsMax: 100 };
  const redis = new FleetRedis(servers, { ...LONG, keyPrefix }, silentLog);
  t.after(() => redis.stop());
  await t.rejects(redis.start(), StoreError);
  await redis.start();
  proxy.heal();
  await until(() => redis.isUp, 'it to connect all the same');
  await redis.stop();
  await redis.stop();
  await until(() => !redis.isUp, 'it to be closed');
});
