import { type Clock, systemClock } from '../clock.ts';
import type { InvariantId } from './catalogue.ts';
import { CREDIT_INVARIANTS, walkCredits } from './credit-walk.ts';
import { DISPATCH_INVARIANTS, walkWorkLogs } from './dispatch-walk.ts';
import { Findings } from './findings.ts';
import { jobInvariants, walkJobs } from './job-walk.ts';
import { SLOT_INVARIANTS, walkSlots } from './slot-walk.ts';
import type { AuditOptions, AuditReport, AuditStores } from './types.ts';

/**
 * Checks every invariant over all stores, one walk after the other, and changes nothing. Each question is one short statement over
 * a page of keys, and safe beside running coordinators: what may be a job in flight is looked at again before it is called
 * broken. Reads every job and transfer once: its time grows with the ledger. Throws StoreError when a server is away,
 * TollgateError (TG_CLI_USAGE) for a worker log that cannot be read. How to call it: `openAuditStores`.
 */
export async function runAudit(
  stores: AuditStores,
  options: AuditOptions,
  clock: Clock = systemClock,
): Promise<AuditReport> {
  const startMs = clock.monotonicMs();
  const findings = new Findings();
  const { bounds } = options;
  const walk = async (ids: readonly InvariantId[], work: () => Promise<void>): Promise<void> => {
    const begunMs = clock.monotonicMs();
    await work();
    findings.took(ids, clock.monotonicMs() - begunMs);
  };
  await walk(CREDIT_INVARIANTS, () => walkCredits(stores, bounds, findings));
  await walk(jobInvariants(bounds), () => walkJobs(stores, bounds, findings, clock));
  await walk(SLOT_INVARIANTS, () => walkSlots(stores, bounds, findings, clock));
  await walk(DISPATCH_INVARIANTS, () => walkWorkLogs(stores, options, findings));
  return findings.report(clock.monotonicMs() - startMs);
}
