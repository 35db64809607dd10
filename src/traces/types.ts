import type { Code } from '../errors.ts';

/** Why and where an attempt went. Times are ms since 1970 (wall) or durations. */
export interface RoutingEntry {
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
  /** Why this worker: the three are null where a restart forgot them and the attempt was sent again from its lock. */
  readonly isWarm: boolean | null;
  readonly slotsFree: number | null;
  readonly workersFree: number | null;
  readonly receivedAtMs: number;
  readonly lockedAtMs: number;
  /** Null where the start window closed before the broker confirmed the dispatch. */
  readonly dispatchedAtMs: number | null;
  /** From receipt to the confirm of the dispatch, ms with fractions; null as above. */
  readonly dispatchMs: number | null;
}

/** What came in, written once per job (`_id` = job). */
export interface RequestDocument {
  readonly job: string;
  readonly account: string;
  readonly namespace: string;
  readonly publisher: string;
  readonly model: string;
  readonly modelVersion: number | null;
  readonly kind: string;
  readonly priority: string;
  readonly receivedAtMs: number;
  /** The received bytes, untouched. */
  readonly body: Buffer;
  /** Null for jobs that ended before a lock (refused, expired). */
  readonly routing: RoutingEntry | null;
  readonly traceparent: string | null;
}

/** Where a later attempt went (`_id` = `<job>.<attempt>`, 2 and up), which model ran it, and why there had to be one. */
export interface RouteDocument {
  readonly job: string;
  readonly namespace: string;
  readonly model: string;
  readonly modelVersion: number;
  /** Why the attempt before was given up, and where it had been. */
  readonly reason: { readonly class: string; readonly code: Code; readonly node: string } | null;
  readonly routing: RoutingEntry;
}

/** What was decided about an attempt that failed; `delayMs`: pause before the next one, null where there is none. */
export interface Decision {
  readonly class: string;
  readonly action: 'retry' | 'fail';
  /** It used up one of the job's tries. */
  readonly isCounted: boolean;
  readonly delayMs: number | null;
}

/** How an attempt ended (`_id` = `<job>.<attempt>`); written by the result or by the sweep, whichever ended it. */
export interface AttemptDocument {
  readonly job: string;
  readonly attempt: number;
  readonly namespace: string;
  readonly node: string;
  readonly session: number;
  readonly outcome: 'completed' | 'failed' | 'lost' | 'expired' | 'cancelled';
  readonly code: Code | null;
  /** Null where there was nothing to decide: it succeeded, was cancelled, or its time was over. */
  readonly decision: Decision | null;
  readonly endedAtMs: number;
  readonly chargedMicro: bigint;
  readonly lockedMicro: bigint;
  /** Null when no result came. */
  readonly result: {
    readonly text: string | null;
    readonly finishReason: string | null;
    readonly inputTokens: number;
    readonly outputTokens: number;
    readonly queuedMs: number;
    readonly firstTokenMs: number | null;
    readonly totalMs: number;
    readonly tokenEnds: readonly number[];
    readonly tokenAtMs: readonly number[];
    readonly gpu: { readonly name: string; readonly vramGb: number } | null;
    readonly evaluation: { readonly lowConfidence: boolean; readonly moderation: string | null } | null;
    readonly error: { readonly code: string; readonly message: string } | null;
    readonly digest: string;
    readonly flushDigests: readonly string[];
    readonly signature: string;
  } | null;
}

/** A refusal, an anomaly, a warning. `_id` is made from its content where a repeat must not make a second one. */
export interface EventDocument {
  readonly key: string;
  readonly kind: 'refusal' | 'anomaly' | 'warning';
  readonly code: Code;
  readonly field: string | null;
  readonly message: string;
  readonly job: string | null;
  readonly namespace: string | null;
  /** Broker user of the sender, or null. */
  readonly sender: string | null;
  readonly atMs: number;
}

/** The trace as its reader sees it, joined by the view `traces`. */
export interface Trace {
  readonly job: string;
  readonly request: RequestDocument;
  readonly routes: readonly RouteDocument[];
  readonly attempts: readonly AttemptDocument[];
  readonly events: readonly EventDocument[];
}

/**
 * Where content goes. Each call resolves once everything is durable: in MongoDB (`w: majority, j: true`), or in the spool
 * queue when MongoDB is away. Repeats are harmless: a duplicate `_id` is success. Throws StoreError (TG_SPOOL_FULL inside
 * its message) when neither takes it; the caller keeps its deliveries and tries again.
 */
export interface TraceSink {
  writeRequests(documents: readonly RequestDocument[]): Promise<void>;
  writeRoutes(documents: readonly RouteDocument[]): Promise<void>;
  writeAttempts(documents: readonly AttemptDocument[]): Promise<void>;
  writeEvents(documents: readonly EventDocument[]): Promise<void>;
}

/** Look-up. Throws StoreError when MongoDB is away. */
export interface TraceStore {
  findJob(jobId: string, namespace?: string): Promise<Trace | null>;
  /** The received bytes of these jobs, by id; one whose request is not in MongoDB (yet) is absent. */
  findBodies(jobIds: readonly string[]): Promise<ReadonlyMap<string, Buffer>>;
  /** Newest first, `[fromMs, toMs)`, at most `limit`. `account` finds every namespace of the account. */
  findByTime(query: {
    account?: string;
    namespace?: string;
    fromMs: number;
    toMs: number;
    limit: number;
  }): Promise<Trace[]>;
}
