import { flowRun } from '../../measure/flow.ts';
import type { SaturatedRun } from '../../measure/runs.ts';
import { summarize } from '../../measure/statistics.ts';
import { plain } from '../../report/report.ts';
import type { TollgateSubject } from '../../subjects/subject.ts';
import { planWithPools } from '../../world/plan.ts';
import { addTollgate, type Place } from '../place.ts';
import { tell } from '../suite.ts';
import { type Circumstances, type Condition, LEAST_SHARE } from './condition.ts';

const POOLS = 1_000;
/** Runs of the one pool while the broker has no others: what their queues cost it is felt by both sides later. */
const RUNS_BEFORE = 3;

/** Jobs spread over 1,000 pools against all of them in one; both worlds have the same nodes. */
export async function manyPools({ place, jobs, profile }: Circumstances): Promise<Condition> {
  const one = await addTollgate(place, 'pools-1', { plan: planWithPools(1), profile });
  const before: number[] = [];
  for (let pair = 0; pair < RUNS_BEFORE; pair++) before.push((await runOf(place, one, pair, jobs)).perSecond);
  const line = `pools-1000: with one pool and no others on the broker ${plain(summarize(before).median)}/s`;
  tell(line);
  const many = await addTollgate(place, `pools-${POOLS}`, { plan: planWithPools(POOLS), profile });
  return {
    title: `${POOLS.toLocaleString('en')} pools, without 1`,
    target: LEAST_SHARE,
    without: (pair) => runOf(place, one, pair, jobs),
    with: (pair) => runOf(place, many, pair, jobs),
    notes: [line],
  };
}

function runOf(
  { ground }: Place,
  subject: TollgateSubject,
  pair: number,
  jobs: number,
): Promise<SaturatedRun> {
  return flowRun(ground, subject, pair, jobs, { models: subject.client.world.plan.models });
}
