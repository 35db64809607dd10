/**
 * Every code that leaves Tollgate, in one table: what it means, and whether sending the same job again may help.
 * Docs (`docs/messages.md`) list the same codes; a test proves each is documented and used.
 * Values, not exceptions: a refusal travels as `Refusal` through the stages and ends as a reply.
 */
export const CODES = {
  // The message itself.
  TG_MESSAGE_NOT_JSON: { retryable: false, text: 'the body is not JSON' },
  TG_MESSAGE_TOO_LARGE: { retryable: false, text: 'the body is larger than 1 MiB' },
  TG_MESSAGE_TOO_DEEP: { retryable: false, text: 'the body is nested deeper than 32 levels' },
  TG_MESSAGE_FORBIDDEN_KEY: { retryable: false, text: 'the body has a key that is never accepted' },
  TG_MESSAGE_INVALID: { retryable: false, text: 'a field is missing, unknown or of the wrong type' },
  TG_MESSAGE_POISON: { retryable: false, text: 'a coordinator died over this message again and again' },
  // Who sent it and for whom.
  TG_SENDER_MISSING: { retryable: false, text: 'the message carries no user_id' },
  TG_SENDER_UNKNOWN: { retryable: false, text: 'the sender is not a registered publisher' },
  TG_REPLY_TO_FOREIGN: { retryable: false, text: "reply_to is not a queue of the sender's own" },
  TG_ACCOUNT_UNKNOWN: { retryable: false, text: 'no such account' },
  TG_ACCOUNT_NOT_ENTITLED: { retryable: false, text: 'the publisher may not spend for this account' },
  TG_NAMESPACE_UNKNOWN: { retryable: false, text: 'the account has no such namespace' },
  // The job.
  TG_JOB_ID_INVALID: { retryable: false, text: 'the job id is not a UUIDv7' },
  TG_JOB_ID_WINDOW: { retryable: false, text: 'the time in the job id is outside the accepted window' },
  TG_JOB_ID_REUSED: { retryable: false, text: 'this id was used before with another body' },
  TG_JOB_ID_IN_USE: { retryable: false, text: 'this id is in use' },
  TG_JOB_KEY_MISMATCH: {
    retryable: false,
    text: 'routing key, expiration or message_id disagree with the body',
  },
  TG_JOB_UNSUPPORTED: { retryable: false, text: 'this kind of job is not offered yet' },
  TG_JOB_LIMITS: { retryable: false, text: "a limit is beyond the model's" },
  TG_JOB_EXPIRED: { retryable: true, text: 'no worker was free within wait_ms' },
  TG_JOB_CANCELLED: { retryable: false, text: 'its client cancelled the job' },
  TG_CANCEL_LATE: { retryable: false, text: 'the job had ended before it could be cancelled' },
  TG_JOB_OUTPUT_EXPIRED: { retryable: false, text: 'the job ended and its output has been deleted' },
  TG_MODEL_UNKNOWN: { retryable: false, text: 'no such model' },
  TG_MODEL_NO_PRICE: { retryable: false, text: 'the model has no price, so it cannot be used' },
  TG_REGION_UNKNOWN: { retryable: false, text: 'no node is registered in this region' },
  TG_NO_NODE_FITS: { retryable: false, text: 'no registered node of this model meets the constraint' },
  TG_RATE_LIMITED: { retryable: true, text: 'too many jobs a second' },
  TG_OPEN_LOCKS: { retryable: true, text: 'too many jobs of the account are running' },
  TG_QUEUED_JOBS: { retryable: true, text: 'too many jobs of the account wait for a slot' },
  TG_PUBLISHER_CUT_OFF: { retryable: true, text: 'the publisher went on flooding and is cut off' },
  TG_POOLS_FULL: { retryable: true, text: 'too many pools with constraints are open' },
  TG_CREDIT_INSUFFICIENT: {
    retryable: true,
    text: 'the account has too little credit for the limits of this job',
  },
  TG_REPLY_DELAYED: {
    retryable: true,
    text: 'the queue for replies did not take the reply, which is tried again; the same job again gets its answer, too',
  },
  TG_REPLY_UNDELIVERED: {
    retryable: true,
    text: 'the reply could not be delivered; send the same job again to get its answer',
  },

  // The attempt.
  TG_NODE_UNREACHABLE: { retryable: true, text: "the node's queue is gone" },
  TG_NODE_FULL: { retryable: true, text: "the node's queue has no room" },
  TG_DISPATCH_LOST: { retryable: true, text: 'RabbitMQ was away before the worker took the job' },
  TG_START_OVERDUE: { retryable: true, text: 'the worker did not begin within the start window' },
  TG_FIRST_TOKEN_OVERDUE: { retryable: true, text: 'the worker gave no first token in time' },
  TG_NODE_DRAINED: { retryable: true, text: 'its node was taken out of service before the job ended' },
  TG_WORKER_LOST: { retryable: true, text: 'the worker stopped answering' },
  TG_JOB_OVERDUE: { retryable: true, text: 'the job did not end before its deadline' },
  TG_WORKER_ERROR: { retryable: true, text: 'the worker reported an error' },
  TG_WORKER_STOPPED: { retryable: true, text: 'the worker was stopped while it ran the job' },
  TG_INPUT_REFUSED: { retryable: false, text: 'the model does not take this input' },
  TG_OUTPUT_TOO_LARGE: { retryable: false, text: 'the answer is larger than a result may be' },
  TG_WORKER_STALE_SESSION: { retryable: true, text: 'the dispatch was for an earlier session of the worker' },
  // Results.
  TG_RESULT_INVALID: { retryable: false, text: 'the result is malformed' },
  TG_RESULT_SENDER: { retryable: false, text: 'the result does not come from the node it names' },
  TG_RESULT_SIGNATURE: { retryable: false, text: 'the signature of the result does not verify' },
  TG_RESULT_UNKNOWN_JOB: { retryable: false, text: 'there is no such job' },
  TG_RESULT_STALE: { retryable: false, text: 'the result is for another attempt, node or session' },
  TG_RESULT_LATE: { retryable: false, text: 'the job had already ended' },
  TG_RESULT_CONFLICT: { retryable: false, text: 'another result of this attempt was settled before' },
  TG_RESULT_USAGE: {
    retryable: false,
    text: 'the usage is beyond the limits of the job; the charge is capped',
  },
  TG_RESULT_MODEL: {
    retryable: false,
    text: 'the result names another version of the model than was asked for',
  },
  TG_RESULT_TOKENS: {
    retryable: false,
    text: 'the usage counts more output tokens than the output has bytes',
  },
  // The fleet.
  TG_FLEET_INVALID: { retryable: false, text: 'the fleet message is malformed' },
  TG_FLEET_SENDER: { retryable: false, text: 'the fleet message does not come from the node it names' },
  TG_FLEET_SIGNATURE: { retryable: false, text: 'the signature of the hello does not verify' },
  TG_FLEET_STALE_SESSION: { retryable: false, text: 'a newer session of this node is alive' },
  TG_FLEET_MODEL: { retryable: false, text: 'the node is not registered for a model that its worker offers' },
  // Operators and stores.
  TG_CONFIG_INVALID: { retryable: false, text: 'the configuration has faults' },
  TG_STORE_UNAVAILABLE: { retryable: true, text: 'a server did not answer in time' },
  TG_STORE_REJECTED: { retryable: false, text: 'a server refused the request' },
  TG_SCHEMA_MISMATCH: { retryable: false, text: 'the database schema is not the one this version needs' },
  TG_LEASE_LOST: { retryable: false, text: 'another coordinator has taken this work over' },
  TG_SPOOL_FULL: { retryable: true, text: 'MongoDB is away and the spool queue is full' },
  TG_SETUP_MISSING: { retryable: false, text: 'a server is missing and cannot be installed here' },
  TG_CLI_USAGE: { retryable: false, text: 'the command line is wrong' },
  TG_INTERNAL_ERROR: { retryable: true, text: 'an error nobody expected; the log says more' },
  TG_HTTP_METHOD: { retryable: false, text: 'this path does not take that method' },
  TG_NOT_FOUND: { retryable: false, text: 'there is no such record' },
  TG_ALREADY_EXISTS: { retryable: false, text: 'a record of that name exists' },
} as const satisfies Record<`TG_${string}`, { retryable: boolean; text: string }>;

