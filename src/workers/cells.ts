import { StoreError } from '../errors.ts';
import type { FleetRedis } from './redis.ts';

/**
 * Asks all cells at once; null stands for one that does not answer, because its node of a Redis Cluster is away. Throws the first
 * StoreError when none answers, and whatever else is thrown.
 */
export async function askCells<T>(
  redis: Pick<FleetRedis, 'cells'>,
  ask: (cell: number) => Promise<T>,
): Promise<(T | null)[]> {
  const asked = Array.from({ length: redis.cells }, (_, cell) => ask(cell));
  const outcomes = await Promise.allSettled(asked);
  const failed = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason);
  const fault = failed.find((reason) => !(reason instanceof StoreError));
  if (fault !== undefined || failed.length === redis.cells) throw fault ?? failed[0];
  return outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : null));
}
