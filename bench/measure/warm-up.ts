import { WeakSettingError } from '../bench-error.ts';
import type { Subject } from '../subjects/subject.ts';
import { type Ground, saturatedRun } from './runs.ts';
import { readSettings, type Setting, startWitness, weakSettings } from './settings.ts';

/**
 * One full life run of a subject, watched: compilers and caches are warm afterwards. Returns what its figures stand on, as the
 * servers told it.
 */
export async function watchedRun(ground: Ground, subject: Subject, jobs: number): Promise<Setting[]> {
  const { world } = subject.client;
  const hasStores = world.servers.postgresAdminUrl !== '';
  const witness = await startWitness(world, hasStores);
  await saturatedRun(ground, subject, 'life', 0, jobs);
  return [...(await witness.read()), ...(await readSettings(world, hasStores))];
}

/**
 * Every suite calls this with what it has read back, before it measures; `main.ts` calls it again with what is to be reported.
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
