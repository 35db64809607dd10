import { type Channel, type ChannelModel, connect } from 'amqplib';
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

/**
 * The same for many queues, one after the other on a connection that is there. A queue that does not exist is left out: its
 * question closes the channel, and the next one opens another. Rejects with StoreError when the connection goes.
 */
export async function countMessages(
  model: ChannelModel,
  queues: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const depths = new Map<string, number>();
  let channel: Channel | null = null;
  try {
    for (const queue of queues) {
      channel ??= await quietChannel(model);
      const { messageCount } = await channel.checkQueue(queue).catch((error: unknown) => {
        if (!isRefused(error)) throw error;
        channel = null;
        return { messageCount: null };
      });
      if (messageCount !== null) depths.set(queue, messageCount);
    }
    await channel?.close();
    return depths;
  } catch (error) {
    throw brokerError(error, 'counting messages');
  }
}

/** A refusal closes the channel; it also rejects the call, which is where it is handled. */
async function quietChannel(model: ChannelModel): Promise<Channel> {
  const channel = await model.createChannel();
  channel.on('error', () => {});
  return channel;
}

/** The broker refused the question itself. */
function isRefused(error: unknown): boolean {
  return brokerError(error, 'counting messages').code === 'TG_STORE_REJECTED';
}
