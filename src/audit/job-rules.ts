import type { InvariantId } from './catalogue.ts';
import type { JobRow } from './rows.ts';
import type { AuditBounds } from './types.ts';

/** An invariant of single jobs: which it speaks of, and what is wrong with one, in a sentence, or null. */
export interface JobRule {
  readonly id: InvariantId;
  readonly appliesTo: (job: JobRow) => boolean;
  readonly fault: (job: JobRow) => string | null;
}

/**
 * What must hold of each job with its lock and resolution. Amounts are computed here anew, in another language than the ledger's
 * own, so that one mistake can't vouch for itself.
 */
export function jobRules({ sweepGraceMs }: AuditBounds): readonly JobRule[] {
  return [
    { id: 'jobs.one_state', appliesTo: () => true, fault: stateFault },
    { id: 'jobs.open_is_held', appliesTo: isOpen, fault: heldFault },
    { id: 'jobs.ended_is_resolved', appliesTo: hasEndedLock, fault: resolutionFault },
    { id: 'jobs.unlocked_is_free', appliesTo: (job) => !wasLocked(job), fault: freeFault },
    { id: 'credits.lock_amount', appliesTo: wasLocked, fault: lockAmountFault },
    { id: 'credits.charge_amount', appliesTo: hasEndedLock, fault: chargeFault },
    { id: 'jobs.attempts_kept', appliesTo: wasLocked, fault: attemptsFault },
    { id: 'records.exist', appliesTo: () => true, fault: recordFault },
    {
      id: 'jobs.not_overdue',
      appliesTo: isOpen,
      fault: ({ overdue_ms: overdueMs }) =>
        overdueMs !== null && overdueMs > sweepGraceMs
          ? `it is open ${seconds(overdueMs)} after its deadline`
          : null,
    },
    {
      id: 'jobs.answered',
      appliesTo: (job) => !isOpen(job),
      fault: ({ reply_owed: isOwed, ended_ago_ms: agoMs }) =>
        isOwed && agoMs !== null && agoMs > sweepGraceMs
          ? `it ended ${seconds(agoMs)} ago and its reply is still owed`
          : null,
    },
  ];
}

/** Jobs that had, or have, a credit lock: those with an attempt. */
export function wasLocked(job: JobRow): boolean {
  return job.attempt > 0;
}

function isOpen(job: JobRow): boolean {
  return job.state === 'locked';
}

