import type { Code } from '../errors.ts';
import type { Wanted } from '../network/types.ts';
import { type AdmitDeps, admit } from './admit.ts';
import type { Ending } from './look-up.ts';
import type { Admitted, Arrival, Exit } from './types.ts';

/**
 * A batch after admit: what may run, what the arbiter is to remember, what has left, what the directory must be asked for, and
 * the pools to open before that.
 */
export interface AdmittedBatch {
  readonly on: readonly Admitted[];
  readonly endings: ReadonlyMap<Ending, Exit>;
  readonly off: readonly Exit[];
  readonly unsure: readonly Arrival[];
  readonly unopened: readonly Wanted[];
}

/**
 * Admits a batch. A name the directory does not know, or a price it does not have, may only be too new for it: such jobs are
 * unsure until the directory was read again for them, and nobody else waits for that. Nor for a pool that is opened.
 */
export function admitBatch(arrivals: readonly Arrival[], deps: AdmitDeps): AdmittedBatch {
  const on: Admitted[] = [];
  const off: Exit[] = [];
  const unsure: Arrival[] = [];
  const endings = new Map<Ending, Exit>();
  const unopened = new Map<string, Wanted>();
  for (const arrival of arrivals) {
    const one = admit(arrival, deps);
    const mayBeTooNew = one.kind === 'unknown' || one.kind === 'remember';
    if (mayBeTooNew && !arrival.isRefreshed) unsure.push(arrival);
    else if (one.kind === 'unopened' && !arrival.hasAskedForPool) {
      arrival.hasAskedForPool = true;
      unopened.set(one.pool, one.wanted);
      unsure.push(arrival);
    } else if (one.kind === 'remember') {
      const { known, refusal: why } = one;
      addEnding(endings, known, 'refused', why.code, {
        arrival,
        outcome: { kind: 'refused', state: 'refused', refusal: why, known },
      });
    } else if (one.kind !== 'admitted') off.push({ arrival, outcome: one.outcome });
    else if (arrival.source !== 'expired') on.push(one.admitted);
    else addEnding(endings, one.admitted, 'expired', 'TG_JOB_EXPIRED', expiredExit(one.admitted));
  }
  return { on, endings, off, unsure, unopened: [...unopened.values()] };
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
function expiredExit(known: Ending['known']): Exit {
  const why = {
    code: 'TG_JOB_EXPIRED',
    field: 'limits.wait_ms',
    message: `no worker was free within ${known.job.limits.wait_ms} ms`,
  } as const;
  return { arrival: known.arrival, outcome: { kind: 'refused', state: 'expired', refusal: why, known } };
}
