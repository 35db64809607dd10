import type { Refusal } from '../errors.ts';

/** Names → ids, entitlements, models and prices: what admit needs, read from PostgreSQL and kept in memory. */

/** What an account may ask of one coordinator; null: what the configuration says. */
export interface AccountLimits {
  readonly jobsPerSecond: number | null;
  readonly burstJobs: number | null;
  readonly openLocksMax: number | null;
  readonly queuedMax: number | null;
}

/** Who pays. */
export interface Account {
  readonly id: number;
  readonly name: string;
  /** Full name (`acme/prod`) → id. */
  readonly namespaces: ReadonlyMap<string, number>;
  readonly limits: AccountLimits;
}

/** Who sends: a RabbitMQ user `p-<name>`. */
export interface Publisher {
  readonly id: number;
  readonly name: string;
  /** Ids of the accounts it may spend for. */
  readonly accountIds: ReadonlySet<number>;
  /** Monotonic time until which it is cut off; in the past once that is over, minus infinity if it is not cut off. */
  readonly bannedUntilMs: number;
}

/** The active version of a model. Prices in micro-credits per 1,000,000 tokens, null: no price, cannot be used. */
export interface ModelVersion {
  readonly id: number;
  readonly model: string;
  readonly version: number;
  readonly inputPriceMicro: bigint | null;
  readonly outputPriceMicro: bigint | null;
  readonly inputTokensMax: number;
  readonly outputTokensMax: number;
  readonly timeoutMsMax: number;
}

/** What a node can be blamed for; the enum of the same words is `network.fault`. */
export const STRIKE_KINDS = ['lost', 'deadline', 'error', 'refused', 'bad_result', 'forged'] as const;
export type StrikeKind = (typeof STRIKE_KINDS)[number];

/** A strike as its node's owner sees it. */
export interface ExplainedStrike {
  readonly kind: StrikeKind;
  /** The job at hand, null where there was none in particular. */
  readonly jobId: string | null;
  readonly at: Date;
  /** What it counts now; 0 if it is void. */
  readonly weight: number;
  /** From then on it counts less than a hundredth. */
  readonly countsUntil: Date;
  /** Why it is void: the fault was ours. Null: it is not. */
  readonly voidedFor: string | null;
}

/** A registered machine. `publicKey`: raw 32 bytes of Ed25519. `models`: names it may serve. `vramGb`: of all its cards, in GB. */
export interface Node {
  readonly id: string;
  readonly owner: string;
  readonly publicKey: Buffer;
  readonly models: ReadonlySet<string>;
  readonly lifecycle: 'probation' | 'active' | 'retired';
  /** Null: not registered, and no job that asks for one goes there. */
  readonly region: string | null;
  readonly vramGb: number | null;
  /** An operator drains it: monotonic time by which it should be empty, perhaps past. Null: no drain. */
  readonly drainByMs: number | null;
  /** Ejected for its strikes until this monotonic time, perhaps past. Null: never, or taken back. */
  readonly ineligibleUntilMs: number | null;
  readonly ineligibleReason: string | null;
}

/** What a job wants of a node: its model and, where not null, a region and at least so much memory, in GB. */
export interface Wanted {
  readonly model: string;
  readonly region: string | null;
  readonly vramGb: number | null;
}

/** A pool with a constraint that jobs have opened; its queues stay. `vramGb` is a class. */
export interface Pool extends Wanted {
  readonly name: string;
}

/**
 * The directory: synchronous look-ups in a copy that follows PostgreSQL within a second (LISTEN plus a version poll).
 * After a miss call `refresh()` once (it is rate-limited and shared) and look again: a record made a moment ago is found.
 */
export interface Directory {
  account(name: string): Account | undefined;
  publisher(name: string): Publisher | undefined;
  publishers(): readonly Publisher[];
  model(name: string): ModelVersion | undefined;
  modelVersion(id: number): ModelVersion | undefined;
  node(id: string): Node | undefined;
  models(): readonly ModelVersion[];
  /** Every registered node, the retired ones too. */
  nodes(): readonly Node[];
  /** An open pool with a constraint, by its whole name. */
  pool(name: string): Pool | undefined;
  /** The open pools with a constraint: all, or those of one model. */
  pools(model?: string): readonly Pool[];
  /** Why no registered node could ever run a job with this constraint, or null. Remembered until the directory changes. */
  misfit(wanted: Wanted): Refusal | null;
  /** Reads everything that changed; resolves when the copy is at least as new as the call. */
  refresh(): Promise<void>;
  /** Number of the newest change read. */
  readonly version: number;
  onChange(listener: () => void): () => void;
}
