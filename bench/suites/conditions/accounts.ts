import { saturatedRun } from '../../measure/runs.ts';
import { TARGETS } from '../../report/targets.ts';
import type { Circumstances, Condition } from './condition.ts';

/** Share of all jobs that one account pays. */
export const HOT_SHARE = 0.5;

/** One account has half of the jobs, the others the other half. */
export async function hotAccount({ place, jobs, usual }: Circumstances): Promise<Condition> {
  const subject = await usual();
  return {
    title: 'one account with half of the jobs',
    target: TARGETS.keptUnderCondition,
    without: (pair) => saturatedRun(place.ground, subject, 'dispatch', pair, jobs),
    with: (pair) => saturatedRun(place.ground, subject, 'dispatch', pair, jobs, { hotShare: HOT_SHARE }),
  };
}
