import type { Code } from '../errors.ts';
import { type AdmitDeps, type Admission, admit } from './admit.ts';
import { answered } from './answered.ts';
import type { Ending } from './look-up.ts';
import type { Admitted, Arrival, Exit } from './types.ts';

/** A batch after admit: what may run, what the arbiter is to remember, and what has left. */
export interface AdmittedBatch {
  readonly on: readonly Admitted[];
  readonly endings: ReadonlyMap<Ending, Exit>;
  readonly off: readonly Exit[];
}

/**
 * Admits a batch. Names the directory does not know may only be too new for it: it is refreshed once for the whole batch
 * (the directory limits how often), and those are asked again.
 */
export async function admitBatch(arrivals: readonly Arrival[], deps: AdmitDeps): Promise<AdmittedBatch> {
  const admissions = arrivals.map((arrival) => admit(arrival, deps));
  if (admissions.some((one) => one.kind === 'unknown' || one.kind === 'remember')) {
    await deps.directory.refresh();
    for (const [i, [arrival, { kind }]] of [...answered(arrivals, admissions)].entries()) {
      if (kind === 'unknown' || kind === 'remember') admissions[i] = admit(arrival, deps);
    }
  }
  return sort(answered(arrivals, admissions));
}

function sort(admissions: Iterable<[Arrival, Admission]>): AdmittedBatch {
  const on: Admitted[] = [];
  const off: Exit[] = [];
  const endings = new Map<Ending, Exit>();
  for (const [arrival, one] of admissions) {
    if (one.kind === 'remember') {
      const { known, refusal: why } = one;
      addEnding(endings, known, 'refused', why.code, {
        arrival,
        outcome: { kind: 'refused', state: 'refused', refusal: why, known },
      });
    } else if (one.kind !== 'admitted') off.push({ arrival, outcome: one.outcome });
    else if (arrival.source !== 'expired') on.push(one.admitted);
    else {
      const known = one.admitted;
      addEnding(endings, known, 'expired', 'TG_JOB_EXPIRED', expiredExit(known));
    }
  }
  return { on, endings, off };
}

function addEnding(
  endings: Map<Ending, Exit>,
  known: Ending['known'],
  state: 'refused' | 'expired',
  code: Code,
  exit: Exit,
): void {
  endings.set({ known, request: { ...known.identity, state, code } }, exit);
}

/** The exit of a job whose `wait_ms` is over. */
export function expiredExit(known: Ending['known']): Exit {
  const why = {
    code: 'TG_JOB_EXPIRED',
    field: 'limits.wait_ms',
    message: `no worker was free within ${known.job.limits.wait_ms} ms`,
  } as const;
  return { arrival: known.arrival, outcome: { kind: 'refused', state: 'expired', refusal: why, known } };
}
