import { groundOf } from '../measure/ground.ts';
import { type Ground, latencyRun, saturatedRun } from '../measure/runs.ts';
import { readVersions, type Setting } from '../measure/settings.ts';
import { alternating } from '../measure/statistics.ts';
import { watchedRun } from '../measure/warm-up.ts';
import { checkOut, commitOf, OWN_ROOT } from '../process/checkout.ts';
import { migrateBy } from '../process/migrate.ts';
import { disturbancesOf, type Findings } from '../report/findings.ts';
import { type Subject, tollgateSubject } from '../subjects/subject.ts';
import { connectClient } from '../world/load.ts';
import { makePeopledWorld, startFleet } from '../world/peopled.ts';
import { compareFigures, compareLines, type CompareRun, type Side, SIDES } from './compare-figures.ts';
import { COMPARE_USAGE, type CompareOptions, compareOptions } from './compare-options.ts';
import { type Bench, headOf, requireQuiet, type Suite, tell, withBench } from './suite.ts';

/**
 * Is the working tree faster than another commit? Both serve from their own checkout, each in a world of its own with its own
 * schema; servers, load and fleet are the same, and those of the working tree. Pairs run A B B A.
 */
export const compare: Suite = {
  asks: 'is the working tree faster than another commit',
  usage: COMPARE_USAGE,
  run: (argv) => {
    const options = compareOptions(argv);
    const commit = commitOf(options.rev);
    return withBench((bench) => measure(bench, options, { argv, commit }));
  },
};

/** One of the two: what is measured, and whose CPU is told apart while it is. */
interface Rival {
  readonly side: Side;
  readonly subject: Subject;
  readonly ground: Ground;
}

async function measure(
  bench: Bench,
  options: CompareOptions,
  { argv, commit }: { argv: readonly string[]; commit: string },
): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const warnings: string[] = [];
  const rivals = await setUp(bench, checkOut(bench.t, commit), warnings);
  const settings = await warmUp(rivals, options.jobs / 4);
  const runs = await runAll(rivals, options);
  requireQuiet(warnings);
  const [first] = rivals;
  return {
    ...headOf('compare', argv, startedAt),
    versions: first ? await readVersions(first.subject.client.world) : {},
    settings,
    figures: compareFigures(runs),
    notes: [
      `old: ${options.rev}, commit ${commit.slice(0, 12)}; new: the working tree`,
      ...compareLines(runs),
    ],
    disturbances: disturbancesOf(runs),
    runs,
  };
}

async function setUp(bench: Bench, oldRoot: string, warnings: string[]): Promise<Rival[]> {
  const { t, stack, owner } = bench;
  const fleet = startFleet(bench);
  const subjects = new Map<Side, Subject>();
  for (const side of SIDES) {
    const root = side === 'old' ? oldRoot : OWN_ROOT;
    tell(`starting: ${side}`);
    const world = await makePeopledWorld(t, fleet, side, true, {
      migrateStores: (adminUrl) => migrateBy(root, adminUrl),
    });
    const client = await connectClient(t, world);
    const onWarning = (line: string): void => void warnings.push(`${side}: ${line}`);
    const subject = await tollgateSubject(client, fleet, { owner, profile: null, onWarning, root });
    t.after(() => subject.stop());
    subjects.set(side, subject);
  }
  return [...subjects].map(([side, subject]) => {
    // The other one is idle meanwhile, and none of the strangers that disturb.
    const watchedOnes = [...subjects.values()].map((one) => ({
      name: one === subject ? 'tollgate' : 'the other tollgate',
      pid: one.pid,
    }));
    return { side, subject, ground: groundOf(stack, fleet, watchedOnes) };
  });
}

async function warmUp(rivals: readonly Rival[], jobs: number): Promise<Setting[]> {
  const settings: Setting[] = [];
  for (const { side, subject, ground } of rivals) {
    tell(`warm-up: ${side}`);
    settings.push(...(await watchedRun(ground, subject, Math.ceil(jobs))));
  }
  return settings;
}

const RATE_PER_S = 1_000;

/** All runs, pair by pair; in every second pair the new one comes first. */
async function runAll(
  rivals: readonly Rival[],
  { pairs, jobs, latencyS, parts }: CompareOptions,
): Promise<CompareRun[]> {
  const runs: CompareRun[] = [];
  for (let pair = 0; pair < pairs; pair++)
    for (const part of parts)
      for (const { side, subject, ground } of alternating(rivals, pair)) {
        const run =
          part === 'latency'
            ? await latencyRun(ground, subject, pair, RATE_PER_S, latencyS)
            : await saturatedRun(ground, subject, part, pair, Math.ceil(part === 'life' ? jobs / 2 : jobs));
        runs.push({ ...run, side });
        const told =
          run.kind === 'latency' || run.kind === 'idle'
            ? `p50 ${run.latencyMs.p50.toFixed(2)} ms, p99 ${run.latencyMs.p99.toFixed(2)} ms`
            : `${run.perSecond.toFixed(0)}/s`;
        tell(`pair ${pair + 1} of ${pairs}, ${part}, ${side}: ${told}`);
      }
  return runs;
}
