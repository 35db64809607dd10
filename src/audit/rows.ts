/** Rows of `sql/queries/audit_*.sql`. Amounts are micro-credits, prices micro-credits per 1,000,000 tokens, times milliseconds. */

type AccountKind = 'customer' | 'system';
type TransferKind = 'top_up' | 'lock' | 'capture' | 'void' | 'expire';
type State = 'locked' | 'refused' | 'cancelled' | 'expired' | 'succeeded' | 'failed';

/** A credit account as it stood at one moment. */
export interface AccountRow {
  readonly id: number;
  readonly kind: AccountKind;
  readonly credited_micro: bigint;
  readonly captured_micro: bigint;
  readonly held_micro: bigint;
  /** False: a customer's counters without the customer. */
  readonly has_owner: boolean;
  readonly snapshot: string;
  readonly read_at_ms: number;
}

/** One transfer. A kind is null where there is no such account. */
export interface TransferRow {
  readonly id: string;
  readonly phase: number;
  readonly kind: TransferKind;
  readonly debit_account_id: number;
  readonly credit_account_id: number;
  readonly amount_micro: bigint;
  readonly at_ms: number;
  readonly xid: bigint;
  readonly debit_kind: AccountKind | null;
  readonly credit_kind: AccountKind | null;
  readonly has_job: boolean;
}

/** One job with its lock, its resolution and its price. What it does not have is null. */
export interface JobRow {
  readonly id: string;
  readonly state: State;
  readonly outcome: 'completed' | 'failed' | 'lost' | 'expired' | null;
  readonly code: string | null;
  readonly attempt: number;
  readonly node: string | null;
  readonly session: bigint | null;
  readonly account_id: number;
  readonly namespace_id: number;
  readonly publisher_id: number;
  readonly model_version_id: number | null;
  readonly input_tokens_max: number | null;
  readonly output_tokens_max: number | null;
  readonly input_tokens: number | null;
  readonly output_tokens: number | null;
  readonly locked_micro: bigint;
  readonly charged_micro: bigint;
  readonly reply_owed: boolean;
  readonly has_body: boolean;
  readonly created_ago_ms: number;
  readonly ended_ago_ms: number | null;
  /** Negative before its deadline. */
  readonly overdue_ms: number | null;
  readonly lock_kind: TransferKind | null;
  readonly lock_micro: bigint | null;
  readonly lock_account_id: number | null;
  readonly resolution_kind: TransferKind | null;
  readonly resolution_micro: bigint | null;
  readonly account_kind: AccountKind | null;
  readonly namespace_account_id: number | null;
  readonly has_publisher: boolean;
  /** Also true where the job has no constraint. */
  readonly has_pool: boolean;
  readonly version_id: number | null;
  readonly input_price_micro: bigint | null;
  readonly output_price_micro: bigint | null;
  /** Of the version that ran: a fallback's, or the same. */
  readonly run_input_price_micro: bigint | null;
  readonly run_output_price_micro: bigint | null;
  /** Numbers of the attempts that were given up, and of those whose trace is still owed; null where there are none. */
  readonly given_up: readonly number[] | null;
  readonly given_up_owed: readonly number[] | null;
}

/** What PostgreSQL says of one job id; all but `id`, `has_lock` and `is_tracked` are null where it has no job. */
export interface AttemptRow {
  readonly id: string;
  readonly state: State | null;
  readonly attempt: number | null;
  readonly node: string | null;
  readonly session: bigint | null;
  readonly has_lock: boolean;
  readonly lock_committed_at_ms: number | null;
  /** "<attempt> <node> <session>" of each attempt that was given up. */
  readonly given_up: readonly string[];
  /** Whether the server keeps commit times at all. */
  readonly is_tracked: boolean;
}
