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
import { accountsJobs, type Axis, type GrowthRun, growthFigures, PAYING_ACCOUNTS } from './growth-figures.ts';
import { GROWTH_USAGE, type GrowthOptions, growthOptions } from './growth-options.ts';
import { addTollgate, findingsOf, makePlace, type Place } from './place.ts';
import { type Bench, type Suite, tell, withBench } from './suite.ts';

/**
 * What does a job cost as a network grows: how many a second, how much CPU of each process, how many bytes in the stores? One thing
 * grows at a time (an axis), the rest stays as in the usual world. Each value of an axis runs once a round, in every second round
 * backwards; of pools each value has all of its runs before the world of the next one is made.
 */
export const growth: Suite = {
  asks: 'what a job costs as pools, workers, accounts, payloads and coordinators grow',
  usage: GROWTH_USAGE,
  run: (argv) => {
    const options = growthOptions(argv);
    return withBench((bench) => measure(bench, options, argv));
  },
};

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

/** What axes are made in. */
interface Growing {
  readonly place: Place;
  /** Jobs of one run. */
  readonly jobs: number;
  /** The world with all accounts that pay; made once, for all axes that need no other. */
  readonly usual: () => Promise<TollgateSubject>;
}

/**
 * The points of an axis, in groups whose points run in turns. It goes on when all runs of a group are done: to make the next one, or
 * to undo what the last one has left.
 */
type Scale = (growing: Growing) => AsyncGenerator<readonly Point[]>;

const SCALES: Readonly<Record<Axis, Scale>> = {
  payload: async function* ({ place, usual, jobs }) {
    const subject = await usual();
    yield PAYLOADS_BYTES.map((bodyBytes) =>
      pointOf(place, subject, bodyBytes, Math.min(jobs, BACKLOG_BYTES_MAX / bodyBytes), { bodyBytes }),
    );
  },
  accounts: async function* ({ place, usual, jobs }) {
    const subject = await usual();
    yield PAYING_ACCOUNTS.map((count) => {
      const accounts = subject.client.world.plan.accounts.slice(0, count);
      return pointOf(place, subject, count, accountsJobs(jobs), { accounts });
    });
  },
  workers: async function* ({ place, usual, jobs }) {
    const subject = await usual();
    const { world } = subject.client;
    const real = world.plan.nodes.length;
    const crowd = await makeCrowd(place.bench.t, world);
    yield WORKERS.map((value) => ({
      value,
      subject,
      run: async (pair: number) => {
        await crowd.resize(value - real);
        return flowRun(place.ground, subject, pair, jobs, {});
      },
    }));
    await crowd.resize(0);
  },
  coordinators: async function* ({ place, jobs }) {
    const points: Point[] = [];
    for (const coordinators of COORDINATORS) {
      const subject = await addTollgate(place, `coordinators-${coordinators}`, { coordinators });
      points.push(pointOf(place, subject, coordinators, jobs, {}));
    }
    yield points;
  },
  // One after the other: the queues of a thousand pools would cost the broker something while it serves one.
  pools: async function* ({ place, jobs }) {
    for (const value of POOLS) {
      const subject = await addTollgate(place, `pools-${value}`, { plan: planWithPools(value) });
      const { models } = subject.client.world.plan;
      const run = (pair: number) => flowRun(place.ground, subject, pair, jobs, { models });
      yield [{ value, subject, run }];
    }
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
  let usual: Promise<TollgateSubject> | null = null;
  const growing: Growing = {
    place,
    jobs: options.jobs,
    usual: () =>
      (usual ??= addTollgate(place, 'usual', { plan: planWithAccounts(Math.max(...PAYING_ACCOUNTS)) })),
  };
  const runs: GrowthRun[] = [];
  for (const axis of options.axes) {
    tell(`axis ${axis}`);
    for await (const points of SCALES[axis](growing))
      for (let pair = 0; pair < options.runs; pair++)
        for (const point of alternating(points, pair)) runs.push(await measuredRun(axis, point, pair));
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
