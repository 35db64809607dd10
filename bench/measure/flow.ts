import { setTimeout as sleep } from 'node:timers/promises';
import type { Subject } from '../subjects/subject.ts';
import { type JobMix, makeJobs } from '../world/jobs.ts';
import { machineMs, within } from './clock.ts';
import { answerHeld, type Ground, RUN_MS_MAX, type SaturatedRun, SETTLE_MS, startMeter } from './runs.ts';

/** Jobs published and not dispatched: enough that the subject never waits for the client. */
const AHEAD_JOBS = 2_000;
const CHUNK = 500;
const LOOK_MS = 5;
/** Share of the jobs that come before the rate is taken: by then the backlog stands. */
const UNCOUNTED_SHARE = 0.25;

/**
 * Dispatch while the client publishes: it keeps a backlog in front of a subject whose workers are there from the beginning. Unlike
 * `saturatedRun` this can be done with many pools, whose intakes would all have to open inside the clock. The rate is that of the
 * arrivals after the first quarter; CPU is of all jobs, and publishing has its part in it.
 */
export async function flowRun(
  ground: Ground,
  subject: Subject,
  pair: number,
  jobs: number,
  mix: Partial<JobMix>,
): Promise<SaturatedRun> {
  const { fleet } = ground;
  const { client } = subject;
  const world = client.world.name;
  await fleet.call('expect', { world, jobs, answers: 'later' });
  client.expectReplies(jobs);
  const messages = makeJobs(jobs, mix);
  const arrived = fleet.call('arrived', world);
  await subject.begin();
  await sleep(SETTLE_MS);
  await subject.profiler?.start();
  const meter = startMeter(ground);
  const startMs = machineMs();
  for (let sent = 0; sent < jobs; ) {
    const room = AHEAD_JOBS - (sent - (await fleet.call('count', world)));
    if (room >= CHUNK) {
      await client.publish(messages.slice(sent, sent + CHUNK));
      sent += CHUNK;
    } else await sleep(LOOK_MS);
  }
  const arrivals = await within(arrived, RUN_MS_MAX, `${jobs} dispatches of ${subject.name}`);
  const used = meter();
  await subject.profiler?.stop(`dispatch-${pair}`);
  if (arrivals.duplicates > 0)
    throw new Error(`${subject.name} dispatched ${arrivals.duplicates} jobs twice`);
  const perSecond = lateRate([...(await fleet.call('times', world)).values()], UNCOUNTED_SHARE);
  await answerHeld(ground, subject);
  await subject.end();
  const ms = arrivals.lastMs - startMs;
  const firstMs = arrivals.firstMs - startMs;
  return { kind: 'dispatch', subject: subject.name, pair, jobs, ms, firstMs, perSecond, ...used };
}

/** Arrivals a second after the first `uncountedShare` of them; `atMs` in the order in which they came. */
export function lateRate(atMs: readonly number[], uncountedShare: number): number {
  const first = Math.floor(atMs.length * uncountedShare);
  const counted = atMs.length - 1 - first;
  return (counted * 1_000) / ((atMs.at(-1) ?? Number.NaN) - (atMs[first] ?? Number.NaN));
}
