import { digestKeyOf } from '../src/contracts/canonical.ts';
import { fleetQueue } from '../src/contracts/names.ts';
import { ByteBudget } from '../src/dispatcher/byte-budget.ts';
import { CancelIntake } from '../src/dispatcher/cancel-intake.ts';
import { FailureOwner } from '../src/dispatcher/failure-owner.ts';
import { FleetConsumer } from '../src/dispatcher/fleet-consumer.ts';
import { JobLine } from '../src/dispatcher/job-line.ts';
import { NodeQueues } from '../src/dispatcher/node-queues.ts';
import { Pools } from '../src/dispatcher/pools.ts';
import { Replier } from '../src/dispatcher/replies.ts';
import { ResultLine } from '../src/dispatcher/result-line.ts';
import { SeenJobs } from '../src/dispatcher/seen-jobs.ts';
import { SideIntake } from '../src/dispatcher/side-intake.ts';
import { StageRunner } from '../src/dispatcher/stage-runner.ts';
import { IntakeLimits } from '../src/dispatcher/intake-limits.ts';
import { Suspects } from '../src/dispatcher/suspects.ts';
import { Sweeps } from '../src/dispatcher/sweeps.ts';
import type { Log, Metrics } from '../src/ops/types.ts';
import { Connection } from './broker.ts';
import { alarmsOver, type Caller, fleetOver, ledgerOver, suspectsOver } from './servers.ts';
import type { World } from './world.ts';

const DIGEST_KEY = digestKeyOf('a secret that all coordinators of a simulation share');

const NO_METRICS: Metrics = {
  stage: () => undefined,
  stageFailed: () => undefined,
  jobsReceived: () => undefined,
  redelivered: () => undefined,
  refused: () => undefined,
  dispatched: () => undefined,
  attemptFailed: () => undefined,
  ended: () => undefined,
  resultRefused: () => undefined,
  locks: () => undefined,
  fleetMessage: () => undefined,
  replies: () => undefined,
  spooled: () => undefined,
  maintenanceRun: () => undefined,
  fleetRefused: () => undefined,
  publisherCutOff: () => undefined,
  gauge: () => undefined,
};

/** One life of one coordinator: the real core on fakes. What it had in memory ends with it. */
export class SimCoordinator {
  readonly name: string;
  readonly connection: Connection;
  #isAlive = true;
  readonly #world: World;
  readonly #queue: string;
  readonly #wakes = new Set<(pool: string) => void>();
  readonly #parts: ReturnType<SimCoordinator['assemble']>;

  constructor(world: World, name: string) {
    this.name = name;
    this.#world = world;
    this.connection = new Connection(world.broker, null, () => this.#isAlive);
    this.#queue = fleetQueue(name);
    world.broker.declare(this.#queue);
    this.#parts = this.assemble();
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Nothing in its hands, and nothing under way. */
  get isIdle(): boolean {
    const { line, results, replier } = this.#parts;
    return line.waiting + line.inFlight + results.waiting + replier.pending === 0;
  }

  wake(pool: string): void {
    if (this.#isAlive) for (const listener of this.#wakes) listener(pool);
  }

  /** Starts its parts in the order of the daemon. */
  async start(): Promise<void> {
    const { nodeQueues, results, cancels, fleet, sweeps, unroutable, expired, pools } = this.#parts;
    for (const part of [nodeQueues, fleet, results, cancels, sweeps, unroutable, expired, pools])
      await part.start();
    this.#world.timeline.note(`${this.name} serves`);
  }

  /** kill -9. */
  die(): void {
    this.#isAlive = false;
    this.connection.cut();
    this.#world.broker.drop(this.#queue);
  }

  /** What the daemon's `assemble` does, with the simulation's servers. */
  assemble() {
    const { timeline, faults, servers, config, directory, seams } = this.#world;
    const isAlive = () => this.#isAlive;
    const caller: Caller = { isAlive, timeline, name: this.name };
    const clock = timeline.clock(isAlive);
    const log = logTo((line) => timeline.note(`${this.name} ${line}`));
    const random = () => timeline.random.share();
    const ledger = seams.ledger(ledgerOver(servers.postgres, this.#world.ledger, caller), this.#world);
    const slots = fleetOver(servers.redis, this.#world.fleet, caller, this.#wakes, () => fleet.isListening);
    const { sink: traces, store: traceStore } = this.#world.traces.over(servers.mongodb, caller);
    const link = seams.broker(this.connection, this.#world);
    const { publisher } = link;
    const metrics = NO_METRICS;
    // Strikes change no job's way until a node is ejected, which PostgreSQL decides and no fake of ours does.
    const health = { strike: () => undefined };
    const limits = new IntakeLimits(config.limits, clock, () => undefined);
    const basics = {
      clock,
      log,
      metrics,
      directory,
      broker: link,
      publisher,
      slots,
      traces,
      traceStore,
      health,
      limits,
    };
    const stages = new StageRunner(clock, log, metrics, config.line, random);
    const replier = new Replier({ ...basics, bounds: config.line });
    const alarms = alarmsOver(timeline, faults, () => this.#world.anyPublisher());
    const failures = new FailureOwner({
      ...basics,
      attempts: ledger,
      alarms,
      bounds: config.retries,
      random,
    });
    const shared = { ...basics, stages, replier, failures };
    const declareNode = async (node: string) => this.#world.declareNode(node);
    const nodeQueues = new NodeQueues({ ...basics, declareNode, forgetNode: () => undefined });
    const line = new JobLine({
      ...shared,
      bounds: { ...config.line, ...config.retries },
      digestKey: DIGEST_KEY,
      locks: ledger,
      attempts: ledger,
      nodeQueues,
      openPools: () => Promise.resolve(),
    });
    const suspects = new Suspects(
      suspectsOver(servers.redis, this.#world.suspectCounts, caller),
      config.line,
      clock,
      log,
    );
    const seen = new SeenJobs(clock);
    const budget = new ByteBudget(config.line.heldBytesMax);
    const declarePool = async (pool: string) => this.#world.declarePool(pool);
    const poolQueues = { declarePool, forgetPool: () => undefined };
    const pools = new Pools({ ...shared, suspects, seen, bounds: config.line, budget, ...poolQueues, line });
    const fleet = new FleetConsumer({
      ...shared,
      health: config.health,
      queue: this.#queue,
      registry: slots,
    });
    const results = new ResultLine({
      ...shared,
      bounds: { ...config.line, ...config.results },
      settlements: ledger,
      suspects,
      random,
    });
    const sweeps = new Sweeps({
      ...shared,
      ledger,
      registry: slots,
      isListening: () => fleet.isListening && results.isListening,
      leases: slots,
      bounds: { ...config.fleet, ...config.retries, ...config.ledger, ...config.sweeps },
    });
    const cancels = new CancelIntake({ ...shared, cancellations: ledger, bounds: config.line });
    const unroutable = new SideIntake({ ...shared, line, suspects, seen }, 'unroutable');
    const expired = new SideIntake({ ...shared, line, suspects, seen }, 'expired');
    return { line, pools, results, fleet, sweeps, cancels, nodeQueues, unroutable, expired, replier };
  }
}

function logTo(note: (line: string) => void): Log {
  const warn = (fields: object, message: string) => note(`says: ${message} ${JSON.stringify(fields)}`);
  const log: Log = {
    debug: () => undefined,
    info: () => undefined,
    warn,
    error: warn,
    child: () => log,
  };
  return log;
}
