import { pairedRatios } from '../measure/statistics.ts';
import { type Figure, figure } from '../report/findings.ts';
import { TARGETS } from '../report/targets.ts';

/** One measurement of one limit. */
export interface LimitRun {
  /** Of its figure, without the `limits/` in front. */
  readonly id: string;
  readonly name: string;
  readonly pair: number;
  readonly perSecond: number;
  /** Share of the machine that went to processes which are not ours; null: not known. */
  readonly foreignShare: number | null;
}

/** The two runs of a pair that the design compares; they are measured one right after the other. */
export const COMPARED = { batched: 'ledger/batched', single: 'ledger/single' } as const;

/** One figure for each limit, in the order of their first runs, and the ratio that the design asks for. */
export function limitFigures(runs: readonly LimitRun[]): Figure[] {
  const rates = [...Map.groupBy(runs, ({ id }) => id)].map(([id, own]) =>
    figure(`limits/${id}`, own[0]?.name ?? id, '/s', inPairs(own)),
  );
  const of = (wanted: string) => inPairs(runs.filter(({ id }) => id === wanted));
  const [batched, single] = [of(COMPARED.batched), of(COMPARED.single)];
  if (batched.length === 0 || batched.length !== single.length) return rates;
  const name = 'credit locks, batched ÷ one per transaction on 8 connections';
  const ratios = pairedRatios(batched, single);
  return [
    ...rates,
    figure('ledger/batched-over-single', name, '×', ratios, { target: TARGETS.batchedLocks }),
  ];
}

function inPairs(runs: readonly LimitRun[]): number[] {
  return runs.toSorted((a, b) => a.pair - b.pair).map(({ perSecond }) => perSecond);
}
