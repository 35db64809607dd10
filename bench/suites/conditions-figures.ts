import type { SaturatedRun } from '../measure/runs.ts';
import { pairedRatios } from '../measure/statistics.ts';
import { type Figure, figure } from '../report/findings.ts';
import type { Condition } from './conditions/condition.ts';
import type { ConditionName } from './conditions-options.ts';

/** One run of one side. */
export interface ConditionRun extends SaturatedRun {
  readonly condition: ConditionName;
  readonly isWith: boolean;
}

/** Both rates of a condition, and the one by the other. */
export function figuresOf(
  name: ConditionName,
  { title, target }: Pick<Condition, 'title' | 'target'>,
  runs: readonly ConditionRun[],
): Figure[] {
  const ratesOf = (isWith: boolean): number[] =>
    runs
      .filter((run) => run.isWith === isWith)
      .toSorted((a, b) => a.pair - b.pair)
      .map((run) => run.perSecond);
  const [without, having] = [ratesOf(false), ratesOf(true)];
  const id = `conditions/${name}`;
  return [
    figure(`${id}/without`, `saturated dispatch, without ${name}`, '/s', without),
    figure(`${id}/with`, `saturated dispatch, with ${name}`, '/s', having),
    figure(id, `${title}: with ÷ without`, '×', pairedRatios(having, without), { target }),
  ];
}
