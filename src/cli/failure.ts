import { CommanderError } from 'commander';
import { type Code, ConfigError, TollgateError } from '../errors.ts';

/** Exit statuses of every command; documented in docs/commands.md. */
export const EXIT = {
  ok: 0,
  /** The command ran and something is wrong: an invariant is broken, a job failed, an error nobody expected. */
  failed: 1,
  /** The command line or the configuration is wrong. */
  usage: 2,
  /** A server is away, or did not answer in time. */
  unavailable: 3,
  /** There is no such record, or the request was refused. */
  refused: 4,
} as const;

const STATUS: Readonly<Partial<Record<Code, number>>> = {
  TG_CLI_USAGE: EXIT.usage,
  TG_CONFIG_INVALID: EXIT.usage,
  TG_STORE_UNAVAILABLE: EXIT.unavailable,
  TG_SETUP_MISSING: EXIT.unavailable,
  TG_NOT_FOUND: EXIT.refused,
  TG_ALREADY_EXISTS: EXIT.refused,
};

/** What to do about a fault, where there is something general to say. */
const ADVICE: Readonly<Partial<Record<Code, string>>> = {
  TG_CLI_USAGE: 'add --help to the command for its options and examples',
  TG_CONFIG_INVALID: 'docs/configuration.md lists every setting',
  TG_STORE_UNAVAILABLE:
    'check that the server runs and that its URL is right; tollgate doctor tries them all',
  TG_SCHEMA_MISMATCH: 'run tollgate migrate',
  TG_SETUP_MISSING: 'run tollgate doctor',
};

/** A failure as it is shown: on standard error, and as `{"error": …}` where JSON was asked for. */
export interface Failure {
  readonly code: Code;
  /** One line, or for a configuration one line per fault. */
  readonly message: string;
  readonly advice: string | null;
  readonly status: number;
}

function failure(code: Code, message: string, advice = ADVICE[code] ?? null): Failure {
  return { code, message, advice, status: STATUS[code] ?? EXIT.failed };
}

/** Turns whatever a command threw into what its user is told. Driver errors arrive as StoreError and keep their text. */
export function failureOf(error: unknown): Failure {
  if (error instanceof CommanderError)
    return failure(
      'TG_CLI_USAGE',
      error.message
        .replace(/^error: /, '')
        .replaceAll('\n', ' ')
        .trim(),
    );
  if (error instanceof ConfigError) return failure(error.code, error.faults.join('\n'));
  if (error instanceof TollgateError) return failure(error.code, error.message.slice(error.code.length + 2));
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return failure(
    'TG_INTERNAL_ERROR',
    text,
    'this is a fault of Tollgate; please report it with the command you typed',
  );
}

/** Throws the error of a wrong command line; `field` is the option or argument. */
export function usageFault(field: string, message: string): never {
  throw new TollgateError('TG_CLI_USAGE', `${field}: ${message}`);
}