/** Jobs whose lock must be resolved. */
export function hasEndedLock(job: JobRow): boolean {
  return wasLocked(job) && !isOpen(job);
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`;
}

const OUTCOMES_OF_FAILED: readonly unknown[] = ['failed', 'lost', 'expired'];

/** What the other columns of a row in `state` must be. Only the fields named are compared. */
function stateFault(job: JobRow): string | null {
  const { state, outcome, code, attempt } = job;
  const hasWorker = job.node !== null && job.session !== null;
  const isEnded = job.ended_ago_ms !== null;
  const agrees = {
    // Between two attempts it has no node.
    locked: () => !isEnded && outcome === null && job.charged_micro === 0n && (hasWorker || attempt > 1),
    succeeded: () => isEnded && outcome === 'completed' && code === null && hasWorker,
    failed: () => isEnded && OUTCOMES_OF_FAILED.includes(outcome) && code !== null,
    cancelled: () => isEnded,
    refused: () => isEnded && outcome === null && code !== null && !hasWorker,
    expired: () => isEnded && outcome === null && code !== null && !hasWorker,
  }[state];
  const needsLock = state === 'locked' || state === 'succeeded' || state === 'failed';
  const mayHaveLock = needsLock || state === 'cancelled';
  if (agrees() && (attempt > 0 ? mayHaveLock : !needsLock)) return null;
  return `its state ${state} disagrees with outcome ${outcome}, code ${code}, attempt ${attempt}, ${isEnded ? 'ended' : 'not ended'}`;
}

function heldFault(job: JobRow): string | null {
  if (job.lock_kind !== 'lock') return 'it is open and has no credit lock';
  return job.resolution_kind === null
    ? null
    : `it is open and its lock was resolved by a ${job.resolution_kind}`;
}

function resolutionFault(job: JobRow): string | null {
  const { state, outcome, resolution_kind: found } = job;
  if (job.lock_kind !== 'lock') return `it ended ${state} and never had a credit lock`;
  const unpaid = outcome === 'expired' ? 'expire' : 'void';
  const expected = state === 'succeeded' ? 'capture' : unpaid;
  if (found === expected) return null;
  return `it ended ${state} (${outcome}) and its lock is ${found === null ? 'not resolved' : `resolved by a ${found}`}`;
}

function freeFault(job: JobRow): string | null {
  const moved = job.lock_kind ?? job.resolution_kind;
  if (moved !== null) return `it was never locked (${job.state}) and has a transfer (${moved})`;
  if (job.locked_micro === 0n && job.charged_micro === 0n) return null;
  return `it was never locked (${job.state}) and says ${job.locked_micro} locked, ${job.charged_micro} charged`;
}

/** Attempt n has n - 1 before it, each with a row of its own. */
function attemptsFault({ attempt, given_up: givenUp }: JobRow): string | null {
  const found = (givenUp ?? []).join(' ');
  const expected = Array.from({ length: attempt - 1 }, (_, i) => i + 1).join(' ');
  return found === expected
    ? null
    : `it is at attempt ${attempt} and the attempts given up before are: ${found || 'none'}`;
}

/** Prices in micro-credits per 1,000,000 tokens. */
interface Prices {
  readonly inputPrice: bigint | null;
  readonly outputPrice: bigint | null;
}

/** Tokens times price per 1,000,000 tokens, rounded up once; null where something is missing. */
function costMicro(
  { inputPrice, outputPrice }: Prices,
  inputTokens: number | null,
  outputTokens: number | null,
): bigint | null {
  if (inputTokens === null || outputTokens === null || inputPrice === null || outputPrice === null)
    return null;
  return (BigInt(inputTokens) * inputPrice + BigInt(outputTokens) * outputPrice + 999_999n) / 1_000_000n;
}

/** What was used of a limit; null where nothing is said of the use. */
function atMost(used: number | null, limit: number | null): number | null {
  return used === null ? null : Math.min(used, limit ?? used);
}

function lockAmountFault(job: JobRow): string | null {
  // Without its version there is no price: that is what records.exist says.
  if (job.version_id === null) return null;
  const locked = { inputPrice: job.input_price_micro, outputPrice: job.output_price_micro };
  const expected = costMicro(locked, job.input_tokens_max, job.output_tokens_max);
  if (expected === null) return 'it was locked without a price or without limits';
  if (job.locked_micro !== expected)
    return `its limits cost ${expected} micro-credits and its row says ${job.locked_micro}`;
  if (job.lock_micro !== null && job.lock_micro !== expected)
    return `its limits cost ${expected} micro-credits and its lock is ${job.lock_micro}`;
  if (job.lock_account_id !== null && job.lock_account_id !== job.account_id)
    return `account ${job.account_id} sent it and account ${job.lock_account_id} pays`;
  return null;
}

function chargeFault(job: JobRow): string | null {
  const { charged_micro: charged, resolution_micro: moved } = job;
  if (moved !== null && moved !== charged)
    return `its row says ${charged} micro-credits charged and its resolution moved ${moved}`;
  if (job.state !== 'succeeded') return charged === 0n ? null : `it ended ${job.state} and cost ${charged}`;
  if (job.version_id === null) return null;
  const ran = { inputPrice: job.run_input_price_micro, outputPrice: job.run_output_price_micro };
  const cost = costMicro(
    ran,
    atMost(job.input_tokens, job.input_tokens_max),
    atMost(job.output_tokens, job.output_tokens_max),
  );
  if (cost === null) return 'it was charged without a price or without a usage';
  const expected = cost < job.locked_micro ? cost : job.locked_micro;
  return charged === expected
    ? null
    : `its usage costs ${expected} micro-credits at most and it was charged ${charged}`;
}

function recordFault(job: JobRow): string | null {
  if (job.account_kind !== 'customer') return `account ${job.account_id} is not there`;
  if (job.namespace_account_id === null) return `namespace ${job.namespace_id} is not there`;
  if (job.namespace_account_id !== job.account_id)
    return `namespace ${job.namespace_id} is of account ${job.namespace_account_id}, not ${job.account_id}`;
  if (!job.has_publisher) return `publisher ${job.publisher_id} is not there`;
  if (!job.has_pool) return 'its constraint has no pool of its model';
  const isVersionMissing = job.version_id === null && (job.model_version_id !== null || wasLocked(job));
  return isVersionMissing ? `model version ${job.model_version_id} is not there` : null;
}
