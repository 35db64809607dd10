import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../src/clock.ts';
import type { Stack } from '../src/stack/stack.ts';
import { Books } from './books.ts';
import { judge, OnlineProbe, quiesce, settleAudit } from './checker.ts';
import type { Nursery } from './child.ts';
import { Coordinator } from './coordinators.ts';
import { Fleet } from './fleets.ts';
import { makeLinks } from './links.ts';
import { Load } from './load.ts';
import { Nemesis } from './nemesis.ts';
import { figuresOf, recoveriesOf } from './recovery.ts';
import { memoryOf } from './memory.ts';
import { countFaults, isZero, type RunReport } from './report.ts';
import { scheduleOf, type Target } from './schedule.ts';
import { type ChaosWorld, makeWorld } from './world.ts';

/** One run. */
export interface RunOptions {
  readonly seed: number;
  /** How long faults come; starting the parts and judging them is not counted. */
  readonly minutes: number;
  readonly jobsPerSecond: number;
  /** Mean pause between two faults, in milliseconds. */
  readonly everyMs: number;
  /** One coordinator is never ended, and its memory is judged. */
  readonly isSoak: boolean;
  /** Each coordinator has faults of its own, and so has all the rest, at the same time. */
  readonly isOverlapping: boolean;
}

const TOKENS_PER_SECOND = 100;
const MEMORY_MS = 5_000;
const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** With faults that overlap there are so many, so that one serves now and then. */
const COORDINATORS_OVERLAPPING = 3;

/** Two coordinators, and one alone with every third seed: there a kill is an outage, and the recovery is its own. */
function coordinatorsOf({ seed, isSoak, isOverlapping }: RunOptions): number {
  if (isOverlapping) return COORDINATORS_OVERLAPPING;
  return seed % 3 === 0 && !isSoak ? 1 : 2;
}

/**
 * Everything once: a Tollgate on servers that run, a load, faults by the seed's schedule; then silence, and the judgement. What
 * the parts write goes to `folder`. Everything started here has ended when the promise settles.
 */
export async function runChaos(
  stack: Stack,
  folder: string,
  options: RunOptions,
  tell: (line: string) => void,
): Promise<RunReport> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  await using ending = new AsyncDisposableStack();
  const links = await makeLinks(stack.urls);
  ending.defer(() => Object.values(links).forEach(({ proxy }) => proxy.close()));
  const world = await makeWorld(stack.urls, links, folder);
  const books = new Books(stack.urls.postgresAdmin);
  ending.defer(() => books.close());
  const nursery: Nursery = { folder, adopt: (pid) => stack.adopt(pid) };
  const coordinators = Array.from(
    { length: coordinatorsOf(options) },
    (_, i) => new Coordinator(i, world.flags, nursery),
  );
  const fleets = world.fleets.map((nodes, i) => new Fleet(i, fleetInput(world, nodes), nursery));
  ending.defer(async () => void (await Promise.all(fleets.map((fleet) => fleet.stop()))));
  const drains: boolean[] = [];
  ending.defer(async () => void (await Promise.all(coordinators.map((one) => one.stop()))));
  await Promise.all([...coordinators.map((one) => one.start()), ...fleets.map((fleet) => fleet.ready())]);
  const logFile = join(folder, 'generator.jsonl');
  const load = new Load(world, options.seed, logFile);
  ending.defer(() => load.close());
  const probe = new OnlineProbe(books, world.creditedMicro);
  const sampling = setInterval(() => coordinators.forEach((one) => one.sampleMemory()), MEMORY_MS);
  ending.defer(() => clearInterval(sampling));

  await load.start(options.jobsPerSecond);
  probe.start();
  ending.defer(() => probe.stop());
  tell(
    `${coordinators.length} coordinators, ${world.fleets.flat().length} workers; here come the load and the faults`,
  );
  const nemesis = new Nemesis({ stack, coordinators, fleets, links }, tell);
  const scale = {
    coordinators: coordinators.length,
    fleets: fleets.length,
    everyMs: options.everyMs,
    isFirstSpared: options.isSoak,
  };
  const targets: readonly Target[] = options.isOverlapping
    ? [...coordinators.map((one) => one.index), 'surroundings']
    : ['everything'];
  const untilMs = systemClock.monotonicMs() + options.minutes * 60_000;
  await Promise.all(
    targets.map((target) => nemesis.run(target, scheduleOf(options.seed, scale, target), untilMs)),
  );

  tell('the faults are over: everything has a minute to reach its end');
  await Promise.all([load.stop(), ...coordinators.map((one) => one.serving())]);
  const quiesceMs = await quiesce(books, logFile);
  const audit = await settleAudit(world, books, logFile);
  await probe.stop();
  const verdict = await judge(books, logFile, audit, probe, quiesceMs);
  const recoveries = recoveriesOf(nemesis.done, await books.progress(), coordinators.length);
  for (const one of coordinators) drains.push(await one.stop());
  const crashes = coordinators.flatMap((one) => one.crashes);
  const memory = options.isSoak ? memoryOf(coordinators[0]?.residentMiB ?? []) : null;
  return {
    isGood: isZero(verdict, crashes) && memory?.isFlat !== false,
    memory,
    seed: options.seed,
    commit: commitOf(),
    minutes: options.minutes,
    coordinators: coordinators.length,
    everyMs: options.everyMs,
    isOverlapping: options.isOverlapping,
    verdict,
    faults: countFaults(nemesis.done),
    crashes,
    failedStarts: coordinators.reduce((sum, { failedStarts }) => sum + failedStarts, 0),
    uncleanDrains: drains.filter((isClean) => !isClean).length,
    residentMiBMax: Math.max(0, ...coordinators.flatMap(({ residentMiB }) => residentMiB)),
    recoveries,
    recovery: figuresOf(recoveries.seen),
    schedule: nemesis.done,
    skipped: [
      'clock steps by libfaketime: the clock of a coordinator is stepped inside it, the drivers keep the real one',
    ],
  };
}

function fleetInput({ config }: ChaosWorld, nodes: ChaosWorld['fleets'][number]) {
  const { broker, servers, fleet } = config;
  return { nodes, tokensPerSecond: TOKENS_PER_SECOND, broker, servers, heartbeatMs: fleet.heartbeatMs };
}

function commitOf(): string | null {
  try {
    return git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '+');
  } catch {
    return null;
  }
}

function git(...args: string[]): string {
  const stdio: ['ignore', 'pipe', 'ignore'] = ['ignore', 'pipe', 'ignore'];
  return execFileSync('git', ['-C', ROOT, ...args], { encoding: 'utf8', stdio }).trim();
}
