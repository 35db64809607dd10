import type { Broker } from './broker/types.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config-schema.ts';
import { Backlog } from './dispatcher/backlog.ts';
import type { ByteBudget } from './dispatcher/byte-budget.ts';
import type { FleetConsumer } from './dispatcher/fleet-consumer.ts';
import type { JobLine } from './dispatcher/job-line.ts';
import type { Pools } from './dispatcher/pools.ts';
import type { Replier } from './dispatcher/replies.ts';
import type { ResultLine } from './dispatcher/result-line.ts';
import type { StageRunner } from './dispatcher/stage-runner.ts';
import type { Sweeps } from './dispatcher/sweeps.ts';
import type { Maintenance } from './maintenance/maintenance.ts';
import type { Check, Health } from './ops/health.ts';
import type { PrometheusMetrics } from './ops/metrics.ts';
import type { ServiceManager } from './ops/service-manager.ts';
import { type Dependency, type Log, MAINTENANCE_TASKS } from './ops/types.ts';
import { Watch } from './ops/watch.ts';
import type { FleetRegistry } from './workers/types.ts';

/** The four connections, as far as their state is read. */
export interface WatchedStores {
  readonly dispatcherDb: { readonly dependency: Dependency };
  readonly broker: Pick<Broker, 'isUp'>;
  readonly redis: { readonly isUp: boolean };
  readonly mongo: { readonly dependency: Dependency };
}

const FLEET_DETAIL = {
  ready: 'ready',
  warming: 'warming: no worker is declared lost yet',
  partial:
    'a node of the Redis Cluster is away: its workers get no new jobs, and none of them is declared lost',
} as const;

const MS_PER_S = 1_000;

function connection(name: Dependency['name'], isUp: boolean): Dependency {
  return { name, isUp, detail: isUp ? 'up' : 'not connected' };
}

function dependencies(stores: WatchedStores): Dependency[] {
  return [
    stores.dispatcherDb.dependency,
    connection('redis', stores.redis.isUp),
    connection('rabbitmq', stores.broker.isUp),
    stores.mongo.dependency,
  ];
}

/**
 * What readiness depends on: PostgreSQL, RabbitMQ and Redis must be up and Redis past its warming; without MongoDB the process is
 * degraded, because traces go to the spool queue. Asks nobody: each connection knows how it stands.
 */
export function healthChecks(stores: WatchedStores, registry: FleetRegistry, fleet: FleetConsumer): Check[] {
  const checks = dependencies(stores).map(
    ({ name }): Check => ({
      name,
      isRequired: name !== 'mongodb',
      check: () => {
        const found = dependencies(stores).find((dependency) => dependency.name === name);
        return { isOk: found?.isUp ?? false, detail: found?.detail ?? 'unknown' };
      },
    }),
  );
  return [
    ...checks,
    {
      name: 'fleet',
      isRequired: true,
      check: async () => {
        if (!fleet.isListening) return { isOk: false, detail: 'the fleet queue is not consumed' };
        const state = await registry.state();
        // Jobs flow meanwhile; only the verdict "lost" waits.
        return { isOk: true, detail: FLEET_DETAIL[state] };
      },
    },
  ];
}

/**
 * The two parts that only look: at what waits in RabbitMQ, and at this process, for whose watchdog three things must not stand
 * still: the looks at the pools, the sweeps, and the calls of the stages. `drainMsMax`: what a stop may take.
 */
export function watchOver(
  seen: {
    readonly config: Config;
    readonly clock: Clock;
    readonly log: Log;
    readonly manager: ServiceManager | null;
    readonly health: Pick<Health, 'readiness'>;
    readonly pools: Pick<Pools, 'names' | 'intakes' | 'stillMs'>;
    readonly sweeps: Pick<Sweeps, 'stillMs'>;
    readonly stages: Pick<StageRunner, 'stillMs'>;
    readonly depths: (queues: readonly string[]) => Promise<ReadonlyMap<string, number>>;
  },
  drainMsMax: number,
): { readonly backlog: Backlog; readonly watch: Watch } {
  const { config, clock, log, manager, health, pools, depths } = seen;
  const backlog = new Backlog({
    depths,
    pools: () => pools.names,
    everyMs: config.service.countEveryMs,
    log,
  });
  const parts = ['pools', 'sweeps', 'stages'] as const;
  const watch = new Watch({
    readiness: () => health.readiness(),
    movements: parts.map((name) => ({ name, stillMs: () => seen[name].stillMs() })),
    manager,
    drainMsMax,
    bounds: config.service,
    clock,
    log,
  });
  return { backlog, watch };
}

