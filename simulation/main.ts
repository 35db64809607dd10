import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { systemClock } from '../src/clock.ts';
import { runSeed, type SeedReport } from './run.ts';

const USAGE = `npm run simulate [-- options]

Plays lives of jobs with the real dispatcher on servers in memory, in virtual time, with faults; each seed is one world.

  --seed N    the first seed (default 1)
  --seeds N   how many (default 100)
  --jobs N    jobs of each seed (default 25)
  --json FILE write the report there

Exit status: 0 if every invariant held in every seed; 1 after the first that broke one, whose log is printed; 2 for wrong options.
`;

const NUMBER = /^\d{1,9}$/;

/** Reads the options, plays the seeds, prints one line; the log of a seed that broke something goes before it. */
async function main(): Promise<number> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    options: { seed: text, seeds: text, jobs: text, json: text, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  const { seed = '1', seeds = '100', jobs = '25' } = values;
  if (![seed, seeds, jobs].every((word) => NUMBER.test(word))) {
    process.stderr.write(USAGE);
    return 2;
  }
  const startMs = systemClock.monotonicMs();
  const sum = { seeds: 0, jobs: 0, events: 0, virtualMs: 0 };
  let broken: SeedReport | null = null;
  for (let i = 0; i < Number(seeds) && broken === null; i++) {
    const report = await runSeed(Number(seed) + i, Number(jobs));
    sum.seeds += 1;
    sum.jobs += report.jobs;
    sum.events += report.events;
    sum.virtualMs += report.virtualMs;
    if (report.broken !== null) broken = report;
  }
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
