import { connect } from 'amqplib';
import { brokerError } from './amqp-errors.ts';
import { cutSocket } from './amqplib-internals.ts';

/**
 * How many messages wait in `queue`, those in a consumer's hands not counted, asked on a connection of its own that is closed
 * again. Rejects with StoreError when the broker is away and `TG_STORE_REJECTED` when there is no such queue.
 */
export async function queueDepth(
  broker: { readonly url: string; readonly connectTimeoutMs: number },
  queue: string,
): Promise<number> {
  try {
    const model = await connect(broker.url, { timeout: broker.connectTimeoutMs });
    // A fault of the connection also rejects the call that waits for it.
    model.on('error', () => {});
    try {
      const channel = await model.createChannel();
      channel.on('error', () => {});
      const { messageCount } = await channel.checkQueue(queue);
      return messageCount;
    } finally {
      await model.close().catch(() => cutSocket(model));
    }
  } catch (error) {
    throw brokerError(error, `counting ${queue}`);
  }
}
