import type { SlotLeases } from '../workers/types.ts';
import { answered } from './answered.ts';
import type { Admitted, Exit, Reserved, Split, WaitingRoom } from './types.ts';

/**
 * Takes one slot for each job, in the order of the batch: one script call for all of them. A job without a slot goes back to
 * its waiting room; its pool is marked as waiting in Redis, so the next free slot wakes it. Source: design [15], [16].
 */
export async function reserve(admitted: readonly Admitted[], slots: SlotLeases): Promise<Split<Reserved>> {
  if (admitted.length === 0) return { on: [], off: [] };
  const answers = await slots.reserveBatch(
    admitted.map((one) => ({ jobId: one.identity.jobId, attempt: 1, pool: one.pool })),
  );
  const on: Reserved[] = [];
  const off: Exit[] = [];
  const placed = new Map<WaitingRoom, number>();
  for (const [one, answer] of answered(admitted, answers)) {
    if (answer.kind === 'got' || answer.kind === 'had') {
      on.push({ admitted: one, choice: answer, isTaken: answer.kind === 'got' });
      placed.set(one.arrival.room, (placed.get(one.arrival.room) ?? 0) + 1);
    } else off.push({ arrival: one.arrival, outcome: { kind: 'waiting' } });
  }
  for (const [room, count] of placed) room.placed(count);
  return { on, off };
}
