import { Duplex } from 'node:stream';
import type { ChannelModel } from 'amqplib';

/**
 * The only file that looks behind amqplib's public types (read in 2.3.1). Both functions look before they touch, and
 * do nothing when another version has another shape: the broker room then works the same, only slower or slower to end.
 */

/** The method of amqplib's multiplexer that hands the socket all frames that wait, one message at a time. */
const PUMP = '_readIncoming';

function socketOf(model: ChannelModel): Duplex | null {
  const connection: object = model.connection;
  return 'stream' in connection && connection.stream instanceof Duplex ? connection.stream : null;
}

function hasPump(value: unknown): value is Record<typeof PUMP, () => void> {
  return typeof value === 'object' && value !== null && PUMP in value && typeof value[PUMP] === 'function';
}

/**
 * Makes one socket write out of all frames that one turn of the event loop produced. With the socket corked around the
 * multiplexer's loop a batch of publishes, or a turn's acknowledgements, leaves in one `writev`. Returns false where it
 * could not be done.
 */
export function gatherWrites(model: ChannelModel): boolean {
  const connection: object = model.connection;
  const muxer = 'muxer' in connection ? connection.muxer : null;
  const socket = socketOf(model);
  if (socket === null || !hasPump(muxer)) return false;
  const pump = muxer[PUMP].bind(muxer);
  muxer[PUMP] = () => {
    socket.cork();
    try {
      pump();
    } finally {
      socket.uncork();
    }
  };
  return true;
}

/**
 * Ends the TCP connection with an error, which is how amqplib notices it. Left to itself it only half-closes, and after
 * a silent network cut the half that is left would keep the process alive until the kernel gives up.
 */
export function cutSocket(model: ChannelModel): void {
  socketOf(model)?.destroy(new Error('the broker did not answer'));
}
