import { ACCOUNTS, MODEL, NODES } from './names.ts';

/** A node of a plan: its id, and the models it serves. */
export interface PlannedNode {
  readonly id: string;
  readonly models: readonly string[];
}

/** What there is in a world. A bench changes what it asks about and leaves the rest as it is in `USUAL_PLAN`. */
export interface WorldPlan {
  /** Each is a pool. */
  readonly models: readonly string[];
  readonly accounts: readonly string[];
  /** Each has a queue. Ids are users of the whole broker, so worlds of one run that share a node share its login. */
  readonly nodes: readonly PlannedNode[];
}

/** One model, 100 accounts, ten nodes. */
export const USUAL_PLAN: WorldPlan = {
  models: [MODEL],
  accounts: ACCOUNTS,
  nodes: NODES.map((id) => ({ id, models: [MODEL] })),
};

/** The most pools that a worker may name in one message of the fleet. */
const POOLS_PER_NODE_MAX = 64;
/** As many nodes as 1,000 pools need, and for fewer pools as well, so that the number of nodes is not compared. */
const POOLED_NODES = 16;
/** The most pools that so many nodes can serve. */
const POOLS_MAX = POOLED_NODES * POOLS_PER_NODE_MAX;

/** A world with `pools` models, spread evenly over 16 nodes; with fewer models than nodes several nodes serve the same one. */
export function planWithPools(pools: number): WorldPlan {
  if (pools < 1 || pools > POOLS_MAX) throw new RangeError(`${pools} pools, and at most ${POOLS_MAX} can be`);
  const models = Array.from({ length: pools }, (_, i) => `${MODEL}-${i + 1}`);
  const nodes = Array.from({ length: POOLED_NODES }, (_, place) => ({
    id: `pooled-${place + 1}`,
    models: modelsAt(models, place),
  }));
  return { ...USUAL_PLAN, models, nodes };
}

function modelsAt(models: readonly string[], place: number): string[] {
  const own = models.filter((_, i) => i % POOLED_NODES === place);
  return own.length > 0 ? own : [models[place % models.length] ?? ''];
}

/** The usual world with more accounts, of which the usual ones are the first. */
export function planWithAccounts(count: number): WorldPlan {
  return { ...USUAL_PLAN, accounts: Array.from({ length: count }, (_, i) => `bench-${i}`) };
}
