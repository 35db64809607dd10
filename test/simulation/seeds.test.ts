import t from 'tap';
import { playAll } from '../../simulation/players.ts';
import { runSeed } from '../../simulation/run.ts';

/** `npm run simulate -- --seeds 100000` plays the rest. */
const SEEDS = 300;
const JOBS = 12;

t.setTimeout(240_000);

await t.test('every invariant holds in every seed', { timeout: 120_000 }, async (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { broken } = await runSeed(seed, JOBS);
    if (broken !== null) t.fail(`seed ${seed}: ${broken.what}`, { log: broken.log.slice(-60) });
  }
});

await t.test('the same seed gives the same log, byte for byte', async (t) => {
  for (const seed of [3, 17, 29]) {
    const first = await runSeed(seed, JOBS);
    const second = await runSeed(seed, JOBS);
    t.equal(second.digest, first.digest);
    t.equal(second.events, first.events);
  }
  t.not((await runSeed(4, JOBS)).digest, (await runSeed(5, JOBS)).digest);
});

await t.test('several processes play what one plays', async (t) => {
  const all = { firstSeed: 900, seeds: 120, jobs: 2 };
  const alone = await playAll(all, 1);
  t.match(alone, { seeds: 120, broken: null });
  t.same(await playAll(all, 3), alone);
});
