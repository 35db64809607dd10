import type { Progress } from './books.ts';
import type { DoneFault } from './nemesis.ts';

/** How long after a fault the ledger moved again. */
export interface Recovery {
  /** Kind of fault, and the server or link where that tells more. */
  readonly group: string;
  /** From the end of the fault to the first new lock and the first new settlement, whichever came later; milliseconds. */
  readonly ms: number;
}

/** Recoveries that were seen, and how many were not: another fault was on or came first, or the run ended. */
export interface Recoveries {
  readonly seen: readonly Recovery[];
  readonly interrupted: number;
}

/** Figures of one group. */
export interface RecoveryFigures {
  readonly faults: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/**
 * Reads off the ledger when work went on after each fault. A lock and a settlement that commit after the end of a fault are new
 * work, whatever was on its way. Source: the times that PostgreSQL itself wrote.
 */
export function recoveriesOf(
  faults: readonly DoneFault[],
  progress: Progress,
  coordinators: number,
): Recoveries {
  const seen: Recovery[] = [];
  let interrupted = 0;
  for (const one of faults) {
    const lockMs = firstAfter(progress.locksAtMs, one.toMs);
    const resolutionMs = firstAfter(progress.resolutionsAtMs, one.toMs);
    const atMs = Math.max(lockMs, resolutionMs);
    const isAlone = !faults.some((other) => other !== one && other.fromMs <= atMs && other.toMs >= one.toMs);
    if (isAlone && Number.isFinite(atMs))
      seen.push({ group: groupOf(one, coordinators), ms: Math.round(atMs - one.toMs) });
    else interrupted += 1;
  }
  return { seen, interrupted };
}

/** Figures by group, in the order of their names. */
export function figuresOf(recoveries: readonly Recovery[]): Record<string, RecoveryFigures> {
  const groups = Map.groupBy(recoveries, ({ group }) => group);
  const entries = [...groups].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(
    entries.map(([group, members]) => {
      const sorted = members.map(({ ms }) => ms).toSorted((a, b) => a - b);
      const at = (share: number) =>
        sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0;
      return [group, { faults: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) }];
    }),
  );
}

function groupOf({ fault }: DoneFault, coordinators: number): string {
  // Where another one goes on, the death of one is no outage.
  if (coordinators === 1 && (fault.kind === 'kill' || fault.kind === 'kill_at')) return `${fault.kind} alone`;
  if (fault.kind === 'restart' || fault.kind === 'freeze') return `${fault.kind} ${fault.server}`;
  if (fault.kind === 'link') return `link ${fault.link} ${fault.damage.kind}`;
  return fault.kind;
}

/** The first of `times` after `ms`; they are ascending. Infinity where there is none. */
function firstAfter(times: readonly number[], ms: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((times[middle] ?? 0) > ms) high = middle;
    else low = middle + 1;
  }
  return times[low] ?? Number.POSITIVE_INFINITY;
}
