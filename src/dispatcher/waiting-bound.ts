import { publisherUser } from '../contracts/names.ts';
import type { Directory } from '../network/types.ts';
import type { IntakeLimits } from './intake-limits.ts';
import type { Arrival, Exit } from './types.ts';

interface WaitingBoundDeps {
  readonly directory: Pick<Directory, 'account' | 'publisher'>;
  readonly limits: Pick<IntakeLimits, 'ofWaiting'>;
}

/**
 * Turns away those that would be more of their account's in a waiting room than may wait there; `exits` are what found no slot. What
 * was let wait once waits on, and so does what the broker brought again: it may have its lock already.
 */
export function boundWaiting(exits: readonly Exit[], deps: WaitingBoundDeps): Exit[] {
  const granted = new Map<string, number>();
  return exits.map((exit) => {
    const { arrival } = exit;
    if (exit.outcome.kind !== 'waiting' || mayWait(arrival)) return exit;
    const account = deps.directory.account(arrival.parsed?.account ?? '');
    const publisher = deps.directory.publisher(
      arrival.delivery.userId?.slice(publisherUser('').length) ?? '',
    );
    if (!account || !publisher) return exit;
    const now = granted.get(account.name) ?? 0;
    const limited = deps.limits.ofWaiting(arrival.room.heldBy(account.name) + now, publisher, account);
    if (limited) return { arrival, outcome: { kind: 'limited', ...limited } };
    arrival.hasWaited = true;
    granted.set(account.name, now + 1);
    return exit;
  });
}

function mayWait({ delivery, resumed, hasWaited }: Arrival): boolean {
  return delivery.redelivered || resumed !== null || hasWaited === true;
}
