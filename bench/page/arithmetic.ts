/** What one full life of a job costs, measured. NaN: not measured, and so is what follows from it. */
export interface Costs {
  /** CPU of each, in microseconds. */
  readonly tollgateUs: number;
  readonly rabbitmqUs: number;
  readonly postgresUs: number;
  readonly redisUs: number;
  readonly mongodbUs: number;
  /** By which the stores grow, in bytes; indexes and what the server compresses included. */
  readonly postgresBytes: number;
  readonly mongoBytes: number;
  /** Messages a second through one quorum queue into one node's queues, by a client that does nothing else. */
  readonly queuePerS: number;
}

/**
 * What is assumed where nothing was measured; each stands in the page. Share of a core that is planned with: the rest is for peaks,
 * compaction and failover.
 */
export const ASSUMED = {
  coreShare: 0.6,
  /** Cores of a large server of today. */
  serverCores: 32,
  /** Jobs of one commit and of one script call at the planned load: five or six were seen at 1,000/s, up to 512 when saturated. */
  batchJobs: 10,
  /** How long a job runs at its node. */
  runS: 10,
  slotsPerWorker: 16,
  /** Between two heartbeats of a worker: `fleet.heartbeatMs`. */
  heartbeatS: 5,
  /** Job, dispatch, result and reply together, with headers, for prompts and answers of 1 KB. */
  lifeMessageBytes: 6_000,
} as const;

/** Messages of a life: job, dispatch, result, reply. Each goes into the broker and out of it. */
const MESSAGES_PER_LIFE = 4;
const HOPS_PER_MESSAGE = 2;
/** Commits of a life, each shared by a batch: lock and settle. */
const COMMITS_PER_LIFE = 2;
/** Row versions of a life: job, lock; then resolution, job. The accounts' counters are shared by a batch. */
const ROWS_PER_LIFE = 4;
/** Scripts of a life, each shared by a batch: reserve and release. */
const SCRIPTS_PER_LIFE = 2;

const US_PER_S = 1_000_000;
const S_PER_DAY = 86_400;

/** What a network of some rate asks of its servers. */
export interface Demand {
  readonly jobsPerS: number;
  readonly coordinators: number;
  readonly brokerCores: number;
  readonly postgresCores: number;
  readonly redisCores: number;
  readonly mongodbCores: number;
  readonly hopsPerS: number;
  readonly brokerGbitPerS: number;
  readonly commitsPerS: number;
  readonly rowsPerS: number;
  readonly scriptsPerS: number;
  readonly postgresTbPerDay: number;
  readonly mongoTbPerDay: number;
  readonly workers: number;
  readonly heartbeatsPerS: number;
  /** Every coordinator hears the whole fleet. */
  readonly heartbeatDeliveriesPerS: number;
}

/** The arithmetic of a network of `jobsPerS` full lives a second. */
export function demandOf(jobsPerS: number, costs: Costs): Demand {
  const cores = (us: number): number => (jobsPerS * us) / US_PER_S / ASSUMED.coreShare;
  const coordinators = Math.ceil(cores(costs.tollgateUs));
  const workers = Math.ceil((jobsPerS * ASSUMED.runS) / ASSUMED.slotsPerWorker);
  const heartbeatsPerS = workers / ASSUMED.heartbeatS;
  return {
    jobsPerS,
    coordinators,
    brokerCores: cores(costs.rabbitmqUs),
    postgresCores: cores(costs.postgresUs),
    redisCores: cores(costs.redisUs),
    mongodbCores: cores(costs.mongodbUs),
    hopsPerS: jobsPerS * MESSAGES_PER_LIFE * HOPS_PER_MESSAGE,
    brokerGbitPerS: (jobsPerS * ASSUMED.lifeMessageBytes * HOPS_PER_MESSAGE * 8) / 1e9,
    commitsPerS: (jobsPerS * COMMITS_PER_LIFE) / ASSUMED.batchJobs,
    rowsPerS: jobsPerS * ROWS_PER_LIFE,
    // Every coordinator writes what every heartbeat says.
    scriptsPerS: (jobsPerS * SCRIPTS_PER_LIFE) / ASSUMED.batchJobs + heartbeatsPerS * coordinators,
    postgresTbPerDay: (jobsPerS * costs.postgresBytes * S_PER_DAY) / 1e12,
    mongoTbPerDay: (jobsPerS * costs.mongoBytes * S_PER_DAY) / 1e12,
    workers,
    heartbeatsPerS,
    heartbeatDeliveriesPerS: heartbeatsPerS * coordinators,
  };
}

/** Full lives a second that one of each carries, on a server of its own. */
export interface Limits {
  /** One thread: one core. */
  readonly coordinator: number;
  /** One pool and priority is one quorum queue, and one queue is one process of the broker. */
  readonly pool: number;
  readonly broker: number;
  readonly postgres: number;
  /** One thread: one core. */
  readonly redis: number;
  readonly mongodb: number;
}

/** Where each stands, by its CPU alone: nothing here says that a server uses 32 cores as well as it uses one. */
export function limitsOf(costs: Costs): Limits {
  const perS = (us: number, cores: number): number => (cores * US_PER_S * ASSUMED.coreShare) / us;
  return {
    coordinator: perS(costs.tollgateUs, 1),
    pool: costs.queuePerS * ASSUMED.coreShare,
    broker: perS(costs.rabbitmqUs, ASSUMED.serverCores),
    postgres: perS(costs.postgresUs, ASSUMED.serverCores),
    redis: perS(costs.redisUs, 1),
    mongodb: perS(costs.mongodbUs, ASSUMED.serverCores),
  };
}
