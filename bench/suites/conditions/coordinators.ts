import { saturatedRun } from '../../measure/runs.ts';
import { addTollgate } from '../place.ts';
import type { Circumstances, Condition } from './condition.ts';

/** Two daemons on one world. On two cores that all servers share, the second one brings no core of its own. */
export async function twoCoordinators({ place, jobs, usual }: Circumstances): Promise<Condition> {
  const one = await usual();
  const two = await addTollgate(place, 'two', { coordinators: 2 });
  return {
    title: 'two coordinators',
    target: null,
    without: (pair) => saturatedRun(place.ground, one, 'dispatch', pair, jobs),
    with: (pair) => saturatedRun(place.ground, two, 'dispatch', pair, jobs),
  };
}
