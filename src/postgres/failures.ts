import { StoreError, TollgateError } from '../errors.ts';

/**
 * PostgreSQL refused the statement itself: the same call would be refused again. `sqlState` tells why: class 22 and 23 are
 * about the values of a row, 42501 is a missing right, P0002 a record that is not there.
 */
export class SqlRejection extends TollgateError {
  readonly sqlState: string;
  constructor(sqlState: string, message: string, options?: { cause?: unknown }) {
    super('TG_STORE_REJECTED', message, options);
    this.sqlState = sqlState;
  }

  /** True when some value of a row is at fault, so that the other rows of the batch may pass without it. */
  get isAboutValues(): boolean {
    return this.sqlState.startsWith('22') || this.sqlState.startsWith('23');
  }
}

/** Lost connections (08), shutdown and start (57P), no room (53), read-only after a failover, statement and lock timeouts. */
const TRANSIENT = /^(?:08...|57P..|53...|25006|57014|55P03)$/;
/** Serialization failure and deadlock: the transaction is gone as if it had never been. */
const REPEATABLE = /^(?:40001|40P01)$/;

function field(error: unknown, name: 'code' | 'message' | 'severity'): string | null {
  const value: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, name) : null;
  return typeof value === 'string' ? value : null;
}

function sqlStateOf(error: unknown): string | null {
  return field(error, 'severity') === null ? null : field(error, 'code');
}

/** True when the whole statement may be sent again at once. */
export function isRepeatable(error: unknown): boolean {
  return REPEATABLE.test(sqlStateOf(error) ?? '');
}

/** True when the connection that failed can still be used: the server said no to one statement and went on. */
export function keepsConnection(error: unknown): boolean {
  return field(error, 'severity') === 'ERROR';
}

/** What the driver threw, as ours. The server's detail is left out: it quotes values. */
export function failureOf(error: unknown): StoreError | SqlRejection {
  const sqlState = sqlStateOf(error);
  const message = field(error, 'message') ?? 'unknown failure';
  if (sqlState === null || TRANSIENT.test(sqlState) || REPEATABLE.test(sqlState))
    return new StoreError('postgres', sqlState === null ? message : `${message} (${sqlState})`, {
      cause: error,
    });
  return new SqlRejection(sqlState, `${message} (${sqlState})`, { cause: error });
}
