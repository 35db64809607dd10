import type { CpuMs } from '../measure/cpu.ts';
import { type Contest, PEERS, type Setting, type Variant, VARIANTS } from '../peers/settings.ts';
import { type Figure, figure, type Target } from '../report/findings.ts';
import { TARGETS } from '../report/targets.ts';

/** One peer that worked off a backlog. */
export interface PeerRun extends Contest {
  readonly pair: number;
  readonly jobs: number;
  /** From when it began to consume to the last hand-over, or to the end of the last handler. */
  readonly ms: number;
  readonly perSecond: number;
  readonly cpuMs: CpuMs;
  readonly foreignShare: number | null;
}

/** Tollgate's own run of a pair. */
export interface OwnRun {
  readonly pair: number;
  readonly perSecond: number;
}

/** Tollgate's dispatch over the best peer, where every lock is a transaction of its own. */
const JUDGED: Readonly<Partial<Record<Variant, Target>>> = {
  'same steps': TARGETS.overPeersSameSteps,
  'lock only': TARGETS.overPeersLockOnly,
};

const IDS: Readonly<Record<Variant, string>> = {
  'same steps': 'same-steps',
  'lock only': 'lock-only',
  'no-op': 'no-op',
};

/** Rates of all, and what Tollgate is over the best peer of each pair; other settings of one peer count as other subjects. */
export function peerFigures(own: readonly OwnRun[], runs: readonly PeerRun[]): Figure[] {
  const ours = own.toSorted((a, b) => a.pair - b.pair);
  const rates = [...Map.groupBy(runs, subjectOf)].map(([subject, its]) => {
    const values = its.toSorted((a, b) => a.pair - b.pair).map(({ perSecond }) => perSecond);
    return figure(`peers/rate/${subject}`, subject, '/s', values);
  });
  const tollgate = figure(
    'peers/rate/tollgate',
    'tollgate, dispatch',
    '/s',
    ours.map(({ perSecond }) => perSecond),
  );
  return [tollgate, ...rates, ...VARIANTS.flatMap((variant) => ratiosOf(variant, ours, runs))];
}

function ratiosOf(variant: Variant, ours: readonly OwnRun[], runs: readonly PeerRun[]): Figure[] {
  const own = runs.filter((run) => run.variant === variant);
  const alone = own.filter(({ setting }) => !setting.areLocksBatched);
  const batched = own.filter(({ setting }) => setting.areLocksBatched);
  const id = `peers/${IDS[variant]}`;
  const target = JUDGED[variant] ?? null;
  const over = (name: string, its: readonly PeerRun[], suffix = '', bound: Target | null = null): Figure[] =>
    its.length === 0 ? [] : [figure(`${id}${suffix}`, name, '×', overBest(ours, its), { target: bound })];
  return [
    ...over(`tollgate ÷ best peer, ${variant}`, alone, '', target),
    ...PEERS.flatMap((peer) =>
      over(
        `tollgate ÷ ${peer}, ${variant}`,
        alone.filter((run) => run.peer === peer),
        `/${peer}`,
      ),
    ),
    ...over(`tollgate ÷ pg-boss with our batched lock, ${variant}`, batched, '/batched-locks'),
  ];
}

/** Tollgate over the fastest of `its` runs of the same pair. */
function overBest(ours: readonly OwnRun[], its: readonly PeerRun[]): number[] {
  return ours.map(({ pair, perSecond }) => {
    const rates = its.filter((run) => run.pair === pair).map((run) => run.perSecond);
    return perSecond / Math.max(...rates);
  });
}

/** A run's subject: peer, task and setting as far as they tell runs apart. */
export function subjectOf({
  peer,
  variant,
  setting,
}: Pick<Contest, 'peer' | 'variant'> & { readonly setting: Pick<Setting, 'areLocksBatched'> }): string {
  return `${peer}, ${variant}${setting.areLocksBatched ? ', batched locks' : ''}`;
}

/** A setting as people read it. */
export function shownSetting({ concurrency, fetched }: Setting): string {
  return fetched === 1 ? `${concurrency} at a time` : `${concurrency} at a time, ${fetched} fetched`;
}
