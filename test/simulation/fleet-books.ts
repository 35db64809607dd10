import type { LiveWorker } from '../../src/workers/types.ts';
import { NODES, POOLS, SESSIONS } from './fleet-steps.ts';
import { type Side, STEP_MS, type Twins } from './fleet-twins.ts';

/** All that is known of the fleet on Redis; times in whole steps, because what calls take is not the same on both sides. */
export async function realBooks(twins: Twins) {
  const { real } = twins;
  const [shared, leases, waiting, lost, sights] = await Promise.all([
    sharedBooks(real),
    real.allLeases(),
    real.waiting(),
    twins.realLost(),
    real.registry.sights(NODES, POOLS[0]),
  ]);
  const progress = await real.leases.progress(leases);
  return {
    ...shared,
    leases: leases
      .map((lease, i) => inSteps({ ...lease, progress: progress[i] ?? 'unseen' }))
      .toSorted((a, b) => compare(a.jobId, b.jobId)),
    waiting: waiting.toSorted(),
    lost: lost.toSorted(),
    records: sights.map(({ state, slotsTotal, slotsInUse }) => ({ state, slotsTotal, slotsInUse })),
  };
}

/** The same of the fleet in memory. */
export async function simBooks(twins: Twins): Promise<Awaited<ReturnType<typeof realBooks>>> {
  const { sim } = twins;
  const shared = await twins.onSim(sharedBooks);
  return {
    ...shared,
    leases: twins
      .simLeases()
      .map(({ endsMs, ...lease }) => inSteps({ ...lease, isHeld: true, ttlMs: endsMs - twins.nowMs })),
    waiting: [...sim.waiting].toSorted(),
    lost: [...sim.lost.keys()].toSorted(),
    records: NODES.map((node) => {
      const worker = sim.workers.get(node);
      if (!worker) return { state: 'none', slotsTotal: 0, slotsInUse: 0 };
      const { state, slots, session, unleased } = worker;
      const own = twins.simLeases().filter((lease) => lease.node === node && lease.session === session);
      return { state, slotsTotal: slots, slotsInUse: unleased + own.length };
    }),
  };
}

/** What a coordinator may ask either about. An epoch is not the same number on both. */
async function sharedBooks({ leases, registry }: Side) {
  const [lookUp, workers, slots, cells, state] = await Promise.all([
    registry.sessions(NODES),
    registry.list(),
    leases.poolSlots(),
    registry.cells(),
    registry.state(),
  ]);
  return {
    workers: workers.map(liveWorker).toSorted((a, b) => compare(a.node, b.node)),
    slots: [...slots].toSorted(([a], [b]) => compare(a, b)),
    sessions: NODES.flatMap((node) => SESSIONS.map((session) => lookUp(node, session))),
    state,
    cells: cells.map((cell) => ({ ...cell, epochMs: null })),
  };
}

/** The words of a `LiveWorker`: Redis' registry says more. */
function liveWorker(worker: LiveWorker) {
  const { node, session, slotsTotal, slotsInUse, pools, warmModels, isDraining, heartbeatAgeMs } = worker;
  const ageSteps = Math.floor(heartbeatAgeMs / STEP_MS);
  return { node, session, slotsTotal, slotsInUse, pools, warmModels, isDraining, ageSteps };
}

function inSteps<T extends { readonly ttlMs: number }>({ ttlMs, ...lease }: T) {
  return { ...lease, ttlSteps: Math.floor(ttlMs / STEP_MS) };
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
