import { type DestinationStream, pino } from 'pino';
import type { Config } from '../config-schema.ts';
import { TollgateError } from '../errors.ts';
import { redactUrls } from '../redact.ts';
import type { Log } from './types.ts';

/** Longest text value of a log line; prompts and answers have no business here, and a message needs no more. */
const TEXT_LENGTH_MAX = 300;
/** Most elements of an array that are written. */
const ITEMS_MAX = 32;
/** Stack frames kept of an unexpected error. */
const FRAMES_MAX = 8;

/** Names under which content travels elsewhere: such a field is never written, whatever it holds. */
const CONTENT_FIELDS: ReadonlySet<string> = new Set([
  'answer',
  'body',
  'content',
  'completion',
  'digestKey',
  'input',
  'messages',
  'output',
  'password',
  'prompt',
  'secret',
  'signature',
  'text',
]);

function cut(text: string): string {
  const shown = redactUrls(text);
  return shown.length <= TEXT_LENGTH_MAX ? shown : `${shown.slice(0, TEXT_LENGTH_MAX)}…`;
}

/**
 * An error without content: class, code, the first line of its message, frames, and the same of its cause. The message of
 * a SyntaxError is left out, because `JSON.parse` quotes what it could not read.
 */
function errorFields(error: Error): object {
  const code: unknown = 'code' in error ? error.code : undefined;
  const [firstLine = ''] = error.message.split('\n');
  const isOurs = error instanceof TollgateError;
  const frames = error.stack?.split('\n').filter((line) => line.startsWith('    at ')) ?? [];
  return {
    name: error.name,
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    ...(error instanceof SyntaxError ? {} : { message: cut(firstLine) }),
    ...(isOurs ? {} : { frames: frames.slice(0, FRAMES_MAX).map((line) => line.trim()) }),
    ...(error.cause instanceof Error ? { cause: errorFields(error.cause) } : {}),
  };
}

/** What may be written of a value: numbers, truth values, short texts, errors, and one level of lists and objects of them. */
function loggable(name: string, value: unknown, depth: number): unknown {
  if (CONTENT_FIELDS.has(name)) return '[not logged]';
  if (typeof value === 'string') return cut(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return typeof value === 'function' ? '[function]' : value;
  if (value instanceof Error) return errorFields(value);
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth === 0) return '[nested]';
  if (Array.isArray(value)) return value.slice(0, ITEMS_MAX).map((item) => loggable(name, item, depth - 1));
  return safeFields(value, depth - 1);
}

/** The fields as they may be written: no content, no passwords, bounded in size and depth. */
export function safeFields(fields: object, depth = 2): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, loggable(name, value, depth)]),
  );
}

type Level = 'debug' | 'info' | 'warn' | 'error';

/** Wraps one pino logger; fields are cleaned only for levels that are written. */
class PinoLog implements Log {
  readonly #pino: pino.Logger;

  constructor(logger: pino.Logger) {
    this.#pino = logger;
  }

  debug(fields: object, message: string): void {
    this.#write('debug', fields, message);
  }
  info(fields: object, message: string): void {
    this.#write('info', fields, message);
  }
  warn(fields: object, message: string): void {
    this.#write('warn', fields, message);
  }
  error(fields: object, message: string): void {
    this.#write('error', fields, message);
  }
  child(fields: object): Log {
    return new PinoLog(this.#pino.child(safeFields(fields)));
  }

  #write(level: Level, fields: object, message: string): void {
    if (this.#pino.isLevelEnabled(level)) this.#pino[level](safeFields(fields), cut(message));
  }
}

/**
 * Makes the process's log: one JSON object per line with `level`, `time` (ISO 8601), `pid`, `msg` and the fields. Written
 * synchronously to standard output unless `destination` says otherwise (2 is standard error), so that the last line before
 * a crash is there. Errors passed as a field are written without content.
 */
export function createLog(config: Config['log'], destination: 1 | 2 | DestinationStream = 1): Log {
  const stream =
    typeof destination === 'number' ? pino.destination({ dest: destination, sync: true }) : destination;
  const options = {
    level: config.level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return new PinoLog(pino(options, stream));
}
