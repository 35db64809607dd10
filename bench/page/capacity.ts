import { readFileSync } from 'node:fs';
import { NO_FIGURE } from '../report/report.ts';
import type { Whole } from '../report/whole.ts';
import { ASSUMED, type Costs, type Demand, demandOf, type Limits, limitsOf } from './arithmetic.ts';
import { figuresById, summaryOf } from './figures.ts';
import { provenanceOf } from './performance.ts';
import { filled, markdownTable } from './template.ts';

const TEMPLATE = new URL('capacity.md', import.meta.url);

/** Networks that are worked out on paper, in jobs a second. */
const NETWORKS = [1_000, 10_000, 100_000, 1_000_000] as const;
/** Beyond, one server of any kind that can be bought is too small. */
const CORES_MAX = 4 * ASSUMED.serverCores;

/** docs/capacity.md, from what `all --json` wrote. */
export function capacityPage(whole: Whole): string {
  const costs = costsOf(figuresById(whole));
  const demands = NETWORKS.map((jobsPerS) => demandOf(jobsPerS, costs));
  return filled(readFileSync(TEMPLATE, 'utf8'), {
    provenance: provenanceOf(whole),
    costs: costsTable(costs),
    assumed: assumedTable(),
    limits: limitsTable(limitsOf(costs)),
    networks: networksTable(demands),
    verdicts: verdictsTable(demands),
  });
}

/** What a life costs, from the figures of the hotpath and growth suites. */
export function costsOf(figures: ReturnType<typeof figuresById>): Costs {
  const median = (id: string): number => summaryOf(figures, id)?.median ?? Number.NaN;
  return {
    tollgateUs: median('cpu/life/process/tollgate'),
    rabbitmqUs: median('cpu/life/process/rabbitmq'),
    postgresUs: median('cpu/life/process/postgres'),
    redisUs: median('cpu/life/process/redis'),
    mongodbUs: median('cpu/life/process/mongodb'),
    postgresBytes: median('growth/payload/1024/bytes-postgres'),
    mongoBytes: median('growth/payload/1024/bytes-mongo'),
    queuePerS: median('dispatch/rate/relay'),
  };
}

function costsTable(costs: Costs): string {
  return markdownTable(
    ['of one full life, jobs of 1 KB', 'measured'],
    [
      ['CPU of `tollgate serve`', `${count(costs.tollgateUs)} µs`],
      ['CPU of RabbitMQ', `${count(costs.rabbitmqUs)} µs`],
      ['CPU of PostgreSQL', `${count(costs.postgresUs)} µs`],
      ['CPU of Redis', `${count(costs.redisUs)} µs`],
      ['CPU of MongoDB', `${count(costs.mongodbUs)} µs`],
      ['stored in PostgreSQL', `${count(costs.postgresBytes)} B`],
      ['stored in MongoDB', `${count(costs.mongoBytes)} B`],
      ['a bare relay moves through one queue', `${count(costs.queuePerS)}/s`],
    ],
  );
}

function assumedTable(): string {
  return markdownTable(
    ['assumed', ''],
    [
      ['share of a core that is planned with', String(ASSUMED.coreShare)],
      ['cores of a large server', String(ASSUMED.serverCores)],
      ['jobs of one commit or script call at the planned load', String(ASSUMED.batchJobs)],
      ['time that a job runs at its node', `${ASSUMED.runS} s`],
      ['slots of a worker', String(ASSUMED.slotsPerWorker)],
      ['between two heartbeats', `${ASSUMED.heartbeatS} s`],
      ['job, dispatch, result and reply together', `${count(ASSUMED.lifeMessageBytes)} B`],
    ],
  );
}

function limitsTable(limits: Limits): string {
  const cores = `${ASSUMED.serverCores} cores`;
  return markdownTable(
    ['one', 'has', 'lives/s, by its CPU alone', 'the next one'],
    [
      [
        'coordinator',
        '1 core: one thread',
        count(limits.coordinator),
        'start another: nothing is shared but servers',
      ],
      [
        'pool and priority',
        '1 queue: one Erlang process',
        count(limits.pool),
        'a pool per subcloud, or another model name',
      ],
      ['network: its queue of results', '1 queue: one Erlang process', count(limits.pool), 'none today'],
      ['RabbitMQ', cores, count(limits.broker), 'more nodes of its cluster: pools spread over them'],
      ['PostgreSQL', cores, count(limits.postgres), 'a larger one; a second primary is not possible today'],
      ['Redis', '1 core: one thread', count(limits.redis), 'Redis Cluster with `fleet.cells`'],
      ['MongoDB', cores, count(limits.mongodb), 'shards by job id: not tried'],
    ],
  );
}

const DEMANDS: readonly (readonly [string, (demand: Demand) => number])[] = [
  ['coordinators, for jobs alone', (demand) => demand.coordinators],
  ['broker cores, for jobs alone', (demand) => demand.brokerCores],
  ['PostgreSQL cores', (demand) => demand.postgresCores],
  ['Redis cores, for jobs alone', (demand) => demand.redisCores],
  ['MongoDB cores', (demand) => demand.mongodbCores],
  ['message hops/s', (demand) => demand.hopsPerS],
  ['broker network, Gbit/s', (demand) => demand.brokerGbitPerS],
  ['commits/s', (demand) => demand.commitsPerS],
  ['rows written/s', (demand) => demand.rowsPerS],
  ['Redis script calls/s, heartbeats among them', (demand) => demand.scriptsPerS],
  ['PostgreSQL, TB/day', (demand) => demand.postgresTbPerDay],
  ['MongoDB, TB/day', (demand) => demand.mongoTbPerDay],
  ['workers, and broker connections for them', (demand) => demand.workers],
  ['heartbeats/s', (demand) => demand.heartbeatsPerS],
  ['heartbeats/s × coordinators that hear them', (demand) => demand.heartbeatDeliveriesPerS],
];

function networksTable(demands: readonly Demand[]): string {
  return markdownTable(
    ['full lives/s', ...demands.map(({ jobsPerS }) => jobsPerS.toLocaleString('en'))],
    DEMANDS.map(([name, of]) => [name, ...demands.map((demand) => count(of(demand)))]),
  );
}

function verdictsTable(demands: readonly Demand[]): string {
  const rows: readonly (readonly [string, (demand: Demand) => number])[] = [
    ['PostgreSQL, one primary', (demand) => demand.postgresCores],
    ['RabbitMQ, cores of the cluster', (demand) => demand.brokerCores],
    ['MongoDB, cores of all shards', (demand) => demand.mongodbCores],
  ];
  return markdownTable(
    ['full lives/s', ...demands.map(({ jobsPerS }) => jobsPerS.toLocaleString('en'))],
    rows.map(([name, of]) => [name, ...demands.map((demand) => verdictOnCores(of(demand)))]),
  );
}

/** How many cores are too many for one server, in words. */
export function verdictOnCores(cores: number): string {
  if (Number.isNaN(cores)) return NO_FIGURE;
  if (cores <= ASSUMED.serverCores) return 'one server';
  if (cores <= CORES_MAX) return 'one very large server, on paper';
  return 'more than any one server';
}

/** A number with two or three digits that mean something. */
function count(value: number): string {
  if (Number.isNaN(value)) return NO_FIGURE;
  if (value >= 100) return Number(value.toPrecision(3)).toLocaleString('en');
  return String(Number(value.toPrecision(2)));
}
