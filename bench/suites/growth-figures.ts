import type { SaturatedRun } from '../measure/runs.ts';
import type { StoredBytes } from '../measure/stored-bytes.ts';
import { type Figure, figure } from '../report/findings.ts';

/** What grows, in the order in which it is measured: pools last, because their queues stay on the broker. */
export const AXES = ['payload', 'accounts', 'workers', 'coordinators', 'pools'] as const;
export type Axis = (typeof AXES)[number];

/** How many accounts pay, on the axis of that name. */
export const PAYING_ACCOUNTS = [1, 100, 5_000] as const;

/** Jobs of each run on the axis of accounts, the same at all values: no fewer than accounts, so that each of them pays. */
export function accountsJobs(jobs: number): number {
  return Math.max(jobs, ...PAYING_ACCOUNTS);
}

/** One run at one value of an axis. */
export interface GrowthRun extends SaturatedRun {
  readonly axis: Axis;
  readonly value: number;
  /** The world whose daemons worked; their CPU is kept under names that begin with it. */
  readonly daemons: string;
  /** By which the stores grew. */
  readonly bytes: StoredBytes;
}

/** Names of CPU figures by what `cpuMs` calls the server. */
const SERVERS = { postgres: 'postgres', redis: 'redis', rabbitmq: 'rabbitmq', mongodb: 'mongod' } as const;
/** Stores grow by pages and reuse them, so that the bytes of small runs differ. */
const BYTES_SPREAD_MAX = 1;

/** Rate, CPU and bytes per job of each value of each axis, in the order of the runs. */
export function growthFigures(runs: readonly GrowthRun[]): Figure[] {
  const points = Map.groupBy(runs, ({ axis, value }) => `${axis}/${value}`);
  return [...points.entries()]
    .toSorted(([, [a]], [, [b]]) => placeOf(a) - placeOf(b) || (a?.value ?? 0) - (b?.value ?? 0))
    .flatMap(([point, own]) => pointFigures(point, own));
}

function placeOf(run: GrowthRun | undefined): number {
  return run === undefined ? -1 : AXES.indexOf(run.axis);
}

function pointFigures(point: string, runs: readonly GrowthRun[]): Figure[] {
  const id = `growth/${point}`;
  const [axis, value] = point.split('/');
  const name = `${axis} ${Number(value).toLocaleString('en')}`;
  const cpu = (ending: string, who: string, usOf: (run: GrowthRun) => number) =>
    figure(`${id}/cpu-${ending}`, `${name}: CPU per job, ${who}`, 'µs', runs.map(usOf));
  const bytes = (store: keyof StoredBytes, title: string) =>
    figure(
      `${id}/bytes-${store}`,
      `${name}: bytes per job, ${title}`,
      'B',
      runs.map((run) => run.bytes[store] / run.jobs),
      { spreadMax: BYTES_SPREAD_MAX },
    );
  return [
    figure(
      `${id}/rate`,
      `${name}: saturated dispatch`,
      '/s',
      runs.map((run) => run.perSecond),
    ),
    cpu('tollgate', 'all daemons', daemonUs),
    ...Object.entries(SERVERS)
      .filter(([server]) => runs.every(({ cpuMs }) => cpuMs[server] !== undefined))
      .map(([server, ending]) => cpu(ending, server, (run) => ((run.cpuMs[server] ?? 0) * 1_000) / run.jobs)),
    bytes('postgres', 'PostgreSQL'),
    bytes('mongo', 'MongoDB'),
  ];
}

function daemonUs({ cpuMs, daemons, jobs }: GrowthRun): number {
  const own = Object.entries(cpuMs).filter(([name]) => name.startsWith(`${daemons}: `));
  return (own.reduce((sum, [, ms]) => sum + ms, 0) * 1_000) / jobs;
}
