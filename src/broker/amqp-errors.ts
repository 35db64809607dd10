import { StoreError, TollgateError } from '../errors.ts';

/** AMQP reply codes that repeating the same request cannot cure: access refused, not found, locked, precondition, not allowed. */
const REFUSALS = new Set([403, 404, 405, 406, 530, 540]);

function replyCode(error: unknown): number | null {
  if (typeof error !== 'object' || error === null || !('code' in error)) return null;
  return typeof error.code === 'number' ? error.code : null;
}

/** What an error says, for a log line: amqplib's errors carry the broker's own text and no message content. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The length that a queue was made with, where the broker refuses a declaration because it names another one; null: it does not. */
export function lengthInstead(error: unknown): { readonly argument: string; readonly value: number } | null {
  const [, argument, value] =
    /inequivalent arg '(x-max-length(?:-bytes)?)'.* current is '(\d+)'/.exec(textOf(error)) ?? [];
  return argument === undefined ? null : { argument, value: Number(value) };
}

/** True where the connection has as many channels as the broker allows: amqplib opens no more, and says so in these words. */
export function isOutOfChannels(error: unknown): boolean {
  return textOf(error).startsWith('No channels left');
}

/**
 * Turns what amqplib threw into ours: `TollgateError` `TG_STORE_REJECTED` when the broker refused the request itself,
 * else `StoreError`, after which the same call may be made again. The broker's text is kept.
 */
export function brokerError(error: unknown, doing: string): TollgateError {
  if (error instanceof TollgateError) return error;
  const code = replyCode(error);
  const message = `${doing}: ${textOf(error)}`;
  if (code !== null && REFUSALS.has(code)) {
    return new TollgateError('TG_STORE_REJECTED', `rabbitmq: ${message}`, { cause: error });
  }
  return new StoreError('rabbitmq', message, { cause: error });
}
