import { WeakSettingError } from '../bench-error.ts';
import type { Subject } from '../subjects/subject.ts';
import type { World } from '../world/world.ts';
import { type Ground, saturatedRun } from './runs.ts';
import { readSettings, type Setting, startWitness, weakSettings } from './settings.ts';

/**
 * Looks on during a warm-up: `run` must bring jobs through their whole life. Returns what was seen and what the servers say of
 * themselves. Throws WeakSettingError where one is weaker than the reports claim.
 */
export async function watched(
  world: World,
  hasStores: boolean,
  run: () => Promise<unknown>,
  keepsDispatches = false,
): Promise<Setting[]> {
  const witness = await startWitness(world, hasStores, keepsDispatches);
  await run();
  const settings = [...(await witness.read()), ...(await readSettings(world, hasStores))];
  requireStrong(settings);
  return settings;
}

/** The rate of a daemon was seen to double over its first runs, while its code was being compiled. */
const WARM_UP_RUNS = 3;

/**
 * Full life runs of a subject, the first one watched: compilers and caches are warm afterwards, as in a daemon that has been serving.
 * Throws WeakSettingError.
 */
export async function watchedRun(ground: Ground, subject: Subject, jobs: number): Promise<Setting[]> {
  const { world } = subject.client;
  const hasStores = world.servers.postgresAdminUrl !== '';
  const run = () => saturatedRun(ground, subject, 'life', 0, jobs);
  const settings = await watched(world, hasStores, run, subject.name === 'relay');
  await warmUp(run);
  return settings;
}

/** What is left of a warm-up after its first, watched run. */
export async function warmUp(run: () => Promise<unknown>): Promise<void> {
  for (let n = 1; n < WARM_UP_RUNS; n++) await run();
}

/**
 * Every suite has what it has read back checked by this, before it measures; `main.ts` calls it again with what is to be reported.
 * Throws WeakSettingError when a setting is weaker than the report would claim.
 */
export function requireStrong(settings: readonly Setting[]): void {
  const weak = weakSettings(settings);
  if (weak.length === 0) return;
  const lines = weak.map(
    ({ server, name, value, needed }) => `${server}: ${name} is ${value} and has to be ${needed}`,
  );
  throw new WeakSettingError(
    `a setting is weaker than the report would claim, so nothing is measured:\n${lines.join('\n')}`,
  );
}