/** One of the codes above. */
export type Code = keyof typeof CODES;

/** A coded no to a sender: `field` names what to change, `message` says how. Never contains a prompt or an answer. */
export interface Refusal {
  readonly code: Code;
  readonly field: string | null;
  readonly message: string;
}

/** Makes a refusal; `detail` follows the code's own text. */
export function refusal(code: Code, field: string | null = null, detail = ''): Refusal {
  return { code, field, message: detail === '' ? CODES[code].text : `${CODES[code].text}: ${detail}` };
}

/** Base of everything Tollgate throws; `code` is stable, `cause` is kept. */
export class TollgateError extends Error {
  readonly code: Code;
  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(`${code}: ${message}`, options);
    this.code = code;
    this.name = new.target.name;
  }
}

/** A server was away, slow or restarted: the same call with the same ids may be made again. */
export class StoreError extends TollgateError {
  readonly store: 'postgres' | 'redis' | 'rabbitmq' | 'mongodb';
  constructor(store: StoreError['store'], message: string, options?: { cause?: unknown }) {
    super('TG_STORE_UNAVAILABLE', `${store}: ${message}`, options);
    this.store = store;
  }
}

/** A server's own no: the same request will get it again. */
export function isRefusal(error: unknown): error is TollgateError {
  return error instanceof TollgateError && error.code === 'TG_STORE_REJECTED';
}

/** The configuration is wrong; `faults` lists all of them, one line each. The process refuses to start. */
export class ConfigError extends TollgateError {
  readonly faults: readonly string[];
  constructor(faults: readonly string[]) {
    super('TG_CONFIG_INVALID', faults.join('\n'));
    this.faults = faults;
  }
}

/** A programmer's error or a broken promise: never caught, the process stops and is restarted. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/** Throws `InvariantError` unless `condition` holds. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
