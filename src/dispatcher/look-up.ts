import type { Clock } from '../clock.ts';
import { refusal } from '../errors.ts';
import type { CreditLocks, EndUnlockedRequest, ExistingJob } from '../ledger/types.ts';
import { answered } from './answered.ts';
import { type FinishedJob, resend } from './finished.ts';
import type { Admitted, Exit, Known, Locked } from './types.ts';

/** A no that the arbiter is asked to remember, or an expiry in the queue. */
export interface Ending {
  readonly known: Known;
  readonly request: EndUnlockedRequest;
}

/** What the look-up decided: `fresh` go on to reserve, `again` straight to dispatch, the rest has left or is answered last. */
export interface LookUp {
  readonly fresh: readonly Admitted[];
  readonly again: readonly Locked[];
  readonly finished: readonly FinishedJob[];
  readonly off: readonly Exit[];
}

interface LookUpDeps {
  readonly locks: CreditLocks;
  readonly clock: Clock;
}

/** The exit for an id that belongs to another body or another account. */
export function conflictExit(known: Known, field: 'body' | 'account'): Exit {
  const why = field === 'body' ? refusal('TG_JOB_ID_REUSED', 'id') : refusal('TG_JOB_ID_IN_USE', 'id');
  return {
    arrival: known.arrival,
    outcome: { kind: 'refused', state: 'refused', refusal: why, known: null },
  };
}

/**
 * Deliveries marked redelivered are looked up in PostgreSQL before anything is reserved for them: most of them were locked,
 * dispatched or finished before the crash that brought them back. Only ids without a row go on. Source: design [2], [3].
 */
export async function lookUp(admitted: readonly Admitted[], deps: LookUpDeps): Promise<LookUp> {
  const fresh = admitted.filter((one) => !one.arrival.delivery.redelivered);
  const before = admitted.filter((one) => one.arrival.delivery.redelivered);
  if (before.length === 0) return { fresh, again: [], finished: [], off: [] };
  const again: Locked[] = [];
  const finished: FinishedJob[] = [];
  const off: Exit[] = [];
  const askedMs = deps.clock.monotonicMs();
  const answers = await deps.locks.lookUpBatch(before.map((one) => one.identity));
  for (const [one, answer] of answered(before, answers)) {
    if (answer === null) fresh.push(one);
    else if (answer.kind === 'conflict') off.push(conflictExit(one, answer.field));
    else sort(one, answer, askedMs, deps.clock.nowMs(), again, finished);
  }
  return { fresh, again, finished, off };
}

/**
 * Refusals that are remembered and jobs that expired in their queue: each inserts the arbiter row unless there is one. Only
 * the inserter gives this answer; for an existing row the first answer holds. Source: design [5], [19].
 */
export async function endUnlocked(
  endings: ReadonlyMap<Ending, Exit>,
  deps: LookUpDeps,
): Promise<Omit<LookUp, 'fresh'>> {
  if (endings.size === 0) return { again: [], finished: [], off: [] };
  const again: Locked[] = [];
  const finished: FinishedJob[] = [];
  const off: Exit[] = [];
  const askedMs = deps.clock.monotonicMs();
  const entries = [...endings];
  const answers = await deps.locks.endUnlockedBatch(entries.map(([ending]) => ending.request));
  for (const [[{ known }, exit], answer] of answered(entries, answers)) {
    if (answer.kind === 'recorded') off.push(exit);
    else if (answer.kind === 'conflict') off.push(conflictExit(known, answer.field));
    else if (answer.kind === 'refused') off.push(unrecorded(known, answer.code));
    else sort(known, answer, askedMs, deps.clock.nowMs(), again, finished);
  }
  return { again, finished, off };
}

/** A refusal that no row remembers (id outside the window). */
export function unrecorded(known: Known, code: Parameters<typeof refusal>[0]): Exit {
  const why = refusal(code, code === 'TG_JOB_ID_WINDOW' ? 'id' : null);
  return {
    arrival: known.arrival,
    outcome: { kind: 'refused', state: 'refused', refusal: why, known: null },
  };
}

function sort(
  known: Known,
  existing: ExistingJob,
  askedMs: number,
  nowMs: number,
  again: Locked[],
  finished: FinishedJob[],
): void {
  const locked = resend(known, existing, askedMs, nowMs);
  if (locked) again.push(locked);
  else finished.push({ known, existing });
}
