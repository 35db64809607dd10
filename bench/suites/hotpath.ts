import { HOTPATH_USAGE, type HotpathOptions, hotpathOptions, type Part } from '../arguments.ts';
import { groundOf } from '../measure/ground.ts';
import { byFunction, byOurFunction, readProfiles, shareLines, timeShares } from '../measure/profile.ts';
import { type Ground, idleRun, latencyRun, saturatedRun } from '../measure/runs.ts';
import { readVersions, type Setting } from '../measure/settings.ts';
import { alternating } from '../measure/statistics.ts';
import { watchedRun } from '../measure/warm-up.ts';
import { disturbancesOf, type Findings } from '../report/findings.ts';
import {
  oneAtATimeSubject,
  relaySubject,
  type Subject,
  type SubjectName,
  tollgateSubject,
} from '../subjects/subject.ts';
import { connectClient } from '../world/load.ts';
import { makePeopledWorld, startFleet } from '../world/peopled.ts';
import { cpuLines, figuresOf, type Run } from './hotpath-figures.ts';
import { type Bench, headOf, requireQuiet, type Suite, tell, withBench } from './suite.ts';
import { measureReplay, readReplay } from './trace-replay.ts';

/**
 * How fast do jobs go from the queue to a node, and through their whole life, how long does one take, and what is that
 * beside a client that only moves the same messages, and beside the same product one job at a time?
 *
 * Load, method and what is left out: bench/README.md.
 */
export const hotpath: Suite = {
  asks: 'how fast is the main job, and beside what',
  usage: HOTPATH_USAGE,
  run: async (argv) => {
    const options = hotpathOptions(argv);
    const { trace, speed, traceJobsMax } = options;
    if (trace === null) return withBench((bench) => measure(bench, options, argv));
    // A wrong file is told before any server starts.
    const replay = await readReplay(trace, speed, traceJobsMax);
    return withBench((bench) => measureReplay(bench, replay, argv));
  },
};

async function measure(bench: Bench, options: HotpathOptions, argv: readonly string[]): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const { ground, subjects, warnings } = await setUp(bench, options);
  const settings = await warmUp(ground, subjects, sizesOf(options.jobs).warmUp);
  const runs = await runAll(ground, subjects, options);
  requireQuiet(warnings);
  const tollgate = subjects.find(({ name }) => name === 'tollgate');
  const profile = options.profile === null ? [] : profileLines(options.profile, options.parts);
  return {
    ...headOf('hotpath', argv, startedAt),
    versions: tollgate ? await readVersions(tollgate.client.world) : {},
    settings,
    figures: figuresOf(runs),
    notes: [...cpuLines(runs), ...profile],
    disturbances: disturbancesOf(
      // An idle run has no generator that could be late.
      runs.filter(({ kind }) => kind !== 'idle'),
      (run) => `${run.kind}${run.kind === 'latency' ? ` at ${run.perSecond}/s` : ''}, ${run.subject}`,
    ),
    runs,
  };
}

/** Jobs of one run, from the backlog of a dispatch run. The slow subject gets fewer, so that each run takes seconds. */
function sizesOf(jobs: number) {
  return {
    dispatch: sizes(jobs, jobs / 8),
    life: sizes(jobs / 2, jobs / 16),
    warmUp: sizes(jobs / 4, jobs / 20),
  };
}

function sizes(many: number, few: number): Readonly<Record<SubjectName, number>> {
  const [fast, slow] = [Math.ceil(many), Math.ceil(few)];
  return { relay: fast, 'tuned relay': fast, tollgate: fast, 'one at a time': slow };
}

const RATES_PER_S = [100, 500, 1_000, 2_000];
const IDLE_JOBS = 100;

async function setUp(
  bench: Bench,
  options: HotpathOptions,
): Promise<{ ground: Ground; subjects: Subject[]; warnings: string[] }> {
  const { t, stack, owner } = bench;
  const warnings: string[] = [];
  const fleet = startFleet(bench);
  const clientOf = async (name: string, hasStores: boolean) =>
    connectClient(t, await makePeopledWorld(t, fleet, name, hasStores));
  const relayClient = await clientOf('relay', false);
  const relays: Subject[] = [];
  for (const name of ['relay', 'tuned relay'] as const) {
    const relay = await relaySubject(name, relayClient, owner);
    t.after(() => relay.stop());
    relays.push(relay);
  }
  const naive = await oneAtATimeSubject(await clientOf('one at a time', true), fleet, owner);
  t.after(() => naive.stop());
  const client = await clientOf('tollgate', true);
  const onWarning = (line: string): void => void warnings.push(line);
  const tollgate = await tollgateSubject(client, fleet, { owner, profile: options.profile, onWarning });
  t.after(() => tollgate.stop());
  const subjects = [...relays, tollgate, naive];
  return { ground: groundOf(stack, fleet, subjects), subjects, warnings };
}

/** A watched run of each. */
async function warmUp(
  ground: Ground,
  subjects: readonly Subject[],
  jobs: Readonly<Record<SubjectName, number>>,
): Promise<Setting[]> {
  const settings: Setting[] = [];
  for (const subject of subjects) {
    tell(`warm-up: ${subject.name}`);
    settings.push(...(await watchedRun(ground, subject, jobs[subject.name])));
  }
  return settings;
}

/** All runs, pair by pair; in every second pair the subjects come in the opposite order. */
async function runAll(ground: Ground, subjects: readonly Subject[], options: HotpathOptions): Promise<Run[]> {
  const jobs = sizesOf(options.jobs);
  const runs: Run[] = [];
  for (let pair = 0; pair < options.pairs; pair++) {
    const order = alternating(subjects, pair);
    for (const kind of ['dispatch', 'life'] as const) {
      if (!options.parts.includes(kind)) continue;
      for (const subject of order) {
        const run = await saturatedRun(ground, subject, kind, pair, jobs[kind][subject.name]);
        runs.push(run);
        tell(
          `pair ${pair + 1}, ${kind}, ${subject.name}: ${run.jobs} in ${run.ms.toFixed(0)} ms, ${run.perSecond.toFixed(0)}/s`,
        );
      }
    }
    if (!options.parts.includes('latency')) continue;
    for (const subject of order.filter(({ name }) => name === 'relay' || name === 'tollgate')) {
      const own = [await idleRun(ground, subject, pair, IDLE_JOBS)];
      for (const rate of RATES_PER_S)
        own.push(await latencyRun(ground, subject, pair, rate, options.latencyS));
      runs.push(...own);
      for (const { perSecond, latencyMs } of own)
        tell(
          `pair ${pair + 1}, latency at ${perSecond}/s, ${subject.name}: p50 ${latencyMs.p50.toFixed(2)} ms, p99 ${latencyMs.p99.toFixed(2)} ms`,
        );
    }
  }
  return runs;
}

const FUNCTIONS_SHOWN = 30;

/** Where the daemon's time went, for each kind of saturated run. */
function profileLines(folder: string, parts: readonly Part[]): string[] {
  const views = {
    "each function's own time": byFunction,
    'by the innermost function of ours on the stack': byOurFunction,
  };
  const lines: string[] = [];
  for (const part of parts.filter((one) => one !== 'latency')) {
    const profiles = readProfiles(folder, part);
    for (const [view, naming] of Object.entries(views)) {
      lines.push('', `${part}, CPU of the daemon, ${view}`);
      lines.push(...shareLines(timeShares(profiles, naming), FUNCTIONS_SHOWN));
    }
  }
  return lines;
}
