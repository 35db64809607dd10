import t from 'tap';
import { FLAWS } from '../../simulation/flaws.ts';
import { runSeed } from '../../simulation/run.ts';

/** Small worlds show each of them; one that so many seeds do not show would hide in the whole programme. */
const JOBS = 12;
const FLAW_SEEDS_MAX = 300;

t.setTimeout(240_000);

for (const flaw of FLAWS) {
  await t.test(`caught: ${flaw.name}`, { timeout: 120_000 }, async (t) => {
    for (let seed = 1; seed <= FLAW_SEEDS_MAX; seed++) {
      const { broken } = await runSeed(seed, JOBS, flaw);
      if (broken === null) continue;
      t.pass(`seed ${seed}: ${broken.what}`);
      return;
    }
    t.fail(`not caught by ${FLAW_SEEDS_MAX} seeds`);
  });
}
