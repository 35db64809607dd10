import type { Clock } from '../clock.ts';
import type { Attempts, PlaceAnswer } from '../ledger/types.ts';
import type { LeaseName } from '../workers/types.ts';
import { answered } from './answered.ts';
import type { Exit, Locked, Reserved, Resumed } from './types.ts';

interface PlaceDeps {
  readonly attempts: Pick<Attempts, 'placeBatch'>;
  readonly clock: Clock;
}

/** `give` names the leases that are not needed. */
export interface PlacedBatch {
  readonly on: readonly Locked[];
  readonly off: readonly Exit[];
  readonly give: readonly LeaseName[];
}

/**
 * Writes down which node a later attempt goes to, under the lock that stands: for it this commit is what the credit lock is for a
 * first attempt. An attempt that was placed before (its message came twice, or a crash came between) goes to the node that
 * PostgreSQL names while its start window is open. Source: design [11].
 */
export async function place(reserved: readonly Reserved<Resumed>[], deps: PlaceDeps): Promise<PlacedBatch> {
  if (reserved.length === 0) return { on: [], off: [], give: [] };
  const askedMs = deps.clock.monotonicMs();
  const answers = await deps.attempts.placeBatch(
    reserved.map(({ admitted: { jobId, attempt, model }, choice: { node, session } }) => ({
      jobId,
      attempt,
      node,
      session,
      modelVersionId: model.id,
    })),
  );
  const on: Locked[] = [];
  const off: Exit[] = [];
  const give: LeaseName[] = [];
  for (const [one, answer] of answered(reserved, answers)) {
    const { arrival } = one.admitted;
    const goesTo = destination(one, answer);
    const isOurs =
      goesTo !== null && goesTo.node === one.choice.node && goesTo.session === one.choice.session;
    if (one.isTaken && !isOurs) give.push(leaseOf(one));
    if (goesTo === null)
      off.push({ arrival, outcome: { kind: answer?.kind === 'unpayable' ? 'waiting' : 'done' } });
    else {
      const { attempt } = one.admitted;
      const choice = isOurs ? one.choice : null;
      on.push({
        admitted: one.admitted,
        attempt,
        ...goesTo,
        askedMs,
        lockedAtMs: deps.clock.nowMs(),
        choice,
      });
    }
  }
  return { on, off, give };
}

/** Where the attempt goes and what is left of its time, or null where it needs no dispatch. */
function destination(
  { admitted, choice }: Reserved<Resumed>,
  answer: PlaceAnswer,
): Pick<Locked, 'node' | 'session' | 'startMs' | 'remainingMs'> | null {
  if (answer === null || answer.kind === 'unpayable') return null;
  const { startMs, remainingMs } = answer;
  if (answer.kind === 'placed') return { node: choice.node, session: choice.session, startMs, remainingMs };
  const { state, attempt, node, session } = answer;
  const isOpen = state === 'locked' && attempt === admitted.attempt && startMs > 0 && remainingMs > 0;
  return isOpen && node !== null && session !== null ? { node, session, startMs, remainingMs } : null;
}

function leaseOf({ admitted: { jobId, attempt }, choice: { node, session } }: Reserved<Resumed>): LeaseName {
  return { jobId, attempt, node, session };
}
