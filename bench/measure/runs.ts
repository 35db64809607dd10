import { setTimeout as sleep } from 'node:timers/promises';
import type { Child } from '../process/child.ts';
import { type Backlog, backlogOf } from './backlog.ts';
import { machineMs, within } from './clock.ts';
import { cpuBetween, type CpuMs, type MachineCpu, type Members, readCpu, readMachineCpu } from './cpu.ts';
import type { FleetMethods } from '../world/fleet.ts';
import type { Departure } from '../world/load.ts';
import { type JobMix, makeJobs } from '../world/jobs.ts';
import { type Quantiles, quantilesOf } from './statistics.ts';
import type { Subject, SubjectName } from '../subjects/subject.ts';

/** What all runs share. */
export interface Ground {
  readonly fleet: Child<FleetMethods>;
  /** All processes of the bench, by name; a subject's by the subject's. */
  readonly processes: Readonly<Record<string, Members>>;
  /** False where a server is not ours, so that its CPU is not known. */
  readonly hasAllServers: boolean;
  readonly cores: number;
}

/** One run with a backlog: how fast it is worked off. */
export interface SaturatedRun {
  readonly kind: 'dispatch' | 'life';
  readonly subject: SubjectName;
  readonly pair: number;
  readonly jobs: number;
  readonly ms: number;
  /** Part of `ms`: until the first dispatch came. */
  readonly firstMs: number;
  readonly perSecond: number;
  /** CPU of each process during the run, in milliseconds. */
  readonly cpuMs: CpuMs;
  /** Share of the machine that went to processes which are not ours, the hypervisor's others included; null: not known. */
  readonly foreignShare: number | null;
}

/** One run at a fixed rate: how long a job takes from when it was due to its node's consumer. */
export interface LatencyRun {
  readonly kind: 'latency' | 'idle';
  readonly subject: SubjectName;
  readonly pair: number;
  /** 0: one job at a time on an idle system. */
  readonly perSecond: number;
  readonly latencyMs: Quantiles;
  /** How late the generator itself was. */
  readonly latenessMs: Quantiles;
  /** Due and not arrived; `isSustained` says whether the latencies mean anything. */
  readonly backlog: Backlog;
  readonly cpuMs: CpuMs;
  readonly foreignShare: number | null;
}

/** No run may hang: a saturated one ends by then. */
export const RUN_MS_MAX = 180_000;
/** The broker writes a backlog to its segments in the background; what is measured begins after that. */
export const SETTLE_MS = 400;

/** Resolves when the servers had time for what a backlog left them to do. */
export function settled(): Promise<void> {
  return sleep(SETTLE_MS);
}

/**
 * Works off a backlog of `jobs`. The clock runs from the moment the subject is told to begin until the last dispatch is in the
 * hands of its node's consumer (`dispatch`), or the last reply in those of the client (`life`).
 */
export async function saturatedRun(
  ground: Ground,
  subject: Subject,
  kind: SaturatedRun['kind'],
  pair: number,
  jobs: number,
  mix: Partial<JobMix> = {},
): Promise<SaturatedRun> {
  const { fleet } = ground;
  const { client } = subject;
  const world = client.world.name;
  await subject.fill(jobs, mix);
  await fleet.call('expect', { world, jobs, answers: kind === 'life' ? 'at once' : 'later' });
  client.expectReplies(jobs);
  const arrived = fleet.call('arrived', world);
  await settled();
  await subject.profiler?.start();
  const meter = startMeter(ground);
  const startMs = machineMs();
  await subject.begin();
  const arrivals = await within(arrived, RUN_MS_MAX, `${jobs} dispatches of ${subject.name}`);
  const endMs =
    kind === 'life'
      ? await within(client.replied(), RUN_MS_MAX, `${jobs} replies of ${subject.name}`)
      : arrivals.lastMs;
  const used = meter();
  await subject.profiler?.stop(`${kind}-${pair}`);
  if (arrivals.duplicates > 0)
    throw new Error(`${subject.name} dispatched ${arrivals.duplicates} jobs twice`);
  if (kind === 'dispatch') await answerHeld(ground, subject);
  await subject.end();
  const ms = endMs - startMs;
  const firstMs = arrivals.firstMs - startMs;
  return { kind, subject: subject.name, pair, jobs, ms, firstMs, perSecond: (jobs * 1_000) / ms, ...used };
}

