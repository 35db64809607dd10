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
): Promise<Setting[]> {
  const witness = await startWitness(world, hasStores);
  await run();
  const settings = [...(await witness.read()), ...(await readSettings(world, hasStores))];
  requireStrong(settings);
  return settings;
}

/** One full life run of a subject, watched: compilers and caches are warm afterwards. Throws WeakSettingError. */
export function watchedRun(ground: Ground, subject: Subject, jobs: number): Promise<Setting[]> {
  const { world } = subject.client;
  const hasStores = world.servers.postgresAdminUrl !== '';
  return watched(world, hasStores, () => saturatedRun(ground, subject, 'life', 0, jobs));
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
