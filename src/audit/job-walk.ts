import type { Clock } from '../clock.ts';
import type { Findings } from './findings.ts';
import { jobRules } from './job-rules.ts';
import { FIRST_UUID, pagesOf } from './pages.ts';
import type { JobRow } from './rows.ts';
import { TRACE_INVARIANTS, TraceCheck } from './trace-check.ts';
import type { InvariantId } from './catalogue.ts';
import type { AuditBounds, AuditStores } from './types.ts';

/** What the walk over jobs judges. */
export function jobInvariants(bounds: AuditBounds): readonly InvariantId[] {
  return [...jobRules(bounds).map(({ id }) => id), ...TRACE_INVARIANTS];
}

/**
 * Reads every job with its lock and its resolution, applies the rules, and asks MongoDB for its documents. Job, lock and
 * resolution come from one snapshot, so jobs in flight raise no alarm.
 */
export async function walkJobs(
  stores: AuditStores,
  bounds: AuditBounds,
  findings: Findings,
  clock: Clock,
): Promise<void> {
  const rules = jobRules(bounds);
  const traces = new TraceCheck(stores, bounds, findings);
  const pages = pagesOf<JobRow>(bounds.pageRows, (after) =>
    stores.database.query('audit_jobs', [after?.id ?? FIRST_UUID, bounds.pageRows]),
  );
  for await (const page of pages) {
    for (const { id, appliesTo, fault } of rules) {
      const jobs = page.filter(appliesTo);
      findings.checked([id], jobs.length);
      for (const job of jobs) {
        const what = fault(job);
        if (what !== null) findings.broken(id, job.id, what);
      }
    }
    await traces.take(page);
  }
  await traces.finish(clock);
}
