import type { Code } from '../errors.ts';

/** States of a row in `jobs.jobs`. */
export type JobState = 'locked' | 'refused' | 'cancelled' | 'expired' | 'succeeded' | 'failed';

/** What a job is, as the arbiter remembers it: no prompt, no answer, at most a keyed digest of the body. */
export interface JobIdentity {
  readonly jobId: string;
  readonly accountId: number;
  readonly namespaceId: number;
  readonly publisherId: number;
  /** 32 bytes, HMAC of the canonical body. */
  readonly digest: Buffer;
  readonly priority: 'interactive' | 'batch';
  readonly kind: 'chat';
  readonly replyTo: string | null;
  readonly correlationId: string | null;
  readonly traceparent: string | null;
}

/** Asks for a credit lock for attempt 1 of a job on the worker that was reserved. Tokens and milliseconds. */
export interface LockRequest extends JobIdentity {
  readonly modelVersionId: number;
  readonly inputTokensMax: number;
  readonly outputTokensMax: number;
  readonly timeoutMs: number;
  readonly attemptsMax: number;
  readonly node: string;
  readonly session: number;
  /** What its constraint adds to a model's name to make the pool's; null or absent: nothing. */
  readonly poolSuffix?: string | null;
}

/** What PostgreSQL says of a job that has a row. `startMs` is what is left of the start window, 0 when it is over. */
export interface ExistingJob {
  readonly kind: 'exists';
  readonly state: JobState;
  readonly attempt: number;
  readonly node: string | null;
  readonly session: number | null;
  readonly startMs: number;
  /** What is left of `timeout_ms`. */
  readonly remainingMs: number;
  readonly modelVersionId: number | null;
  readonly chargedMicro: bigint;
  /** Why it ended, for refused, expired and failed jobs. */
  readonly code: Code | null;
}

/** One answer per id; see the moves in design §5. */
export type LockAnswer =
  | {
      readonly kind: 'new';
      readonly attempt: 1;
      readonly node: string;
      readonly session: number;
      readonly startMs: number;
      readonly remainingMs: number;
      readonly amountMicro: bigint;
    }
  | ExistingJob
  /**
   * `isRecorded`: the arbiter remembers it (insufficient credit, no price, limits); otherwise no row was written (id window,
   * unknown account, TG_STORE_REJECTED for a row that PostgreSQL cannot take).
   */
  | { readonly kind: 'refused'; readonly code: Code; readonly isRecorded: boolean }
  /** The id was used before: by the same account with another body, or by another account (which learns nothing else). */
  | { readonly kind: 'conflict'; readonly field: 'body' | 'account' }
  /** The model version was retired or the price moved: read the directory again and ask again. No row was written. */
  | { readonly kind: 'repriced' };

/** A refusal to remember, or an expiry in the queue: inserts the arbiter row unless there is one. */
export interface EndUnlockedRequest extends JobIdentity {
  readonly state: 'refused' | 'expired';
  readonly code: Code;
}

/** `recorded`: this call inserted the row, so this caller answers the client. */
export type EndUnlockedAnswer =
  | { readonly kind: 'recorded' }
  | ExistingJob
  | { readonly kind: 'refused'; readonly code: Code; readonly isRecorded: false }
  | { readonly kind: 'conflict'; readonly field: 'body' | 'account' };

/** A result to settle. The charge is computed in PostgreSQL from `usage` at the locked price and capped at the lock. */
export interface SettleRequest {
  readonly jobId: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
  readonly status: 'completed' | 'failed';
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Result digest, 32 bytes. */
  readonly digest: Buffer;
}

