import { setTimeout as sleep } from 'node:timers/promises';
import { flowRun } from '../measure/flow.ts';
import { type SaturatedRun, saturatedRun, SETTLE_MS } from '../measure/runs.ts';
import { alternating } from '../measure/statistics.ts';
import { type StoredBytes, storedBytes } from '../measure/stored-bytes.ts';
import type { Findings } from '../report/findings.ts';
import type { TollgateSubject } from '../subjects/subject.ts';
import { makeCrowd } from '../world/crowd.ts';
import type { JobMix } from '../world/jobs.ts';
import { planWithAccounts, planWithPools } from '../world/plan.ts';
import { type Axis, type GrowthRun, growthFigures } from './growth-figures.ts';
import { GROWTH_USAGE, type GrowthOptions, growthOptions } from './growth-options.ts';
import { addTollgate, findingsOf, makePlace, type Place } from './place.ts';
import { type Bench, type Suite, tell, withBench } from './suite.ts';

/**
 * What does a job cost as a network grows: how many a second, how much CPU of each process, how many bytes in the stores? One thing
 * grows at a time (an axis), the rest stays as in the usual world. Each value of an axis runs once a round, in every second round
 * backwards.
 */
export const growth: Suite = {
  asks: 'what a job costs as pools, workers, accounts, payloads and coordinators grow',
  usage: GROWTH_USAGE,
  run: (argv) => {
    const options = growthOptions(argv);
    return withBench((bench) => measure(bench, options, argv));
  },
};

const ACCOUNTS = [1, 100, 10_000];
const PAYLOADS_BYTES = [1_024, 16_384, 262_144];
const WORKERS = [10, 1_000, 100_000];
const POOLS = [1, 100, 1_000];
const COORDINATORS = [1, 2];
/** The most bytes of one run's backlog: large jobs are fewer. */
const BACKLOG_BYTES_MAX = 268_435_456;

/** One value of an axis: where it is measured, and how. */
interface Point {
  readonly value: number;
  readonly subject: TollgateSubject;
  readonly run: (pair: number) => Promise<SaturatedRun>;
}

/** The points of an axis, and what is to be undone after it. */
interface Scale {
  readonly points: readonly Point[];
  readonly end?: () => Promise<void>;
}

/** What makes an axis; `usual` is the world that all share which need no other. */
type MakeScale = (place: Place, usual: TollgateSubject, jobs: number) => Promise<Scale>;

const AXES: Readonly<Record<Axis, MakeScale>> = {
  payload: async (place, usual, jobs) => ({
    points: PAYLOADS_BYTES.map((bodyBytes) =>
      pointOf(place, usual, bodyBytes, Math.min(jobs, BACKLOG_BYTES_MAX / bodyBytes), { bodyBytes }),
    ),
  }),
  accounts: async (place, usual, jobs) => ({
    points: ACCOUNTS.map((count) => {
      const accounts = usual.client.world.plan.accounts.slice(0, count);
      return pointOf(place, usual, count, jobs, { accounts });
    }),
  }),
  workers: async (place, usual, jobs) => {
    const real = usual.client.world.plan.nodes.length;
    const crowd = await makeCrowd(place.bench.t, usual.client.world);
    const points = WORKERS.map((value) => ({
      value,
      subject: usual,
      run: async (pair: number) => {
        await crowd.resize(value - real);
        return flowRun(place.ground, usual, pair, jobs, {});
      },
    }));
    return { points, end: () => crowd.resize(0) };
  },
  coordinators: async (place, usual, jobs) => {
    const points: Point[] = [];
    for (const coordinators of COORDINATORS) {
      const subject =
        coordinators === 1
          ? usual
          : await addTollgate(place, `coordinators-${coordinators}`, { coordinators });
      points.push(pointOf(place, subject, coordinators, jobs, {}));
    }
    return { points };
  },
  pools: async (place, _usual, jobs) => {
    const points: Point[] = [];
    for (const value of POOLS) {
      const subject = await addTollgate(place, `pools-${value}`, { plan: planWithPools(value) });
      const { models } = subject.client.world.plan;
      const run = (pair: number) => flowRun(place.ground, subject, pair, jobs, { models });
      points.push({ value, subject, run });
    }
    return { points };
  },
};

function pointOf(
  { ground }: Place,
  subject: TollgateSubject,
  value: number,
  jobs: number,
  mix: Partial<JobMix>,
): Point {
  return { value, subject, run: (pair) => saturatedRun(ground, subject, 'dispatch', pair, jobs, mix) };
}

async function measure(bench: Bench, options: GrowthOptions, argv: readonly string[]): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const place = makePlace(bench);
  const usual = await addTollgate(place, 'usual', { plan: planWithAccounts(Math.max(...ACCOUNTS)) });
  const runs: GrowthRun[] = [];
  for (const axis of options.axes) {
    tell(`axis ${axis}`);
    const { points, end } = await AXES[axis](place, usual, options.jobs);
    for (let pair = 0; pair < options.runs; pair++)
      for (const point of alternating(points, pair)) runs.push(await measuredRun(axis, point, pair));
    await end?.();
  }
  return findingsOf(place, {
    suite: 'growth',
    startedAt,
    argv,
    runs,
    figures: growthFigures(runs),
    notes: ['CPU until the last dispatch; bytes of the whole life, indexes and dead row versions included'],
  });
}

async function measuredRun(axis: Axis, { value, subject, run }: Point, pair: number): Promise<GrowthRun> {
  const { world } = subject.client;
  const before = await storedBytes(world);
  const done = await run(pair);
  // The last traces are written after the last replies.
  await sleep(SETTLE_MS);
  const after = await storedBytes(world);
  tell(`run ${pair + 1}, ${axis} ${value}: ${done.jobs} jobs, ${done.perSecond.toFixed(0)}/s`);
  return { ...done, axis, value, daemons: world.name, bytes: grownBy(before, after) };
}

function grownBy(before: StoredBytes, after: StoredBytes): StoredBytes {
  return { postgres: after.postgres - before.postgres, mongo: after.mongo - before.mongo };
}
