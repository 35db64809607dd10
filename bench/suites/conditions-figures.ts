import type { SaturatedRun } from '../measure/runs.ts';
import { pairedRatios } from '../measure/statistics.ts';
import { type Figure, figure } from '../report/findings.ts';
import { columns, plain } from '../report/report.ts';
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

/** CPU of every process per job, without and with each condition: where the time goes that a condition costs. */
export function cpuLines(runs: readonly ConditionRun[]): string[] {
  return [...Map.groupBy(runs, ({ condition }) => condition)].flatMap(([condition, own]) => {
    const sides = [false, true].map((isWith) => cpuPerJobUs(own.filter((run) => run.isWith === isWith)));
    const processes = [...new Set(sides.flatMap((side) => [...side.keys()]))];
    const rows = processes.map((name) => [name, ...sides.map((side) => plain(side.get(name) ?? Number.NaN))]);
    return [...columns([[`CPU µs per job, ${condition}`, 'without', 'with'], ...rows]), ''];
  });
}

/** All daemons count as one: those of other worlds have next to nothing to do. */
function cpuPerJobUs(runs: readonly ConditionRun[]): Map<string, number> {
  const jobs = runs.reduce((sum, run) => sum + run.jobs, 0);
  const totals = new Map<string, number>();
  for (const { cpuMs } of runs)
    for (const [process, ms] of Object.entries(cpuMs)) {
      const name = process.includes(': daemon ') ? 'daemons' : process;
      totals.set(name, (totals.get(name) ?? 0) + (ms * 1_000) / jobs);
    }
  return totals;
}
