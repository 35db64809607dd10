import { BenchError } from '../bench-error.ts';
import { type Figure, figure } from './findings.ts';
import { isObject } from './read-json.ts';
import { TARGETS } from './targets.ts';

/** What one report of `npm run chaos` comes to: of one run, or of several that were added up (`--resume`, `--full`). */
export interface FaultSummary {
  readonly runs: number;
  readonly minutes: number;
  readonly seeds: readonly number[];
  readonly commits: readonly string[];
  readonly kills: number;
  readonly killsAtPoints: number;
  readonly others: number;
  readonly crashes: number;
  /** By the names that the report gives them. */
  readonly columns: Readonly<Record<string, number>>;
}

type Json = Readonly<Record<string, unknown>>;

/** Columns that must be zero: as the report calls them, as the figures do, and in words. */
const ZERO = [
  ['lost', 'lost', 'jobs lost'],
  ['duplicated', 'double-charged', 'jobs charged twice'],
  ['unlockedDispatches', 'unlocked-dispatches', 'dispatches without a lock'],
  ['slotsLeaked', 'slots-leaked', 'slots leaked'],
  ['tracesMissing', 'traces-missing', 'traces missing'],
  ['unexpected', 'unexpected', 'rows, replies or ends that nobody asked for'],
  ['unanswered', 'unanswered', 'jobs with an end and no reply'],
  ['invariantsBroken', 'invariants-broken', 'other invariants broken'],
  ['probesBroken', 'probes-broken', 'snapshots of the accounts with a fault'],
] as const;

/** Reads one report. Throws BenchError with `file` when it is none, or lacks a column. */
export function faultSummary(file: string, report: Json): FaultSummary {
  const wrong = (what: string): BenchError =>
    new BenchError(`${file} is no report of npm run chaos -- --json: ${what}`);
  const number = (from: Json, key: string): number => {
    const value = from[key];
    if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong(`${key} is no number`);
    return value;
  };
  const object = (key: string): Json => {
    const value = report[key];
    if (!isObject(value)) throw wrong(`${key} is missing`);
    return value;
  };
  const isTotal = 'columns' in report;
  const columns = object(isTotal ? 'columns' : 'verdict');
  const faults = isTotal ? report : object('faults');
  const names = ['acknowledged', 'settled', 'voided', 'refused', ...ZERO.map(([name]) => name)];
  return {
    runs: isTotal ? number(report, 'runs') : 1,
    minutes: number(report, 'minutes'),
    seeds: isTotal ? list(report['seeds'], 'number') : [number(report, 'seed')],
    commits: isTotal ? list(report['commits'], 'string') : list([report['commit']], 'string'),
    kills: number(faults, 'kills'),
    killsAtPoints: number(faults, 'killsAtPoints'),
    others: number(faults, isTotal ? 'otherFaults' : 'others'),
    crashes: isTotal ? number(report, 'crashes') : list(report['crashes'], 'object').length,
    columns: Object.fromEntries(names.map((name) => [name, number(columns, name)])),
  };
}

/** Everything added up, as figures; those that must be zero have that as their target. */
export function faultFigures(reports: readonly FaultSummary[]): Figure[] {
  const sum = (of: (report: FaultSummary) => number) => reports.reduce((total, one) => total + of(one), 0);
  const counted = (id: string, name: string, of: (report: FaultSummary) => number): Figure =>
    figure(`faults/${id}`, name, '', [sum(of)]);
  return [
    counted('runs', 'runs', ({ runs }) => runs),
    figure('faults/minutes', 'time under faults', 'minutes', [sum(({ minutes }) => minutes)]),
    counted('kills', 'kill -9', ({ kills }) => kills),
    counted('kills-at-failpoints', 'of these at failpoints', ({ killsAtPoints }) => killsAtPoints),
    counted('others', 'other faults', ({ others }) => others),
    counted('acknowledged', 'jobs acknowledged', ({ columns }) => columns['acknowledged'] ?? 0),
    counted('settled', 'of these settled', ({ columns }) => columns['settled'] ?? 0),
    ...ZERO.map(([column, id, name]) =>
      figure(`faults/${id}`, name, '', [sum(({ columns }) => columns[column] ?? Number.NaN)], {
        target: TARGETS.fault,
      }),
    ),
    figure('faults/crashes', 'coordinators that ended by themselves', '', [sum(({ crashes }) => crashes)], {
      target: TARGETS.fault,
    }),
  ];
}

function list<T extends 'number' | 'string' | 'object'>(
  value: unknown,
  type: T,
): { number: number; string: string; object: object }[T][] {
  const values: unknown[] = Array.isArray(value) ? value : [];
  return values.filter(
    (one): one is { number: number; string: string; object: object }[T] =>
      typeof one === type && one !== null,
  );
}
