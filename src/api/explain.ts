import { poolName, vramClassOf } from '../contracts/names.ts';
import { type Refusal, refusal } from '../errors.ts';
import { RECORD_FILTERS, recordFault } from '../network/fitting.ts';
import type { Directory, Node, Wanted } from '../network/types.ts';
import type { FleetSights, WorkerSight } from '../workers/types.ts';

/** What a node passes on its way to a job, in the order in which it is asked: first its record, then its worker. */
export const FILTERS = [...RECORD_FILTERS, 'live', 'taking', 'offering', 'untried', 'slot'] as const;
export type Filter = (typeof FILTERS)[number];

/** Of `of` nodes that passed all filters before, `left` passed this one. */
export interface FilterCount {
  readonly filter: Filter;
  readonly of: number;
  readonly left: number;
}

/** A node and the first filter that it did not pass; null: it would be chosen from. */
export interface NodeVerdict {
  readonly node: string;
  readonly fault: Filter | null;
}

/**
 * Why a job of a model and a constraint runs or waits. `verdict`: `never`, it would be refused with `refusal`; `not_now`, it would
 * wait; `queued`, a worker has room for it.
 */
export interface Explanation {
  readonly model: string;
  readonly region: string | null;
  /** The class, in GB. */
  readonly vramGb: number | null;
  readonly pool: string;
  readonly verdict: 'never' | 'not_now' | 'queued';
  readonly refusal: Refusal | null;
  /** Up to the one that nobody passed. */
  readonly filters: readonly FilterCount[];
  /** Those that came furthest, at most `NODES_TOLD_MAX`. */
  readonly nodes: readonly NodeVerdict[];
  /** Nodes that the records let through and whose workers were not looked at, because there are too many. */
  readonly nodesUnread: number;
}

/** Workers looked at in Redis for one question, and nodes named in the answer. */
export const NODES_READ_MAX = 2_000;
const NODES_TOLD_MAX = 100;

/** What is asked. `tried`: nodes that had an attempt of this job before. */
export interface Question {
  readonly model: string;
  readonly region: string | null;
  readonly vramGbMin: number | null;
  readonly tried?: readonly string[];
}

/** Where the answers come from: the records in memory, and Redis for those nodes that the records let through. */
export interface ExplainDeps {
  readonly directory: Directory;
  readonly fleet: FleetSights;
}

/**
 * Puts every node through the filters that a job meets, and names the first that each fails. Costs a walk over the records in
 * memory and at most a few calls to Redis; changes nothing. Throws StoreError when Redis is away.
 */
export async function explain(question: Question, deps: ExplainDeps): Promise<Explanation> {
  const { model, region, vramGbMin, tried = [] } = question;
  const vramGb = vramGbMin === null ? null : vramClassOf(vramGbMin);
  const pool = poolName(model, { region, vramGbMin });
  const wanted = { model, region, vramGb };
  const faults = new Map<Node, Filter | null>();
  for (const node of deps.directory.nodes()) faults.set(node, recordFault(node, wanted));
  const passed = [...faults.keys()].filter((node) => faults.get(node) === null);
  const read = passed.slice(0, NODES_READ_MAX);
  const sights = await deps.fleet.sights(
    read.map(({ id }) => id),
    pool,
  );
  for (const [i, node] of read.entries()) faults.set(node, workerFault(node, sights[i], tried));
  for (const node of passed.slice(NODES_READ_MAX)) faults.delete(node);

  const filters = countFilters([...faults.values()], wanted);
  const never = refusalOf(wanted, deps.directory);
  const isFree = [...faults.values()].includes(null);
  return {
    ...wanted,
    pool,
    verdict: never ? 'never' : isFree ? 'queued' : 'not_now',
    refusal: never,
    filters,
    nodes: furthest(faults),
    nodesUnread: Math.max(0, passed.length - NODES_READ_MAX),
  };
}

/** What admit would refuse it for, as far as model and constraint decide. */
function refusalOf(wanted: Wanted, directory: Directory): Refusal | null {
  const version = directory.model(wanted.model);
  if (!version) return refusal('TG_MODEL_UNKNOWN', 'model');
  if (version.inputPriceMicro === null || version.outputPriceMicro === null)
    return refusal('TG_MODEL_NO_PRICE', 'model');
  return wanted.region === null && wanted.vramGb === null ? null : directory.misfit(wanted);
}

function workerFault(
  { id, drainByMs }: Node,
  sight: WorkerSight | undefined,
  tried: readonly string[],
): Filter | null {
  if (sight === undefined || sight.state === 'none' || sight.state === 'gone' || sight.state === 'lost')
    return 'live';
  if (sight.state === 'draining' || drainByMs !== null) return 'taking';
  if (!sight.isOffering) return 'offering';
  if (tried.includes(id)) return 'untried';
  return sight.slotsFree > 0 ? null : 'slot';
}

/** The counts, without the filters that this question does not have, and none behind one that nobody passed. */
function countFilters(faults: readonly (Filter | null)[], { region, vramGb }: Wanted): FilterCount[] {
  const asked = FILTERS.filter(
    (filter) => !(filter === 'region' && region === null) && !(filter === 'vram' && vramGb === null),
  );
  const counts: FilterCount[] = [];
  let of = faults.length;
  for (const filter of asked) {
    const left = of - faults.filter((fault) => fault === filter).length;
    counts.push({ filter, of, left });
    if (left === 0) break;
    of = left;
  }
  return counts;
}

function furthest(faults: ReadonlyMap<Node, Filter | null>): NodeVerdict[] {
  const steps = (fault: Filter | null) => (fault === null ? FILTERS.length : FILTERS.indexOf(fault));
  return [...faults]
    .map(([{ id }, fault]) => ({ node: id, fault }))
    .toSorted((a, b) => steps(b.fault) - steps(a.fault) || (a.node < b.node ? -1 : 1))
    .slice(0, NODES_TOLD_MAX);
}
