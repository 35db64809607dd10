import type { Code } from '../errors.ts';
import type { FailureClass } from '../ledger/types.ts';
import type { StrikeKind } from '../network/types.ts';

/** What went wrong with an attempt. `error_result`: the worker said so; `error` is its word, known or not. */
export type Failure =
  | { readonly kind: 'error_result'; readonly error: string }
  /** No heartbeat for too long, replaced by a newer session, or gone with the job in its hands. */
  | { readonly kind: 'worker_lost' }
  /** Its start window is over and no heartbeat has named it. */
  | { readonly kind: 'not_started' }
  /** The same, but RabbitMQ was away for us meanwhile: the dispatch may have gone with it. */
  | { readonly kind: 'undelivered' }
  /** It began and gave no token in time. */
  | { readonly kind: 'no_first_token' }
  /** Its node is drained by an operator, and the time for that is over. */
  | { readonly kind: 'drained' }
  /** The broker had no queue for the dispatch, or the queue had no room. */
  | { readonly kind: 'returned' | 'nacked' };

/**
 * Whose fault it is and what it is called; `mayRetry`: another attempt can help; `isCounted`: it uses up a try; `strike`: what the
 * node is blamed for, null where it is not.
 */
export interface Judgement {
  readonly class: FailureClass;
  readonly code: Code;
  readonly isCounted: boolean;
  readonly mayRetry: boolean;
  readonly strike: StrikeKind | null;
}

const judged = (
  failureClass: FailureClass,
  code: Code,
  rest: { readonly isCounted?: false; readonly mayRetry?: false; readonly strike?: StrikeKind } = {},
): Judgement => ({ class: failureClass, code, isCounted: true, mayRetry: true, strike: null, ...rest });

const NOT_ITS_FAULT = { isCounted: false } as const;
const POINTLESS = { mayRetry: false } as const;
const FAULTY = { strike: 'error' } as const;
const SLOW = { strike: 'deadline' } as const;

/** What workers say (`AttemptFailureCode`), and what it means here. */
const ERRORS: ReadonlyMap<string, Judgement> = new Map([
  ['model_not_served', judged('node', 'TG_WORKER_ERROR', { strike: 'refused' })],
  ['model_unreachable', judged('node', 'TG_WORKER_ERROR', FAULTY)],
  ['model_error', judged('node', 'TG_WORKER_ERROR', FAULTY)],
  ['stream_broken', judged('node', 'TG_WORKER_ERROR', FAULTY)],
  ['first_token_deadline', judged('node', 'TG_FIRST_TOKEN_OVERDUE', SLOW)],
  // The job's whole time is over: there is none left for another.
  ['deadline', judged('node', 'TG_JOB_OVERDUE', POINTLESS)],
  ['invalid_request', judged('invalid_request', 'TG_INPUT_REFUSED', POINTLESS)],
  ['output_too_large', judged('invalid_request', 'TG_OUTPUT_TOO_LARGE', POINTLESS)],
  ['worker_stopped', judged('capacity', 'TG_WORKER_STOPPED', NOT_ITS_FAULT)],
  ['TG_WORKER_STALE_SESSION', judged('capacity', 'TG_WORKER_STALE_SESSION', NOT_ITS_FAULT)],
]);
const UNKNOWN = judged('unknown', 'TG_WORKER_ERROR', FAULTY);

const OTHERS = {
  worker_lost: judged('node', 'TG_WORKER_LOST', { strike: 'lost' }),
  not_started: judged('node', 'TG_START_OVERDUE', SLOW),
  undelivered: judged('network', 'TG_DISPATCH_LOST', NOT_ITS_FAULT),
  no_first_token: judged('node', 'TG_FIRST_TOKEN_OVERDUE', SLOW),
  drained: judged('capacity', 'TG_NODE_DRAINED', NOT_ITS_FAULT),
  returned: judged('network', 'TG_NODE_UNREACHABLE', NOT_ITS_FAULT),
  nacked: judged('capacity', 'TG_NODE_FULL', NOT_ITS_FAULT),
} as const;

/** Classifies a failure. A word that no worker of ours says is `unknown` and counted: a stranger cannot retry for ever. */
export function judge(failure: Failure): Judgement {
  if (failure.kind !== 'error_result') return OTHERS[failure.kind];
  return ERRORS.get(failure.error) ?? UNKNOWN;
}

const CLASS_OF_CODE: ReadonlyMap<Code, FailureClass> = new Map(
  [...ERRORS.values(), ...Object.values(OTHERS)].map((one) => [one.code, one.class]),
);

/** Whose fault it was that a job ended with `code`. */
export function classOfCode(code: Code | null): FailureClass {
  return (code === null ? undefined : CLASS_OF_CODE.get(code)) ?? 'unknown';
}

/** Bounds of the pause between two attempts, in milliseconds. */
export interface RetryBounds {
  readonly delayMsMin: number;
  readonly delayMsMax: number;
}

/**
 * The pause before the attempt that follows `attempt`. The second attempt goes to another node at once; from then on the pause
 * doubles, half of it random (`random` uniform in [0, 1)), so that jobs which failed together do not come back together.
 * Source: Brooker, "Exponential Backoff And Jitter" (equal jitter).
 */
export function retryDelayMs(attempt: number, bounds: RetryBounds, random: number): number {
  if (attempt === 1) return 0;
  const ceilingMs = Math.min(bounds.delayMsMax, bounds.delayMsMin * 2 ** Math.min(attempt - 2, 20));
  return Math.round(ceilingMs / 2 + (random * ceilingMs) / 2);
}
