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

/** Whose fault a failure is; decides what comes next. Label value of metrics, and part of the trace. */
export type FailureClass = 'node' | 'network' | 'capacity' | 'invalid_request' | 'coordinator' | 'unknown';

/** Names one attempt exactly: the fence. */
export interface AttemptName {
  readonly jobId: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
}

/**
 * Gives an attempt up. `delayMs`: pause before the next attempt, null for none. `isCounted`: it uses up one of the job's tries.
 * `digest`: of the result that said so. `isOwed`: no message stands behind the call, so what follows is owed by the row.
 */
export interface GiveUpRequest extends AttemptName {
  /** By a result, or without one. */
  readonly outcome: 'failed' | 'lost';
  readonly class: FailureClass;
  readonly code: Code;
  readonly isCounted: boolean;
  readonly delayMs: number | null;
  readonly digest: Buffer | null;
  readonly isOwed: boolean;
}

/** The alarm of an attempt that waits to be placed. `pool` is the model's name. */
export interface RetryAlarm {
  readonly jobId: string;
  readonly attempt: number;
  readonly pool: string;
  readonly priority: 'interactive' | 'batch';
  /** Until it is due; 0 is at once. */
  readonly delayMs: number;
  /** What is left of the job's `timeout_ms`: the alarm means nothing after that. */
  readonly remainingMs: number;
}

/** An attempt that was given up for a later one; what its slot, trace and alarm need. */
export interface GivenUp extends AttemptName {
  readonly namespace: string;
  readonly lockedMicro: bigint;
  readonly nextAttempt: number;
  /** Null where the next attempt needs no alarm any more. */
  readonly alarm: RetryAlarm | null;
}

/** One answer per request. */
export type GiveUpAnswer =
  /** The fence moved to the next attempt, by this call (`isFirst`) or by the same one before. */
  | { readonly kind: 'retry'; readonly isFirst: boolean; readonly givenUp: GivenUp }
  /** No try or no time was left, or none was wanted: the job ended, by this call (`isFirst`) or by the same one before. */
  | { readonly kind: 'ended'; readonly isFirst: boolean; readonly job: EndedJob }
  /** Nothing changed; as in `SettleAnswer`. */
  | { readonly kind: 'late' | 'stale' | 'different'; readonly namespace: string }
  | { readonly kind: 'unknown' };

/** What a later attempt of a job needs; its input is in the traces. */
export interface RetryFacts {
  readonly jobId: string;
  readonly state: JobState;
  readonly attempt: number;
  /** Null while it waits to be placed. */
  readonly node: string | null;
  readonly namespace: string;
  readonly modelVersionId: number;
  readonly remainingMs: number;
  /** Nodes that had an attempt of it. */
  readonly tried: readonly string[];
  /** Why the attempt before was given up. */
  readonly last: { readonly class: FailureClass; readonly code: Code; readonly node: string } | null;
}

/** Gives a node to an attempt that waits for one. `modelVersionId`: the locked one, or a fallback that the lock pays for. */
export interface PlaceRequest extends AttemptName {
  readonly modelVersionId: number;
}

/** `placed`: by this call. `unpayable`: that version cannot run under this lock. Else what the row says, null without a row. */
export type PlaceAnswer =
  | { readonly kind: 'placed'; readonly startMs: number; readonly remainingMs: number }
  | { readonly kind: 'unpayable' }
  | ExistingJob
  | null;

/** An attempt whose slot, trace and alarm are still to be seen to: given up with no message behind it. */
export interface OwedAttempt extends GivenUp {
  readonly outcome: 'failed' | 'lost';
  readonly class: FailureClass;
  readonly code: Code;
  readonly isCounted: boolean;
  readonly endedAtMs: number;
}

/** The attempts behind the first. Every call is one transaction, answers in request order, and may be made again. */
export interface Attempts {
  giveUpBatch(requests: readonly GiveUpRequest[]): Promise<GiveUpAnswer[]>;
  readRetries(jobIds: readonly string[]): Promise<(RetryFacts | null)[]>;
  placeBatch(requests: readonly PlaceRequest[]): Promise<PlaceAnswer[]>;
  /** Attempts that are overdue to be placed, each to one caller: their alarm may be lost. */
  claimRetries(limit: number): Promise<RetryAlarm[]>;
  owedAttempts(limit: number): Promise<OwedAttempt[]>;
  clearOwedAttempts(attempts: readonly Pick<AttemptName, 'jobId' | 'attempt'>[]): Promise<void>;
}

/** Asks to cancel a job for its account. */
export interface CancelRequest {
  readonly jobId: string;
  readonly accountId: number;
  readonly namespaceId: number;
  readonly publisherId: number;
}

/** `recorded`: no job was seen under this id yet, and none will run. `cancelled`: it was locked; its reply is owed. */
export type CancelAnswer =
  | { readonly kind: 'recorded' }
  | { readonly kind: 'cancelled'; readonly job: EndedJob }
  | { readonly kind: 'ended'; readonly state: JobState }
  | { readonly kind: 'account' | 'window' };

/** Cancellation, with the dispatcher's role. Idempotent by id. */
export interface Cancellations {
  cancelBatch(requests: readonly CancelRequest[]): Promise<CancelAnswer[]>;
}

/** An attempt that may be running, for rebuilding slots and for finding the jobs of a lost worker. */
export interface OpenAttempt {
  readonly jobId: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
  readonly pool: string;
  /** Milliseconds until its deadline; negative when overdue. */
  readonly deadlineInMs: number;
  /** Milliseconds since it should have begun; negative before. */
  readonly startOverMs: number;
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
