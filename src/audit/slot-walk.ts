import type { Clock } from '../clock.ts';
import type { LiveLease, WorkerOccupancy } from '../workers/types.ts';
import type { InvariantId } from './catalogue.ts';
import type { Findings } from './findings.ts';
import { askAgain } from './pages.ts';
import type { AttemptRow } from './rows.ts';
import type { AuditBounds, AuditStores } from './types.ts';

/** What the walk over Redis judges. */
export const SLOT_INVARIANTS: readonly InvariantId[] = [
  'slots.counted',
  'slots.not_leaked',
  'slots.one_lease',
];

/** A lease that may be leaked, or that stands beside another of its job: as it was seen first and last. */
interface Suspect {
  readonly fault: 'not_leaked' | 'one_lease';
  readonly what: string;
  readonly first: Sighting;
  readonly last: Sighting;
}

interface Sighting {
  readonly lease: LiveLease;
  readonly atMs: number;
}

/** Reads every worker's occupancy and every lease, and asks PostgreSQL for the job of each lease. */
export async function walkSlots(
  stores: AuditStores,
  bounds: AuditBounds,
  findings: Findings,
  clock: Clock,
): Promise<void> {
  await judgeWorkers(stores, findings);
  const suspects = await lookAtLeases(stores, bounds, clock, (lease) => {
    findings.checked(SLOT_INVARIANTS, 1);
    if (!lease.isHeld) findings.broken('slots.counted', lease.jobId, `${named(lease)} is not counted there`);
  });
  // A lease is taken before its lock commits and freed after it is resolved.
  const left = await askAgain(suspects, bounds.recheckMs, clock, async (before) => {
    const now = new Map((await lookAtLeases(stores, bounds, clock)).map((one) => [keyOf(one), one]));
    return before.flatMap((one) => {
      const again = now.get(keyOf(one));
      return again === undefined ? [] : [{ ...again, first: one.first }];
    });
  });
  for (const suspect of left) judgeSuspect(suspect, bounds, findings);
}

/** A worker's row is of one moment, so a difference is no matter of timing. */
async function judgeWorkers({ fleet }: AuditStores, findings: Findings): Promise<void> {
  const seen = new Set<string>();
  for await (const worker of fleet.occupancy()) {
    const subject = `${worker.node}#${worker.session}`;
    if (seen.has(subject)) continue;
    seen.add(subject);
    findings.checked(['slots.counted'], 1);
    const what = occupancyFault(worker);
    if (what !== null) findings.broken('slots.counted', subject, what);
  }
}

function occupancyFault(worker: WorkerOccupancy): string | null {
  const { leases, leasesFound, slotsTotal, unleased, slotsFree, state } = worker;
  if (leases !== leasesFound)
    return `${leases} slots are counted as leased and ${leasesFound} leases name it`;
  const expected = state === 'live' ? Math.max(0, slotsTotal - leases - unleased) : 0;
  if (slotsFree === expected) return null;
  return `it shows ${slotsFree} free slots: ${slotsTotal} less ${leases} leased and ${unleased} held besides, ${state}`;
}

/** One walk over all leases; returns those that are suspect at this moment. A lease that the walk meets twice counts once. */
async function lookAtLeases(
  stores: AuditStores,
  { pageRows }: AuditBounds,
  clock: Clock,
  each: (lease: LiveLease) => void = () => undefined,
): Promise<Suspect[]> {
  const suspects: Suspect[] = [];
  const byJob = new Map<string, string>();
  let page: LiveLease[] = [];
  const suspect = (lease: LiveLease, fault: Suspect['fault'], what: string): void => {
    const seen = { lease, atMs: clock.monotonicMs() };
    suspects.push({ fault, what, first: seen, last: seen });
  };
  const askForPage = async (): Promise<void> => {
    const ids = page.map(({ jobId }) => jobId);
    const rows = await stores.database.query<AttemptRow>('audit_attempts', [ids]);
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const lease of page) {
      const what = leakOf(lease, byId.get(lease.jobId));
      if (what !== null) suspect(lease, 'not_leaked', what);
    }
    page = [];
  };
  for await (const lease of stores.fleet.leases()) {
    const other = byJob.get(lease.jobId);
    if (other === nameOf(lease)) continue;
    if (other !== undefined) suspect(lease, 'one_lease', `it has ${named(lease)} beside that of ${other}`);
    byJob.set(lease.jobId, nameOf(lease));
    each(lease);
    page.push(lease);
    if (page.length >= pageRows) await askForPage();
  }
  if (page.length > 0) await askForPage();
  return suspects;
}

/** Why the lease is not that of an open attempt, or null. */
function leakOf(lease: LiveLease, row: AttemptRow | undefined): string | null {
  if (row === undefined || row.state === null) return `${named(lease)} is of a job that is not there`;
  if (row.state !== 'locked') return `${named(lease)} is of a job that is ${row.state}`;
  const isSame =
    row.attempt === lease.attempt && row.node === lease.node && Number(row.session) === lease.session;
  if (isSame) return null;
  return `${named(lease)} is of another attempt than PostgreSQL's ${row.attempt} on ${row.node}#${row.session}`;
}

/**
 * A lease that nobody keeps runs down and ends by itself: a coordinator that was killed between reserve and lock leaves one. A leak
 * is one that is extended, that would last longer than any lease may, or whose end has passed without anybody ending it.
 */
function judgeSuspect(
  { fault, what, first, last }: Suspect,
  { leaseTtlMs, leaseGraceMs }: AuditBounds,
  findings: Findings,
): void {
  const { jobId, ttlMs } = last.lease;
  const ranDownMs = first.lease.ttlMs - ttlMs;
  const isKept = ranDownMs < (last.atMs - first.atMs) / 2 || ttlMs > leaseTtlMs || ttlMs < -leaseGraceMs;
  if (fault === 'one_lease' || isKept) return findings.broken(`slots.${fault}`, jobId, what);
  const note = `a lease that nobody extends ends by itself, ${leaseTtlMs / 1_000} s after it was given`;
  findings.unsettled('slots.not_leaked', 'waiting', note, [{ id: jobId, what }]);
}

function nameOf({ jobId, attempt, node, session }: LiveLease): string {
  return `${jobId}.${attempt} on ${node}#${session}`;
}

function keyOf({ last, fault }: Suspect): string {
  return `${fault} ${nameOf(last.lease)}`;
}

function named({ attempt, node, session }: LiveLease): string {
  return `the lease of attempt ${attempt} on ${node}#${session}`;
}
