import type { Arrival } from './types.ts';

/** In whose turn a job waits: its account's, or, as long as it is unread, its sender's. */
export function payerOf({ parsed, delivery }: Arrival): string {
  return parsed?.account ?? delivery.userId ?? '';
}