/** Publishes at a fixed rate for `seconds`, open loop. */
export async function latencyRun(
  ground: Ground,
  subject: Subject,
  pair: number,
  perSecond: number,
  seconds: number,
): Promise<LatencyRun> {
  const { fleet } = ground;
  const { client } = subject;
  const world = client.world.name;
  const messages = makeJobs(perSecond * seconds);
  await fleet.call('expect', { world, jobs: messages.length, answers: 'later' });
  client.expectReplies(messages.length);
  await subject.begin();
  await settled();
  const meter = startMeter(ground);
  const departures = await client.publishPaced(messages, perSecond);
  await within(fleet.call('arrived', world), RUN_MS_MAX, `the last dispatch of ${subject.name}`);
  const used = meter();
  const atMs = await fleet.call('times', world);
  await answerHeld(ground, subject);
  await subject.end();
  return {
    kind: 'latency',
    subject: subject.name,
    pair,
    perSecond,
    ...latenciesOf(departures, atMs),
    ...used,
  };
}

/** What an open loop came to: `atMs` is when each job arrived. Latency counts from when a job was due. */
export function latenciesOf(
  departures: readonly Departure[],
  atMs: ReadonlyMap<string, number>,
): Pick<LatencyRun, 'latencyMs' | 'latenessMs' | 'backlog'> {
  const dueMs = departures.map((one) => one.dueMs);
  const arrivedMs = departures.map(({ job }) => atMs.get(job) ?? Number.NaN);
  return {
    latencyMs: quantilesOf(arrivedMs.map((ms, i) => ms - (dueMs[i] ?? Number.NaN))),
    latenessMs: quantilesOf(departures.map(({ dueMs: due, sentMs }) => sentMs - due)),
    backlog: backlogOf(dueMs, arrivedMs),
  };
}

/** Pause between two single jobs. */
const IDLE_PAUSE_MS = 10;

/** One job after the other on a system that does nothing else. */
export async function idleRun(
  ground: Ground,
  subject: Subject,
  pair: number,
  jobs: number,
): Promise<LatencyRun> {
  const { fleet } = ground;
  const { client } = subject;
  const world = client.world.name;
  await subject.begin();
  await settled();
  const meter = startMeter(ground);
  const latenciesMs: number[] = [];
  for (const message of makeJobs(jobs)) {
    await fleet.call('expect', { world, jobs: 1, answers: 'at once' });
    client.expectReplies(1);
    const sentMs = machineMs();
    await client.publish([message]);
    const { lastMs } = await within(fleet.call('arrived', world), RUN_MS_MAX, 'a single job');
    latenciesMs.push(lastMs - sentMs);
    await within(client.replied(), RUN_MS_MAX, 'the reply of a single job');
    await sleep(IDLE_PAUSE_MS);
  }
  const used = meter();
  await subject.end();
  return {
    kind: 'idle',
    subject: subject.name,
    pair,
    perSecond: 0,
    latencyMs: quantilesOf(latenciesMs),
    latenessMs: quantilesOf([0]),
    backlog: { middle: 0, end: 0 },
    ...used,
  };
}

/**
 * Answers what was only dispatched, outside the clock: slots, locks and leases are free again for the next run, and each job
 * has proved that it was really locked, because it settles.
 */
export async function answerHeld({ fleet }: Ground, { name, client, holdsJobs }: Subject): Promise<void> {
  if (!holdsJobs) return;
  await fleet.call('answerHeld', client.world.name);
  await within(client.replied(), RUN_MS_MAX, `the replies of ${name}`);
}

/** Reads the processes' CPU now; the function it returns tells what was used since. */
export function startMeter({
  processes,
  hasAllServers,
  cores,
}: Ground): () => Pick<SaturatedRun, 'cpuMs' | 'foreignShare'> {
  const before = { cpu: readCpu(processes), machine: readMachineCpu(), ms: machineMs() };
  return () => {
    const capacityMs = (machineMs() - before.ms) * cores;
    const machine = readMachineCpu();
    const cpuMs = cpuBetween(before.cpu, readCpu(processes));
    const share = foreignShare(before.machine, machine, cpuMs, capacityMs);
    return { cpuMs, foreignShare: hasAllServers ? share : null };
  };
}

/** Share of `capacityMs` that neither the named processes used nor nobody. */
export function foreignShare(before: MachineCpu, after: MachineCpu, ours: CpuMs, capacityMs: number): number {
  const busyMs = after.busyMs - before.busyMs;
  const stolenMs = after.stolenMs - before.stolenMs;
  const oursMs = Object.values(ours).reduce((sum, ms) => sum + ms, 0);
  return Math.max(0, busyMs - oursMs + stolenMs) / capacityMs;
}
