import { flowRun } from '../../measure/flow.ts';
import type { SaturatedRun } from '../../measure/runs.ts';
import { figure } from '../../report/findings.ts';
import { TARGETS } from '../../report/targets.ts';
import { alternating, pairedRatios } from '../../measure/statistics.ts';
import type { Figure } from '../../report/findings.ts';
import type { Subject } from '../../subjects/subject.ts';
import { planWithPools } from '../../world/plan.ts';
import { addRelay, addTollgate, type Place } from '../place.ts';
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
    control: (pairs) => relayed(place, pairs, jobs),
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

/** The same of a relay that looks at nothing: how much of it is the broker's, whoever consumes the queues. */
async function relayed(place: Place, pairs: number, jobs: number): Promise<Figure[]> {
  const one = { subject: await addRelay(place, planWithPools(1)), rates: Array<number>() };
  const many = { subject: await addRelay(place, planWithPools(POOLS)), rates: Array<number>() };
  for (let pair = 0; pair < pairs; pair++)
    for (const { subject, rates } of alternating([one, many], pair)) {
      const { perSecond } = await runOf(place, subject, pair, jobs);
      rates.push(perSecond);
      tell(`pair ${pair + 1}, ${subject.client.world.name}: ${perSecond.toFixed(0)}/s`);
    }
  const id = `conditions/pools-${POOLS}/relay`;
  return [
    figure(`${id}-1`, 'tuned relay, 1 pool', '/s', one.rates),
    figure(`${id}-${POOLS}`, `tuned relay, ${POOLS.toLocaleString('en')} pools`, '/s', many.rates),
    figure(id, 'tuned relay: with ÷ without', '×', pairedRatios(many.rates, one.rates)),
  ];
}

function runOf({ ground }: Place, subject: Subject, pair: number, jobs: number): Promise<SaturatedRun> {
  return flowRun(ground, subject, pair, jobs, { models: subject.client.world.plan.models });
}
