import type { Database } from '../postgres/database.ts';
import type { MongoTraceStore } from '../traces/store.ts';
import type { FleetRegistry, LeaseUpkeep } from '../workers/types.ts';
import type { InvariantId } from './catalogue.ts';

/** What the audit reads, and nothing else. Each may throw StoreError, which ends the audit. */
export interface AuditStores {
  /** With the rights of tollgate_auditor: it reads everything and changes nothing. */
  readonly database: Pick<Database, 'query'>;
  readonly fleet: Pick<FleetRegistry, 'occupancy'> & Pick<LeaseUpkeep, 'leases'>;
  readonly traces: Pick<MongoTraceStore, 'findMissingRequests' | 'findMissingAttempts' | 'findPoisoned'>;
  readonly spool: {
    /** Documents' messages that wait in the spool queue. Only asked when a trace is missing. */
    depth(): Promise<number>;
  };
}

/** How patient the audit is with a system that is moving. Milliseconds; `auditBounds` derives them from the configuration. */
export interface AuditBounds {
  /** Rows of one page: one short statement, one short snapshot. */
  readonly pageRows: number;
  /** Suspects that may be jobs in flight are asked again for this long. */
  readonly recheckMs: number;
  /** What is past its time for less than this, the sweep may still be about to end or answer. */
  readonly sweepGraceMs: number;
  /** A job that moved within this time may still be on its way to its trace. */
  readonly traceGraceMs: number;
  /** A lease is never given for longer. */
  readonly leaseTtlMs: number;
  /** A lease that is overdue for less than this is one the sweep may still be about to end. */
  readonly leaseGraceMs: number;
}

/** What is to be audited, and how. */
export interface AuditOptions {
  readonly bounds: AuditBounds;
  /** Paths of the workers' own logs (`tollgate worker --work-log`). Without any, `dispatch.*` is not checked. */
  readonly workerLogs: readonly string[];
  /** How far the clocks of PostgreSQL and the workers may be apart: 0 where they are one machine's. */
  readonly clockSkewMs: number;
}

/**
 * How one invariant stands. `waiting`: something is missing that a part under way may still bring. `not_provable`: the servers do
 * not keep what the proof needs. `not_checked`: the evidence was not given.
 */
export type Verdict = 'ok' | 'broken' | 'waiting' | 'not_provable' | 'not_checked';

/** One thing that breaks an invariant: `id` of a job, a transfer, an account, a worker or a log line, and a sentence. */
export interface Example {
  readonly id: string;
  readonly what: string;
}

/** What was found of one invariant. */
export interface InvariantReport {
  readonly id: InvariantId;
  readonly title: string;
  readonly verdict: Verdict;
  /** Rows, leases, documents or lines that were judged. */
  readonly checked: number;
  /** How many of them break it. */
  readonly broken: number;
  /** The first ten of those, or of what is awaited or cannot be proved. */
  readonly examples: readonly Example[];
  /** Why it is waiting, not provable or not checked; null otherwise. */
  readonly note: string | null;
  /** Duration of the walk that judged it; several are judged by one walk. */
  readonly ms: number;
}

/** The result. `broken` if one invariant is, else `not_provable` if one is waiting or cannot be proved, else `ok`. */
export interface AuditReport {
  readonly verdict: 'ok' | 'broken' | 'not_provable';
  readonly invariants: readonly InvariantReport[];
  readonly ms: number;
}
