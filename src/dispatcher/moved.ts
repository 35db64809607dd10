import type { Delivery, OutMessage } from '../broker/types.ts';
import { EXCHANGE, SENDER_HEADER } from '../contracts/names.ts';

/**
 * The job of a delivery that came by `jobs.unroutable`, for its pool's own queue: returned while there is none. There it has its
 * `wait_ms` from the start; it came here a moment ago. The broker lets nobody publish in another user's name, so the sender
 * goes in a header.
 */
export function movedMessage(delivery: Delivery): OutMessage {
  const { userId, traceparent, expiration, correlationId, replyTo } = delivery;
  return {
    exchange: EXCHANGE.moved,
    routingKey: delivery.routingKey,
    body: delivery.body,
    messageId: delivery.messageId ?? '',
    correlationId: correlationId ?? undefined,
    replyTo: replyTo ?? undefined,
    expirationMs: Number(expiration),
    headers: {
      ...(userId === null ? {} : { [SENDER_HEADER]: userId }),
      ...(traceparent === null ? {} : { traceparent }),
    },
    mandatory: true,
  };
}