/** Where the answer of a job goes, and what it cost. Comes back from settle, end and sweep, never through a node. */
export interface EndedJob {
  readonly jobId: string;
  readonly accountId: number;
  readonly namespaceId: number;
  /** `acme/prod`. */
  readonly namespace: string;
  /** Publisher's name, without `p-`. */
  readonly publisher: string;
  readonly replyTo: string | null;
  readonly correlationId: string | null;
  readonly traceparent: string | null;
  readonly state: 'succeeded' | 'failed' | 'cancelled';
  readonly code: Code | null;
  readonly attempt: number;
  readonly node: string | null;
  readonly session: number | null;
  readonly modelVersionId: number;
  readonly lockedMicro: bigint;
  readonly chargedMicro: bigint;
  /** Wall-clock of the commit's statement, for traces. */
  readonly endedAtMs: number;
}

/** What settling one result did. */
export type SettleAnswer =
  /**
   * `settled`: by this call. `same`: by an earlier call with the same digest; repeat release, reply and trace. `isCapped`: the
   * usage is beyond a limit of the job.
   */
  | { readonly kind: 'settled' | 'same'; readonly job: EndedJob; readonly isCapped: boolean }
  /** The attempt is over (ended by the sweep or superseded): nothing changed. */
  | { readonly kind: 'late'; readonly namespace: string; readonly state: JobState }
  /** The fence does not match: another attempt, node or session. */
  | { readonly kind: 'stale'; readonly namespace: string }
  /** Another result of the same attempt was settled before: an anomaly, nothing changed. */
  | { readonly kind: 'different'; readonly namespace: string }
  | { readonly kind: 'unknown' };

/**
 * Ends a locked job without a result: void, `failed`, retryable, reply owed when `isReplyOwed` (set it when no message
 * stands behind the call). Guarded by attempt and, where given, node and session.
 */
export interface EndRequest {
  readonly jobId: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
  readonly code: Code;
  readonly isReplyOwed: boolean;
}

/** `ended`: by this call. `not_open`: somebody else was first, nothing changed. */
export type EndAnswer = { readonly kind: 'ended'; readonly job: EndedJob } | { readonly kind: 'not_open' };

/** An attempt that may be running, for rebuilding slots and for finding the jobs of a lost worker. */
export interface OpenAttempt {
  readonly jobId: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
  readonly pool: string;
  /** Milliseconds until its deadline; negative when overdue. */
  readonly deadlineInMs: number;
}

/**
 * The ledger as the dispatcher sees it. Every call is one transaction that has committed when the promise resolves, answers
 * in request order, and may be made again with the same ids. Throws StoreError when PostgreSQL is away or slow.
 */
export interface CreditLocks {
  lockBatch(requests: readonly LockRequest[]): Promise<LockAnswer[]>;
  /** Reads, for deliveries marked redelivered: the answer lockBatch would give for an existing row, or null. */
  lookUpBatch(
    jobs: readonly Pick<JobIdentity, 'jobId' | 'accountId' | 'digest'>[],
  ): Promise<(ExistingJob | { readonly kind: 'conflict'; readonly field: 'body' | 'account' } | null)[]>;
  endUnlockedBatch(requests: readonly EndUnlockedRequest[]): Promise<EndUnlockedAnswer[]>;
  endJobs(requests: readonly EndRequest[]): Promise<EndAnswer[]>;
}

/** The other half, used with the settler's role. */
export interface Settlements {
  settleBatch(requests: readonly SettleRequest[]): Promise<SettleAnswer[]>;
}

/** What the sweeps need. Each call is bounded by `limit` and safe on several coordinators at once. */
export interface Sweeps {
  /** Ends what is past its deadline: lock `expired`, job `failed`, reply owed. */
  sweepOverdue(limit: number): Promise<EndedJob[]>;
  /** Jobs that ended without a message behind them and whose reply has not been sent yet. */
  owedReplies(limit: number): Promise<EndedJob[]>;
  clearOwed(jobIds: readonly string[]): Promise<void>;
  /** Pages of open attempts, earliest deadline first; `afterJobId` is the last of the page before, null starts. */
  openAttempts(afterJobId: string | null, limit: number): Promise<OpenAttempt[]>;
}
