import type { Delivery, OutMessage } from '../broker/types.ts';
import { QUEUE } from '../contracts/names.ts';
import type { Refusal } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';

/** The message that keeps `delivery` in the dead-letter queue: its bytes untouched, why, where it came from and by whom. */
export function deadLetter(
  delivery: Pick<Delivery, 'body' | 'messageId' | 'queue' | 'userId'>,
  why: Refusal,
): OutMessage {
  return {
    exchange: '',
    routingKey: QUEUE.dead,
    body: delivery.body,
    messageId: delivery.messageId ?? newUuidV7(),
    headers: {
      'x-tollgate-reason': why.code,
      'x-tollgate-field': why.field ?? '',
      'x-tollgate-queue': delivery.queue,
      'x-tollgate-sender': delivery.userId ?? '',
    },
    mandatory: true,
  };
}
