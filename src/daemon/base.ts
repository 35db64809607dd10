import type { Broker } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import type { Attempts, CreditLocks, Settlements, Sweeps } from '../ledger/types.ts';
import type { PrometheusMetrics } from '../ops/metrics.ts';
import type { Log, Service } from '../ops/types.ts';
import type { TraceSink } from '../traces/types.ts';
import type { LeaseUpkeep, SlotLeases } from '../workers/types.ts';

/** Where the lines meet their stores and the clock: what `decorate` may wrap. */
export interface Seams {
  readonly clock: Clock;
  readonly broker: Broker;
  readonly slots: SlotLeases & LeaseUpkeep;
  readonly locks: CreditLocks;
  readonly attempts: Attempts;
  readonly settlements: Settlements;
  readonly sweeps: Sweeps;
  readonly traces: TraceSink;
}

/** Wraps a seam, or gives it back as it is; each is asked for once, while the daemon is put together. */
export type Decorate = <K extends keyof Seams>(name: K, seam: Seams[K]) => Seams[K];

/** What everything in a coordinator is made with. */
export interface Base {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: PrometheusMetrics;
  readonly decorate: Decorate;
}

/** A part that needs no start. */
export function onlyStop(stop: () => Promise<void>): Service {
  return { start: () => Promise.resolve(), stop };
}
