import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { systemClock } from '../src/clock.ts';
import { playAll } from './players.ts';

const USAGE = `npm run simulate [-- options]

Plays lives of jobs with the real dispatcher on servers in memory, in virtual time, with faults; each seed is one world.

  --seed N       the first seed (default 1)
  --seeds N      how many (default 100)
  --jobs N       jobs of each seed (default 25)
  --processes N  play on so many processors (default: all)
  --json FILE    write the report there

Exit status: 0 if every invariant held in every seed; 1 after the first that broke one, whose log is printed; 2 for wrong options.
`;

/** Only a seed may be 0. */
const NUMBER = /^[1-9]\d{0,8}$/;

/** A long run says how far it is about so often. */
const PROGRESS_MS = 30_000;

/** What the command line says; null, with the reason on standard error, where it is wrong. */
function parsed() {
  const text = { type: 'string' } as const;
  try {
    const { values } = parseArgs({
      options: {
        seed: text,
        seeds: text,
        jobs: text,
        processes: text,
        json: text,
        help: { type: 'boolean', short: 'h' },
      },
    });
    const { seed = '1', seeds = '100', jobs = '25', processes = String(availableParallelism()) } = values;
    const wrong = Object.entries({ seed, seeds, jobs, processes }).find(
      ([name, word]) => !NUMBER.test(word) && !(name === 'seed' && word === '0'),
    );
    if (wrong !== undefined)
      throw new Error(
        `--${wrong[0]} expects a whole number from 1 to 999999999, got ${JSON.stringify(wrong[1])}`,
      );
    return { ...values, seed, seeds, jobs, processes };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return null;
  }
}

/** Reads the options, plays the seeds, prints one line; the log of the seed that broke something goes before it. */
async function main(): Promise<number> {
  const values = parsed();
  if (values === null) return 2;
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  const { seed, seeds, jobs, processes } = values;
  const startMs = systemClock.monotonicMs();
  const all = { firstSeed: Number(seed), seeds: Number(seeds), jobs: Number(jobs) };
  let saidMs = startMs;
  const { broken, ...sum } = await playAll(all, Number(processes), (played) => {
    if (systemClock.monotonicMs() - saidMs < PROGRESS_MS) return;
    saidMs = systemClock.monotonicMs();
    process.stderr.write(`${played.seeds} of ${all.seeds} seeds\n`);
  });
  const seconds = (systemClock.monotonicMs() - startMs) / 1_000;
  const summary = {
    firstSeed: Number(seed),
    ...sum,
    seconds: Number(seconds.toFixed(1)),
    jobsPerSecond: Math.round(sum.jobs / seconds),
    broken,
  };
  if (broken?.broken) {
    process.stdout.write(
      `${broken.broken.log.join('\n')}\n\nseed ${broken.seed} broke ${broken.broken.what}\n`,
    );
    process.stdout.write(`again: npm run simulate -- --seed ${broken.seed} --seeds 1 --jobs ${jobs}\n`);
  }
  process.stdout.write(
    `${sum.seeds} seeds, ${sum.jobs} job lives, ${sum.events} events in ${summary.seconds} s: ${summary.jobsPerSecond} lives/s, ${broken ? 'BROKEN' : 'every invariant held'}\n`,
  );
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(summary, null, 2)}\n`);
  return broken ? 1 : 0;
}

process.exitCode = await main();
