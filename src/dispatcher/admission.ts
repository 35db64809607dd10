import { EXCHANGE } from '../contracts/names.ts';
import { parserOf } from '../contracts/parse.ts';
import { RetryMessage } from '../contracts/retry.ts';
import { type Code, refusal } from '../errors.ts';
import { poolOfWanted } from '../network/fitting.ts';
import type { Wanted } from '../network/types.ts';
import { type AdmitDeps, admit } from './admit.ts';
import type { Ending } from './look-up.ts';
import type { Admitted, Arrival, Exit } from './types.ts';

/** A later attempt that is due. */
export interface DueRetry {
  readonly arrival: Arrival;
  readonly message: RetryMessage;
}

/**
 * A batch after admit: what may run, which later attempts are due, what the arbiter is to remember, what has left, what the
 * directory must be asked for, and the pools to open before that.
 */
export interface AdmittedBatch {
  readonly on: readonly Admitted[];
  readonly due: readonly DueRetry[];
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
  const due: DueRetry[] = [];
  const off: Exit[] = [];
  const unsure: Arrival[] = [];
  const endings = new Map<Ending, Exit>();
  const unopened = new Map<string, Wanted>();
  for (const arrival of arrivals) {
    if (isRetry(arrival)) {
      const retry = admitRetry(arrival);
      if ('outcome' in retry) off.push(retry);
      else due.push(retry);
      continue;
    }
    const one = admit(arrival, deps);
    const mayBeTooNew = one.kind === 'unknown' || one.kind === 'remember';
    if (mayBeTooNew && !arrival.isRefreshed) unsure.push(arrival);
    else if (one.kind === 'unopened') {
      arrival.hasAskedForPool = true;
      for (const wanted of one.wanted) unopened.set(poolOfWanted(wanted), wanted);
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
  return { on, due, endings, off, unsure, unopened: [...unopened.values()] };
}

const parseRetry = parserOf(RetryMessage);

/** True for what came by exchange `retry`, which only coordinators may write; also when it died waiting in its queue. */
function isRetry({ source, delivery }: Arrival): boolean {
  return (source === 'expired' ? delivery.deathExchange : delivery.exchange) === EXCHANGE.retry;
}

/** One whose job's time ran out in the queue needs nothing: the sweep ends the job. */
function admitRetry(arrival: Arrival): DueRetry | Exit {
  if (arrival.source === 'expired') return { arrival, outcome: { kind: 'done' } };
  if (arrival.isPoison)
    return { arrival, outcome: { kind: 'dead', refusal: refusal('TG_MESSAGE_POISON', 'body') } };
  const parsed = parseRetry(arrival.delivery.body);
  if (!parsed.ok) return { arrival, outcome: { kind: 'dead', refusal: parsed.fault } };
  arrival.jobId = parsed.value.job;
  return { arrival, message: parsed.value };
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
