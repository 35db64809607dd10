import { jobQueue } from '../../src/contracts/names.ts';
import { until } from '../../test/support/until.ts';
import { Child } from '../process/child.ts';
import { startDaemon, type OnWarning } from './daemon.ts';
import type { FleetMethods } from '../world/fleet.ts';
import { type JobMix, makeJobs } from '../world/jobs.ts';
import type { Client } from '../world/load.ts';
import { MODEL } from '../world/names.ts';
import type { OneAtATimeMethods } from './one-at-a-time.ts';
import { OWN_ROOT } from '../process/checkout.ts';
import { serviceNodeFlags } from '../process/node-flags.ts';
import type { Owner } from '../process/owner.ts';
import type { Profiler } from '../measure/profiler.ts';
import type { RelayMethods } from './relay.ts';

/** Who is measured. */
export const SUBJECTS = ['relay', 'tuned relay', 'tollgate', 'one at a time'] as const;
export type SubjectName = (typeof SUBJECTS)[number];

/** One way to bring jobs to nodes, at rest until it is told to begin. */
export interface Subject {
  readonly name: SubjectName;
  readonly client: Client;
  /** The process that does the work. */
  readonly pid: number;
  /** Of the daemon, where profiles were asked for. */
  readonly profiler: Profiler | null;
  /** Jobs that were only dispatched must be answered before the next run: they hold slots and credit. */
  readonly holdsJobs: boolean;
  /** Puts a backlog into its queue while it consumes nothing; resolves when all of it is there. `mix`: of one model. */
  fill(jobs: number, mix?: Partial<JobMix>): Promise<void>;
  /** Lets it take jobs. */
  begin(): Promise<void>;
  /** Ends what `begin` began, when all is done. */
  end(): Promise<void>;
  stop(): Promise<void>;
}

/** The bare relay, plain or tuned, in a world that is a vhost only; both may share it. */
export async function relaySubject(
  name: 'relay' | 'tuned relay',
  client: Client,
  owner: Owner,
): Promise<Subject> {
  const { servers, plan } = client.world;
  const nodes = plan.nodes.map(({ id }) => id);
  const child = new Child<RelayMethods>('subjects/relay.ts', owner);
  await child.call('connect', { url: servers.amqpUrl, isTuned: name === 'tuned relay' });
  return {
    name,
    client,
    pid: child.pid,
    profiler: null,
    holdsJobs: false,
    fill: (jobs, mix) => client.publish(makeJobs(jobs, mix)),
    begin: () => child.call('begin', { models: plan.models, nodes }),
    end: () => child.call('end'),
    stop: () => child.stop(),
  };
}

/**
 * The naive version, in a world of its own, under the same Node flags as a coordinator. Its fleet stays: the queue is consumed only
 * between `begin` and `end`.
 */
export async function oneAtATimeSubject(
  client: Client,
  fleet: Child<FleetMethods>,
  owner: Owner,
): Promise<Subject> {
  const { name, config } = client.world;
  const child = new Child<OneAtATimeMethods>('subjects/one-at-a-time.ts', owner, serviceNodeFlags(OWN_ROOT));
  await child.call('start', config);
  return {
    name: 'one at a time',
    client,
    pid: child.pid,
    profiler: null,
    holdsJobs: true,
    fill: async (jobs, mix) => {
      await client.publish(makeJobs(jobs, mix));
      await fleet.call('hello', name);
      const { nodes } = client.world.plan;
      await until(async () => (await child.call('workers')) === nodes.length, 'the workers to be known');
    },
    begin: () => child.call('begin'),
    end: async () => {
      await child.call('end');
      await fleet.call('bye', name);
    },
    stop: () => child.stop(),
  };
}

/** Tollgate, of one or several daemons. */
export interface TollgateSubject extends Subject {
  readonly pids: readonly number[];
}

/** Jobs that make an open pool of one coordinator pause: more than a wake-up lets try again at once. */
const PAUSE_JOBS = 100;
/** A coordinator gives up a pool without a free slot after `line.pauseAfterMs`, 1 s. */
const PAUSE_MS_MAX = 10_000;

/**
 * `tollgate serve` itself. It takes jobs while there are workers and not before, so what begins a run is the fleet's hello, and
 * its bye ends it. A pool that has just lost its workers is still open: some jobs, which find no slot, make it pause.
 */
export async function tollgateSubject(
  client: Client,
  fleet: Child<FleetMethods>,
  options: {
    readonly owner: Owner;
    readonly profile: string | null;
    readonly onWarning: OnWarning;
    /** Settings of the daemon besides the world's. */
    readonly environment?: Readonly<Record<string, string>>;
    /** Daemons at once on this world; the subject's pid and profiler are those of the first. Default 1. */
    readonly coordinators?: number;
    /** Checkout that it is started from; default: this one. */
    readonly root?: string;
  },
): Promise<TollgateSubject> {
  const { name, plan } = client.world;
  const { coordinators = 1 } = options;
  const daemon = await startDaemon(client.world, options);
  const daemons = [daemon];
  // One after the other: both would declare the same queues, and none is to be later than the other for a reason of ours.
  while (daemons.length < coordinators) daemons.push(await startDaemon(client.world, options));
  const pauseJobs = PAUSE_JOBS * coordinators;
  const pause = async (model: string): Promise<void> => {
    const queue = jobQueue(model, 'interactive');
    await client.publish(makeJobs(pauseJobs, { models: [model] }));
    const isPaused = async (): Promise<boolean> => {
      const { ready, consumers } = await client.count(queue);
      return ready === pauseJobs && consumers === 0;
    };
    await until(isPaused, 'the pool without workers to pause', { timeoutMs: PAUSE_MS_MAX });
    // What was handed back is marked redelivered, which takes the careful way; it has left no row anywhere.
    await client.purge(queue);
  };
  return {
    name: 'tollgate',
    client,
    pid: daemon.pid,
    profiler: daemon.profiler,
    holdsJobs: true,
    pids: daemons.map(({ pid }) => pid),
    fill: async (jobs, mix = {}) => {
      const [model = MODEL, ...others] = mix.models ?? plan.models;
      if (others.length > 0) throw new Error('a backlog is of one pool: flowRun is for several');
      await pause(model);
      await client.publish(makeJobs(jobs, { ...mix, models: [model] }));
    },
    begin: () => fleet.call('hello', name),
    end: () => fleet.call('bye', name),
    stop: async () => {
      await Promise.all(daemons.map((one) => one.stop()));
    },
  };
}
