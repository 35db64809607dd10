import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.ts';
import { Suspects } from '../../src/dispatcher/suspects.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisSuspectCounts } from '../../src/workers/suspect-counts.ts';
import { loadConfig } from '../../src/config.ts';
import { StoreError } from '../../src/errors.ts';
import { quietLog } from '../support/ledger.ts';
import { isolatedServers } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { jobMessage, PaperDelivery } from './samples.ts';

const BOUNDS = { suspectMs: 60_000, suspectTriesMax: 3 };

/** Each call is a coordinator that was started anew; the counts are kept in Redis. */
async function restarts(t: Test) {
  const { redisUrl, keyPrefix } = await isolatedServers(t, { redis: true });
  const flags = { 'servers.redisUrl': redisUrl, 'fleet.keyPrefix': keyPrefix };
  const config = loadConfig({ flags, env: {}, needs: ['servers.redisUrl'] });
  const redis = new FleetRedis(config.servers, config.fleet, quietLog);
  await redis.start();
  t.after(() => redis.stop());
  return () => new Suspects(new RedisSuspectCounts(redis), BOUNDS, systemClock, quietLog);
}

await t.test('a fresh delivery passes at once', async (t) => {
  const suspects = (await restarts(t))();
  let isThrough = false;
  suspects.pass(new PaperDelivery(jobMessage()), () => {
    isThrough = true;
  });
  t.equal(isThrough, true);
});

await t.test('redelivered ones pass one at a time, each when the one before has left', async (t) => {
  const suspects = (await restarts(t))();
  const deliveries = [1, 2, 3].map(() => new PaperDelivery(jobMessage(), { redelivered: true }));
  const through: PaperDelivery[] = [];
  for (const delivery of deliveries) suspects.pass(delivery, () => through.push(delivery));
  for (const [i, delivery] of deliveries.entries()) {
    await until(() => through.length === i + 1, `delivery ${i + 1}`);
    t.equal(through.at(-1), delivery);
    suspects.left(delivery);
  }
});

await t.test('a message in hand at three deaths is poison; its neighbours are not', async (t) => {
  const restart = await restarts(t);
  const poison = new PaperDelivery(jobMessage(), { redelivered: true });
  const good = new PaperDelivery(jobMessage(), { redelivered: true });
  const verdicts: boolean[] = [];
  for (let death = 1; death <= 4; death++) {
    const suspects = restart();
    suspects.pass(good, () => suspects.left(good));
    // It never leaves: the coordinator dies over it.
    suspects.pass(poison, (isPoison) => verdicts.push(isPoison));
    await until(() => verdicts.length === death, `try ${death}`);
  }
  t.same(verdicts, [false, false, false, true]);
  let goodVerdict: boolean | null = null;
  restart().pass(good, (isPoison) => {
    goodVerdict = isPoison;
  });
  await until(() => goodVerdict !== null, 'the good one');
  t.equal(goodVerdict, false);
});

await t.test('without Redis nobody is suspected, and nothing waits for it', async (t) => {
  const away = {
    count: () => Promise.reject(new StoreError('redis', 'away')),
    clear: () => Promise.resolve(),
  };
  const suspects = new Suspects(away, BOUNDS, systemClock, quietLog);
  let verdict: boolean | null = null;
  suspects.pass(new PaperDelivery(jobMessage(), { redelivered: true }), (isPoison) => {
    verdict = isPoison;
  });
  await until(() => verdict !== null, 'a verdict');
  t.equal(verdict, false);
});
