import { MUST_BE_ZERO, type Verdict } from './checker.ts';
import type { Crash } from './coordinators.ts';
import type { Memory } from './memory.ts';
import type { DoneFault } from './nemesis.ts';
import { figuresOf, type Recoveries, type RecoveryFigures } from './recovery.ts';

/** How many faults of which class a run did. */
export interface FaultCounts {
  /** kill -9 of a coordinator, at failpoints and at random. */
  readonly kills: number;
  readonly killsAtPoints: number;
  readonly others: number;
  /** Kills by the point where they happened. */
  readonly points: Readonly<Record<string, number>>;
  /** Failpoints to fail at that no call reached. */
  readonly missed: number;
  /** What this machine or the run could not do: it proves nothing, and is to be mended. */
  readonly failed: number;
}

/** One run. */
export interface RunReport {
  readonly isGood: boolean;
  readonly seed: number;
  /** Of the sources; `+` behind it: with changes that are not committed. Null outside of a repository. */
  readonly commit: string | null;
  readonly minutes: number;
  readonly coordinators: number;
  readonly everyMs: number;
  /** Faults came at the same time. */
  readonly isOverlapping: boolean;
  readonly verdict: Verdict;
  readonly faults: FaultCounts;
  readonly crashes: readonly Crash[];
  readonly failedStarts: number;
  readonly uncleanDrains: number;
  readonly residentMiBMax: number;
  /** Of the coordinator that was never ended; null where each might be. */
  readonly memory: Memory | null;
  readonly recoveries: Recoveries;
  readonly recovery: Readonly<Record<string, RecoveryFigures>>;
  readonly schedule: readonly DoneFault[];
  /** What this machine could not do. */
  readonly skipped: readonly string[];
}

/** Counts what was done. A kill that missed its point was a kill at random. */
export function countFaults(done: readonly DoneFault[]): FaultCounts {
  const points: Record<string, number> = {};
  let kills = 0;
  let others = 0;
  let missed = 0;
  let failed = 0;
  for (const { fault, isReached, error } of done) {
    const isKill = fault.kind === 'kill' || fault.kind === 'kill_at';
    if (error !== null) failed += 1;
    else if (fault.kind === 'fail_at' && !isReached) missed += 1;
    else if (isKill) kills += 1;
    else others += 1;
    if (fault.kind === 'kill_at' && isReached && error === null)
      points[fault.point] = (points[fault.point] ?? 0) + 1;
  }
  const killsAtPoints = Object.values(points).reduce((sum, count) => sum + count, 0);
  return { kills, killsAtPoints, others, points, missed, failed };
}

/** True if every column that must be zero is, and no coordinator ended by itself. */
export function isZero(verdict: Verdict, crashes: readonly Crash[]): boolean {
  return crashes.length === 0 && MUST_BE_ZERO.every((column) => verdict[column] === 0);
}

/** The run in one line. */
export function lineOf({ seed, verdict, faults, crashes, isGood, coordinators, memory }: RunReport): string {
  const { attempted, acknowledged, settled, voided, refused, lost, duplicated, unexpected, recovered } =
    verdict;
  const bad = MUST_BE_ZERO.filter((column) => verdict[column] > 0).map(
    (column) => `${column} ${verdict[column]}`,
  );
  if (crashes.length > 0) bad.push(`crashes ${crashes.length}`);
  if (memory?.isFlat === false) bad.push('memory grows');
  const held = memory === null ? '' : `, MiB by tenths ${memory.miBByTenth.join(' ')}`;
  return (
    `chaos seed ${seed}, ${coordinators} coordinators, ${faults.kills} kills (${faults.killsAtPoints} at failpoints), ` +
    `${faults.others} other faults${faults.failed > 0 ? `, ${faults.failed} that could not be done` : ''}: attempted ${attempted}, acknowledged ${acknowledged}, settled ${settled}, ` +
    `voided ${voided}, refused ${refused}, lost ${lost}, duplicated ${duplicated}, unexpected ${unexpected}, ` +
    `recovered ${recovered}${held}: ${isGood ? 'good' : `NOT GOOD: ${bad.join(', ')}`}`
  );
}

