import { digestKeyOf } from '../contracts/canonical.ts';
import { fleetQueue } from '../contracts/names.ts';
import { ByteBudget } from '../dispatcher/byte-budget.ts';
import { CancelIntake } from '../dispatcher/cancel-intake.ts';
import { FailureOwner } from '../dispatcher/failure-owner.ts';
import { FleetConsumer } from '../dispatcher/fleet-consumer.ts';
import { JobLine } from '../dispatcher/job-line.ts';
import { NodeQueues } from '../dispatcher/node-queues.ts';
import { Pools } from '../dispatcher/pools.ts';
import { Replier } from '../dispatcher/replies.ts';
import { ResultLine } from '../dispatcher/result-line.ts';
import { SeenJobs } from '../dispatcher/seen-jobs.ts';
import { SideIntake } from '../dispatcher/side-intake.ts';
import { StageRunner } from '../dispatcher/stage-runner.ts';
import { Suspects } from '../dispatcher/suspects.ts';
import { Sweeps } from '../dispatcher/sweeps.ts';
import { AttemptsPg } from '../ledger/attempts.ts';
import { CancellationsPg } from '../ledger/cancellations.ts';
import { CreditLocksPg } from '../ledger/credit-locks.ts';
import { SettlementsPg } from '../ledger/settlements.ts';
import { SweepsPg } from '../ledger/sweeps.ts';
import { RetryAlarmClock } from '../maintenance/retry-alarms.ts';
import { PoolRecords } from '../network/pools.ts';
import { healthChecks } from '../observe.ts';
import { Health } from '../ops/health.ts';
import { RedisFleetRegistry } from '../workers/registry.ts';
import { RedisSlotLeases } from '../workers/slot-leases.ts';
import { RedisSuspectCounts } from '../workers/suspect-counts.ts';
import type { Base } from './base.ts';
import { limitsOf } from './limits.ts';
import type { Stores } from './stores.ts';

/** What several parts are handed: the slots, the runner of stages, the replies, and the owner of failure with its alarm clock. */
function sharedParts(base: Base, stores: Stores) {
  const { config, clock, log, metrics, decorate } = base;
  const { directory, broker, redis, traces, traceStore, dispatcherDb } = stores;
  const { publisher } = broker;
  const slots = decorate('slots', new RedisSlotLeases(redis));
  const stages = new StageRunner(clock, log, metrics, config.line, Math.random);
  const replier = new Replier({ publisher, traces, bounds: config.line, clock, log, metrics });
  const attempts = decorate('attempts', new AttemptsPg(config.ledger, log, dispatcherDb));
  const alarms = new RetryAlarmClock({ servers: config.servers, fleet: config.fleet, publisher, log });
  const health = stores.nodeHealth;
  const basics = { clock, log, metrics, directory, broker, publisher, slots, traces, traceStore, health };
  const bounds = config.retries;
  const failures = new FailureOwner({ ...basics, attempts, alarms, bounds, random: Math.random });
  const { limits, cutOff } = limitsOf(base, stores);
  return { ...basics, ...poolQueuesOf(stores), stages, replier, attempts, alarms, failures, limits, cutOff };
}

function nodeQueuesOf({ clock, log }: Base, { topology, directory }: Stores): NodeQueues {
  return new NodeQueues({
    directory,
    clock,
    log,
    declareNode: (node) => topology.declareNode(node),
    forgetNode: (node) => topology.forgetNode(node),
  });
}

function poolQueuesOf({ topology }: Stores) {
  return {
    declarePool: (pool: string) => topology.declarePool(pool),
    forgetPool: (pool: string) => topology.forgetPool(pool),
  };
}

/** What `assemble` gives. */
export type Parts = ReturnType<typeof assemble>;

/** The lines, the intakes and the sweeps, wired to their stores. */
export function assemble(base: Base, stores: Stores) {
  const { config, clock, log, decorate } = base;
  const shared = sharedParts(base, stores);
  const { slots, replier, stages, alarms } = shared;
  const registry = new RedisFleetRegistry(stores.redis, config.fleet, () => fleet.isListening);
  const locks = decorate('locks', new CreditLocksPg(config.ledger, log, stores.dispatcherDb));
  const settlements = decorate('settlements', new SettlementsPg(log, stores.settlerDb));
  const ledger = decorate('sweeps', new SweepsPg(stores.dispatcherDb));
  const digestKey = digestKeyOf(config.secrets.digestKey);
  const nodeQueues = nodeQueuesOf(base, stores);
  const poolRecords = new PoolRecords(stores.dispatcherDb, config.line.poolsMax);
  const line = new JobLine({
    ...shared,
    bounds: { ...config.line, ...config.retries },
    digestKey,
    locks,
    nodeQueues,
    openPools: (wanted) => poolRecords.open(wanted),
  });
  const budget = new ByteBudget(config.line.heldBytesMax);
  const suspects = new Suspects(new RedisSuspectCounts(stores.redis), config.line, clock, log);
  const seen = new SeenJobs(clock);
  const pools = new Pools({ ...shared, suspects, seen, bounds: config.line, budget, line });
  const fleet = new FleetConsumer({
    ...shared,
    queue: fleetQueue(stores.id),
    health: config.health,
    registry,
  });
  const results = new ResultLine({
    ...shared,
    bounds: { ...config.line, ...config.results },
    settlements,
    suspects,
    random: Math.random,
  });
  const sweeps = new Sweeps({
    ...shared,
    ledger,
    registry,
    isListening: () => fleet.isListening && results.isListening,
    leases: slots,
    bounds: { ...config.fleet, ...config.retries, ...config.ledger, ...config.sweeps },
  });
  const cancellations = new CancellationsPg(stores.dispatcherDb);
  const health = new Health(config.http, clock, healthChecks(stores, registry, fleet));
  return {
    line,
    pools,
    results,
    fleet,
    registry,
    attempts: shared.attempts,
    sweeps,
    cancels: new CancelIntake({ ...shared, cancellations, bounds: config.line }),
    replier,
    alarms,
    cutOff: shared.cutOff,
    budget,
    stages,
    health,
    nodeQueues,
    unroutable: new SideIntake({ ...shared, line, suspects, seen }, 'unroutable'),
    expired: new SideIntake({ ...shared, line, suspects, seen }, 'expired'),
  };
}
