import { join } from 'node:path';
import type { Members } from '../measure/cpu.ts';
import { flowRun } from '../measure/flow.ts';
import { groundOf } from '../measure/ground.ts';
import { type Ground, saturatedRun } from '../measure/runs.ts';
import { readVersions, type Setting } from '../measure/settings.ts';
import { warmUp, watched } from '../measure/warm-up.ts';
import { disturbancesOf, type Findings } from '../report/findings.ts';
import { relaySubject, type Subject, type TollgateSubject, tollgateSubject } from '../subjects/subject.ts';
import { connectClient } from '../world/load.ts';
import { makePeopledWorld, startFleet } from '../world/peopled.ts';
import { USUAL_PLAN, type WorldPlan } from '../world/plan.ts';
import type { World } from '../world/world.ts';
import { type Bench, headOf, requireQuiet, tell } from './suite.ts';

/** Where a suite measures Tollgate alone, in one world or in several at once: the servers, the fleet, and what they told. */
export interface Place {
  readonly bench: Bench;
  readonly ground: Ground;
  /** What was read back in the warm-up of every world. */
  readonly settings: Setting[];
  /** What daemons said with level `warn` or above: then nothing is reported. */
  readonly warnings: string[];
  readonly processes: Record<string, Members>;
  /** In the order in which they were made. */
  readonly worlds: World[];
}

/** Starts the fleet's process; there is no world yet. */
export function makePlace(bench: Bench): Place {
  const fixed = groundOf(bench.stack, startFleet(bench), []);
  const processes: Record<string, Members> = { ...fixed.processes };
  const ground: Ground = { ...fixed, processes };
  return { bench, ground, settings: [], warnings: [], processes, worlds: [] };
}

/** Of the warm-up: enough that compilers and caches are warm. */
const WARM_UP_JOBS = 4_000;

/** How a world of a place is made; what is left out is the usual. */
export interface TollgateOptions {
  readonly plan?: WorldPlan;
  readonly coordinators?: number;
  /** Folder for CPU profiles; the world's are in a folder of its own in it. */
  readonly profile?: string | null;
}

/** Makes a world with a Tollgate in it, and warms it up under the eyes of the witness. */
export async function addTollgate(
  place: Place,
  name: string,
  { plan = USUAL_PLAN, coordinators = 1, profile = null }: TollgateOptions = {},
): Promise<TollgateSubject> {
  const { bench, ground, warnings, processes, settings, worlds } = place;
  tell(`world ${name}: making and warming up`);
  const world = await makePeopledWorld(bench.t, ground.fleet, name, true, { plan });
  worlds.push(world);
  const client = await connectClient(bench.t, world);
  const subject = await tollgateSubject(client, ground.fleet, {
    owner: bench.owner,
    profile: profile === null ? null : join(profile, name),
    onWarning: (line) => void warnings.push(line),
    coordinators,
  });
  bench.t.after(() => subject.stop());
  for (const [n, pid] of subject.pids.entries()) processes[daemonName(subject, n)] = { pid };
  const run = () =>
    plan.models.length > 1
      ? flowRun(ground, subject, 0, WARM_UP_JOBS, { models: plan.models })
      : saturatedRun(ground, subject, 'life', 0, WARM_UP_JOBS);
  settings.push(...(await watched(world, true, run)));
  await warmUp(run);
  return subject;
}

/** Makes a world that is a vhost only, with a tuned relay in it, and warms it up: what the broker alone makes of a plan. */
export async function addRelay({ bench, ground, processes }: Place, plan: WorldPlan): Promise<Subject> {
  const name = `relay-${plan.models.length}`;
  tell(`world ${name}: making and warming up`);
  const world = await makePeopledWorld(bench.t, ground.fleet, name, false, { plan });
  const subject = await relaySubject('tuned relay', await connectClient(bench.t, world), bench.owner);
  bench.t.after(() => subject.stop());
  processes[name] = { pid: subject.pid };
  await warmUp(() => flowRun(ground, subject, 0, WARM_UP_JOBS, { models: plan.models }));
  return subject;
}

/** What the CPU of a subject's daemon `n` is kept under. */
export function daemonName({ client }: TollgateSubject, n: number): string {
  return `${client.world.name}: daemon ${n + 1}`;
}

/** What every such suite reports in the same way. Throws where a daemon warned: a batch handed back makes a run worthless. */
export async function findingsOf(
  { settings, warnings, worlds }: Place,
  of: Pick<Findings, 'suite' | 'startedAt' | 'figures' | 'notes'> & {
    readonly argv: readonly string[];
    readonly runs: Parameters<typeof disturbancesOf>[0];
  },
): Promise<Findings> {
  const { suite, startedAt, figures, notes, argv, runs } = of;
  const [world] = worlds;
  requireQuiet(warnings);
  return {
    ...headOf(suite, argv, startedAt),
    versions: world ? await readVersions(world) : {},
    settings,
    figures,
    notes,
    disturbances: disturbancesOf(runs),
    runs,
  };
}
