import { type Summary, summarize } from '../measure/statistics.ts';
import type { Figure } from '../report/findings.ts';
import { verdictOf } from '../report/findings.ts';
import type { Whole } from '../report/whole.ts';
import type { Point } from './svg.ts';

/** All figures of a result file by id. Those of a suite that was disturbed are left out. */
export function figuresById({ outcomes }: Pick<Whole, 'outcomes'>): ReadonlyMap<string, Figure> {
  return new Map(
    outcomes
      .flatMap((one) =>
        one.state === 'measured' && one.findings.disturbances.length === 0 ? one.findings.figures : [],
      )
      .map((figure) => [figure.id, figure]),
  );
}

/** Median and range of a figure; null where there is none, or its values lie too far apart. */
export function summaryOf(figures: ReadonlyMap<string, Figure>, id: string): Summary | null {
  const figure = figures.get(id);
  if (figure === undefined || figure.values.length === 0) return null;
  return 'summary' in verdictOf(figure) ? summarize(figure.values) : null;
}

/** A point of a plot from a figure; none where it has no summary. */
export function pointsOf(figures: ReadonlyMap<string, Figure>, id: string, x: number): Point[] {
  const summary = summaryOf(figures, id);
  return summary === null ? [] : [{ x, y: summary.median, low: summary.min, high: summary.max }];
}

/** Numbers that stand in the ids between `before` and `after`, in their order. */
export function valuesBetween(figures: ReadonlyMap<string, Figure>, before: string, after: string): number[] {
  const found = [...figures.keys()]
    .filter((id) => id.startsWith(before) && id.endsWith(after) && id.length > before.length + after.length)
    .map((id) => id.slice(before.length, id.length - after.length))
    .filter((text) => /^\d+$/.test(text))
    .map(Number);
  return [...new Set(found)].toSorted((a, b) => a - b);
}
