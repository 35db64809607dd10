import { flowRun } from '../../measure/flow.ts';
import type { SaturatedRun } from '../../measure/runs.ts';
import { figure } from '../../report/findings.ts';
import { TARGETS } from '../../report/targets.ts';
import type { TollgateSubject } from '../../subjects/subject.ts';
import { planWithPools } from '../../world/plan.ts';
import { addTollgate, type Place } from '../place.ts';
import { tell } from '../suite.ts';
import type { Circumstances, Condition } from './condition.ts';

const POOLS = 1_000;
/** Runs of the one pool while the broker has no others: what their queues cost it is felt by both sides later. */
const RUNS_BEFORE = 4;

/** Jobs spread over 1,000 pools against all of them in one; both worlds have the same nodes. */
export async function manyPools({ place, jobs, profile }: Circumstances): Promise<Condition> {
  const one = await addTollgate(place, 'pools-1', { plan: planWithPools(1), profile });
  const alone: number[] = [];
  for (let pair = 0; pair < RUNS_BEFORE; pair++) {
    const { perSecond } = await runOf(place, one, pair, jobs);
    alone.push(perSecond);
    tell(`run ${pair + 1} of one pool before there are others: ${perSecond.toFixed(0)}/s`);
  }
  const many = await addTollgate(place, `pools-${POOLS}`, { plan: planWithPools(POOLS), profile });
  return {
    title: `${POOLS.toLocaleString('en')} pools, without 1`,
    target: TARGETS.keptUnderCondition,
    without: (pair) => runOf(place, one, pair, jobs),
    with: (pair) => runOf(place, many, pair, jobs),
    figures: [
      figure(
        `conditions/pools-${POOLS}/alone`,
        'dispatch, 1 pool, before the broker has the others',
        '/s',
        alone,
      ),
    ],
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
