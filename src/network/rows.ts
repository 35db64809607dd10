import { poolOfWanted } from './fitting.ts';
import type {
  Account,
  AccountLimits,
  ExplainedStrike,
  ModelVersion,
  Node,
  Pool,
  Publisher,
  StrikeKind,
} from './types.ts';

/** A row of `read_changed_accounts.sql`. */
export interface AccountRow {
  readonly id: number;
  readonly name: string;
  readonly namespaces: readonly string[];
  readonly namespace_ids: readonly number[];
  readonly jobs_per_second: number | null;
  readonly burst_jobs: number | null;
  readonly open_locks_max: number | null;
  readonly queued_max: number | null;
}

/** A row of `read_changed_publishers.sql`. */
export interface PublisherRow {
  readonly id: number;
  readonly name: string;
  readonly account_ids: readonly number[];
  /** What is left of a cut-off, on PostgreSQL's clock; 0 or less: it is over, null: there is none. */
  readonly banned_ms: number | null;
}

/** A row of `read_changed_model_versions.sql`. */
export interface ModelVersionRow {
  readonly id: number;
  readonly model: string;
  readonly version: number;
  readonly input_price_micro: bigint | null;
  readonly output_price_micro: bigint | null;
  readonly input_tokens_max: number;
  readonly output_tokens_max: number;
  readonly timeout_ms_max: number;
  readonly is_retired: boolean;
}

/** A row of `read_changed_nodes.sql`. */
export interface NodeRow {
  readonly id: string;
  readonly owner: string;
  readonly public_key: Buffer;
  readonly lifecycle: Node['lifecycle'];
  readonly region: string | null;
  readonly vram_gb: number | null;
  readonly models: readonly string[];
  /** Milliseconds from the moment of the statement, negative in the past. */
  readonly drain_ms: number | null;
  readonly ineligible_ms: number | null;
  readonly ineligible_reason: string | null;
}

/** A row of `explain_strikes.sql`. */
export interface StrikeRow {
  readonly kind: StrikeKind;
  readonly job_id: string | null;
  readonly at: Date;
  readonly weight: number;
  readonly counts_until: Date;
  readonly incident: string | null;
}

/** A strike with what it counts now. */
export function strikeOf(row: StrikeRow): ExplainedStrike {
  const { kind, at, weight } = row;
  return { kind, at, weight, jobId: row.job_id, countsUntil: row.counts_until, voidedFor: row.incident };
}

/** A row of `read_changed_pools.sql`. */
export interface PoolRow {
  readonly model: string;
  readonly region: string | null;
  readonly vram_gb: number | null;
}

/** An account with its namespaces. */
export function accountOf(row: AccountRow): Account {
  return {
    id: row.id,
    name: row.name,
    namespaces: new Map(row.namespaces.map((name, i) => [name, row.namespace_ids[i] ?? 0])),
    limits: limitsOf(row),
  };
}

/** The limits of an account's own. */
export function limitsOf(
  row: Pick<AccountRow, 'jobs_per_second' | 'burst_jobs' | 'open_locks_max' | 'queued_max'>,
): AccountLimits {
  return {
    jobsPerSecond: row.jobs_per_second,
    burstJobs: row.burst_jobs,
    openLocksMax: row.open_locks_max,
    queuedMax: row.queued_max,
  };
}

/** A publisher with the accounts it may spend for; the row was read at `nowMs`, monotonic. */
export function publisherOf(row: PublisherRow, nowMs: number): Publisher {
  const bannedUntilMs = row.banned_ms === null ? Number.NEGATIVE_INFINITY : nowMs + row.banned_ms;
  return { id: row.id, name: row.name, accountIds: new Set(row.account_ids), bannedUntilMs };
}

/** A model version; prices in micro-credits per 1,000,000 tokens. */
export function modelVersionOf(row: ModelVersionRow): ModelVersion {
  return {
    id: row.id,
    model: row.model,
    version: row.version,
    inputPriceMicro: row.input_price_micro,
    outputPriceMicro: row.output_price_micro,
    inputTokensMax: row.input_tokens_max,
    outputTokensMax: row.output_tokens_max,
    timeoutMsMax: row.timeout_ms_max,
  };
}

/** A node with the models it may serve, read at monotonic time `nowMs`. */
export function nodeOf(row: NodeRow, nowMs: number): Node {
  return {
    id: row.id,
    owner: row.owner,
    publicKey: row.public_key,
    models: new Set(row.models),
    lifecycle: row.lifecycle,
    region: row.region,
    vramGb: row.vram_gb,
    drainByMs: row.drain_ms === null ? null : nowMs + row.drain_ms,
    ineligibleUntilMs: row.ineligible_ms === null ? null : nowMs + row.ineligible_ms,
    ineligibleReason: row.ineligible_reason,
  };
}

/** An open pool with a constraint. */
export function poolOf({ model, region, vram_gb: vramGb }: PoolRow): Pool {
  const wanted = { model, region, vramGb };
  return { name: poolOfWanted(wanted), ...wanted };
}
