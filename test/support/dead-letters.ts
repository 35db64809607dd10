import { connect } from 'amqplib';
import { QUEUE } from '../../src/contracts/names.ts';
import type { World } from './world.ts';

/** A message that nobody could be answered for, and why. */
export interface DeadLetter {
  readonly body: Buffer;
  readonly reason: string;
  readonly field: string;
  readonly queue: string;
  readonly sender: string;
}

/** Takes everything off the queue `dead`, now and later, until the world closes; the list grows. */
export async function collectDeadLetters(tollgate: World): Promise<readonly DeadLetter[]> {
  const letters: DeadLetter[] = [];
  const connection = await connect(tollgate.servers.amqpUrl);
  tollgate.onClose(() => connection.close());
  const channel = await connection.createChannel();
  await channel.consume(
    QUEUE.dead,
    (message) => {
      if (message === null) return;
      const headers = message.properties.headers ?? {};
      const text = (name: string) => String(headers[`x-tollgate-${name}`] ?? '');
      letters.push({
        body: message.content,
        reason: text('reason'),
        field: text('field'),
        queue: text('queue'),
        sender: text('sender'),
      });
    },
    { noAck: true },
  );
  return letters;
}