/** Several runs, added up. */
export interface Total {
  readonly isGood: boolean;
  readonly runs: number;
  readonly seeds: readonly number[];
  readonly badSeeds: readonly number[];
  readonly commits: readonly string[];
  readonly minutes: number;
  readonly kills: number;
  readonly killsAtPoints: number;
  readonly otherFaults: number;
  readonly pointsKilledAt: number;
  readonly crashes: number;
  readonly columns: Readonly<Record<string, number>>;
  readonly ends: Readonly<Record<string, number>>;
  /** With 0 in n: the upper end of the 95 % interval, 3/n. Null where something was not zero. */
  readonly lostPerJobAtMost: number | null;
  readonly wrongPerKillAtMost: number | null;
  readonly residentMiBMax: number;
  readonly recovery: Readonly<Record<string, RecoveryFigures>>;
  readonly recoveriesInterrupted: number;
}

const ADDED = [
  'attempted',
  'acknowledged',
  'settled',
  'voided',
  'refused',
  'recovered',
  'replayed',
  'probes',
  ...MUST_BE_ZERO,
] as const satisfies readonly (keyof Verdict)[];

/** Adds runs up. */
export function totalOf(runs: readonly RunReport[]): Total {
  const sum = (of: (run: RunReport) => number) => runs.reduce((total, run) => total + of(run), 0);
  const isGood = runs.every((run) => run.isGood);
  const kills = sum(({ faults }) => faults.kills);
  const acknowledged = sum(({ verdict }) => verdict.acknowledged);
  const points = new Set(runs.flatMap(({ faults }) => Object.keys(faults.points)));
  return {
    isGood,
    runs: runs.length,
    seeds: runs.map(({ seed }) => seed).toSorted((a, b) => a - b),
    badSeeds: runs.filter((run) => !run.isGood).map(({ seed }) => seed),
    commits: [...new Set(runs.map(({ commit }) => commit ?? 'unknown'))],
    minutes: sum(({ minutes }) => minutes),
    kills,
    killsAtPoints: sum(({ faults }) => faults.killsAtPoints),
    otherFaults: sum(({ faults }) => faults.others),
    pointsKilledAt: points.size,
    crashes: sum(({ crashes }) => crashes.length),
    columns: Object.fromEntries(ADDED.map((column) => [column, sum(({ verdict }) => verdict[column])])),
    ends: endsOf(runs),
    lostPerJobAtMost: isGood && acknowledged > 0 ? 3 / acknowledged : null,
    wrongPerKillAtMost: isGood && kills > 0 ? 3 / kills : null,
    residentMiBMax: Math.max(0, ...runs.map(({ residentMiBMax }) => residentMiBMax)),
    recovery: figuresOf(runs.flatMap(({ recoveries }) => recoveries.seen)),
    recoveriesInterrupted: sum(({ recoveries }) => recoveries.interrupted),
  };
}

function endsOf(runs: readonly RunReport[]): Record<string, number> {
  const ends = new Map<string, number>();
  for (const { verdict } of runs)
    for (const [name, count] of Object.entries(verdict.ends)) ends.set(name, (ends.get(name) ?? 0) + count);
  return Object.fromEntries([...ends].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** The total in one line. */
export function lineOfTotal({
  runs,
  kills,
  killsAtPoints,
  otherFaults,
  columns,
  isGood,
  badSeeds,
}: Total): string {
  const zeros = MUST_BE_ZERO.map((column) => `${column} ${columns[column] ?? 0}`).join(', ');
  const end = isGood ? 'good' : `NOT GOOD: seeds ${badSeeds.join(', ')}`;
  return (
    `chaos, ${runs} runs: ${kills} kills (${killsAtPoints} at failpoints), ${otherFaults} other faults, ` +
    `${columns['acknowledged'] ?? 0} messages acknowledged: ${zeros}: ${end}`
  );
}
