import { createHash } from 'node:crypto';
import { creditsText } from '../credits.ts';
import { uuidV7Of } from '../ids.ts';
import type { JobRecord, JobRecords } from '../ledger/job-records.ts';
import type { InvariantId } from './catalogue.ts';
import type { AuditReport, Example } from './types.ts';

/**
 * What would make good one finding of the audit. Nothing is ever taken back or changed: a sweep goes on, a top-up is a new transfer,
 * or a person has to look. `command` is what to type, null where there is nothing to type.
 */
export interface Repair {
  readonly invariant: InvariantId;
  /** Id of a job, a transfer, an account or a worker. */
  readonly subject: string;
  readonly found: string;
  readonly doneBy: 'sweep' | 'top_up' | 'operator';
  readonly what: string;
  readonly command: string | null;
}

/** Ends by itself while a coordinator runs. */
const SWEPT: ReadonlyMap<InvariantId, string> = new Map([
  [
    'jobs.not_overdue',
    'a sweep ends it: lock expired, all returned, its client told; is a coordinator running?',
  ],
  ['jobs.answered', 'a sweep sends the reply and writes the trace; is a coordinator running?'],
  ['slots.counted', "the worker's next heartbeat counts its leases anew"],
  ['slots.not_leaked', 'the lease ends by its TTL, and its slot is free'],
  ['slots.one_lease', 'the lease that PostgreSQL does not name ends by its TTL'],
]);

/** What an account is owed: what it paid beyond the right charge, or what is still set aside for a job that has ended. */
const OWED: ReadonlyMap<InvariantId, (job: JobRecord) => bigint> = new Map([
  ['credits.charge_amount', overchargeMicro],
  ['credits.capture_within_lock', overchargeMicro],
  ['jobs.ended_is_resolved', (job) => (job.resolution === null ? job.lockedMicro : 0n)],
]);

const LOOK = 'nothing is edited: docs/audit.md says what it means and where to look';

/** The compensations for what is broken in `report`, in its order. Reads jobs, changes nothing. Throws StoreError. */
export async function repairsOf(
  report: AuditReport,
  records: Pick<JobRecords, 'find'>,
  nowMs: number,
): Promise<Repair[]> {
  const repairs: Repair[] = [];
  for (const { id, verdict, examples } of report.invariants) {
    if (verdict !== 'broken') continue;
    for (const example of examples) repairs.push(await repairOf(id, example, records, nowMs));
  }
  return repairs;
}

async function repairOf(
  invariant: InvariantId,
  { id: subject, what: found }: Example,
  records: Pick<JobRecords, 'find'>,
  nowMs: number,
): Promise<Repair> {
  const swept = SWEPT.get(invariant);
  if (swept !== undefined) return { invariant, subject, found, doneBy: 'sweep', what: swept, command: null };
  const owedBy = OWED.get(invariant);
  const job = owedBy === undefined ? null : await records.find(subject);
  const owedMicro = job === null ? 0n : (owedBy?.(job) ?? 0n);
  if (job === null || job.account === null || owedMicro <= 0n)
    return { invariant, subject, found, doneBy: 'operator', what: LOOK, command: null };
  const credits = creditsText(owedMicro);
  const id = repairId(`${invariant}:${subject}`, nowMs);
  return {
    invariant,
    subject,
    found,
    doneBy: 'top_up',
    what: `${job.account} is owed ${credits} credits: a new transfer, the old ones stay`,
    command: `tollgate account top-up ${job.account} --credits ${credits} --id ${id}`,
  };
}

/** What was charged beyond the price of what was used within the limits, at most the lock. */
function overchargeMicro(job: JobRecord): bigint {
  const { inputPriceMicro, outputPriceMicro, inputTokens, outputTokens, lockedMicro } = job;
  const { inputTokensMax, outputTokensMax } = job;
  const moved = job.resolutionMicro ?? job.chargedMicro;
  if (inputPriceMicro === null || outputPriceMicro === null) return 0n;
  const costMicro =
    (BigInt(Math.min(inputTokens ?? 0, inputTokensMax ?? 0)) * inputPriceMicro +
      BigInt(Math.min(outputTokens ?? 0, outputTokensMax ?? 0)) * outputPriceMicro +
      999_999n) /
    1_000_000n;
  const right = costMicro < lockedMicro ? costMicro : lockedMicro;
  return moved > right ? moved - right : 0n;
}

const DAY_MS = 86_400_000;

/** A UUIDv7 of today that is the same all day, so that a repair which is typed twice is made once. */
function repairId(name: string, nowMs: number): string {
  const bytes = createHash('sha256').update(name).digest().subarray(0, 16);
  return uuidV7Of(nowMs - (nowMs % DAY_MS), bytes);
}