/** The gauges: how much waits where. Read at scrape time from numbers that are at hand. */
export function exposeGauges(
  metrics: PrometheusMetrics,
  stores: WatchedStores,
  parts: {
    readonly line: Pick<JobLine, 'waiting' | 'inFlight'>;
    readonly results: Pick<ResultLine, 'waiting'>;
    readonly pools: Pick<Pools, 'slots' | 'intakes'>;
    readonly budget: Pick<ByteBudget, 'bytes'>;
    readonly replier: Pick<Replier, 'pending'>;
    readonly sweeps: Pick<Sweeps, 'openAttempts' | 'overdueMs'>;
    readonly maintenance: Pick<Maintenance, 'isOwner' | 'lastSuccessMs'>;
    readonly backlog: Pick<Backlog, 'queues' | 'waiting'>;
    readonly watch: Pick<Watch, 'isReady' | 'stillMs'>;
  },
): void {
  const { line, results, pools, budget, replier, sweeps, maintenance, backlog, watch } = parts;
  metrics.watchDependencies(() => dependencies(stores));
  const one = (name: string, help: string, read: () => number) =>
    metrics.gauge(name, help, [], () => [{ labels: {}, value: read() }]);
  one('tollgate_jobs_waiting', 'Jobs delivered to this process and not yet in a batch.', () => line.waiting);
  one('tollgate_jobs_held', 'Jobs delivered to this process that wait for a slot.', () =>
    pools.intakes.reduce((sum, { held }) => sum + held, 0),
  );
  one('tollgate_jobs_in_flight', 'Jobs inside a batch of this process.', () => line.inFlight);
  one(
    'tollgate_results_waiting',
    'Results delivered to this process and not yet in a batch.',
    () => results.waiting,
  );
  one('tollgate_held_bytes', 'Bytes of unacknowledged job bodies in this process.', () => budget.bytes);
  one('tollgate_replies_pending', 'Replies being tried again.', () => replier.pending);
  one(
    'tollgate_credit_locks_open',
    'Locked jobs of the whole network, as of the last walk.',
    () => sweeps.openAttempts,
  );
  one(
    'tollgate_lock_overdue_seconds',
    'How far the most overdue open lock was past its deadline at the last walk; 0 if none was.',
    () => sweeps.overdueMs / MS_PER_S,
  );
  exposePools(metrics, pools, backlog);
  one('tollgate_maintenance_owner', '1 on the coordinator that does maintenance, else 0.', () =>
    maintenance.isOwner ? 1 : 0,
  );
  metrics.gauge(
    'tollgate_maintenance_last_success_timestamp_seconds',
    'When this process last did a task of maintenance well; 0: never.',
    ['task'],
    () =>
      MAINTENANCE_TASKS.map((task) => ({
        labels: { task },
        value: (maintenance.lastSuccessMs.get(task) ?? 0) / 1_000,
      })),
  );
  one('tollgate_ready', '1 if this process took work at its last look at itself, else 0.', () =>
    watch.isReady ? 1 : 0,
  );
  metrics.gauge(
    'tollgate_part_still_seconds',
    'How long a part has not moved: pools, sweeps, stages.',
    ['part'],
    () => [...watch.stillMs].map(([part, ms]) => ({ labels: { part }, value: ms / MS_PER_S })),
  );
}

function exposePools(
  metrics: PrometheusMetrics,
  pools: Pick<Pools, 'slots' | 'intakes'>,
  backlog: Pick<Backlog, 'queues' | 'waiting'>,
): void {
  metrics.gauge(
    'tollgate_queue_messages',
    'Messages waiting in the queues of everybody, as of the last count; none while RabbitMQ is away.',
    ['queue'],
    () => [...backlog.queues].map(([queue, value]) => ({ labels: { queue }, value })),
  );
  metrics.gauge(
    'tollgate_pool_jobs',
    'Jobs waiting in RabbitMQ per pool, as of the last count.',
    ['pool', 'priority'],
    () => backlog.waiting.map(({ pool, priority, jobs }) => ({ labels: { pool, priority }, value: jobs })),
  );
  metrics.gauge(
    'tollgate_slots',
    'Slots of live workers per pool, as of the last look.',
    ['pool', 'state'],
    () =>
      [...pools.slots].flatMap(([pool, { total, free }]) => [
        { labels: { pool, state: 'free' }, value: free },
        { labels: { pool, state: 'used' }, value: total - free },
      ]),
  );
  metrics.gauge('tollgate_pool_workers', 'Live workers per pool.', ['pool'], () =>
    [...pools.slots].map(([pool, { workers }]) => ({ labels: { pool }, value: workers })),
  );
  metrics.gauge('tollgate_pools', 'Pools by the state of their intake.', ['state'], () =>
    (['paused', 'open', 'full'] as const).map((state) => ({
      labels: { state },
      value: pools.intakes.filter((intake) => intake.state === state).length,
    })),
  );
}
