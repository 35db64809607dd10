import type { JobMessage } from '../contracts/job.ts';
import { jobKey, publisherUser } from '../contracts/names.ts';
import type { FinalState } from '../contracts/reply.ts';
import type { Code } from '../errors.ts';
import { newUuidV7, uuidV7TimeMs } from '../ids.ts';
import type { World } from './world.ts';

/** How a message has to end. `dead`: nobody is answered, it is kept in the queue `dead` with its code. */
export interface Expected {
  readonly state: FinalState | 'dead';
  readonly code: Code | null;
  /** What the answer names as wrong; null where there is nothing to name. */
  readonly field: string | null;
  /** State of its job's row in PostgreSQL at the end; null: it has none. */
  readonly row: Exclude<FinalState, 'cancelled'> | null;
}

/** A message as it is about to be published. */
export interface Draft {
  readonly body: Buffer;
  readonly routingKey: string;
  readonly messageId: string;
  readonly expirationMs: number;
  readonly replyTo: string;
  /** Whose connection it goes out on: its publisher's, the same without a `user_id`, or a user's that Tollgate does not know. */
  readonly sender: 'publisher' | 'anonymous' | 'stranger';
}

/** One way of being wrong. */
export interface Flaw {
  /**
   * `malformed`: bytes and fields. `misaddressed`: envelope, sender, account. `refused`: a good message that asks for what
   * there is not, which is remembered.
   */
  readonly group: 'malformed' | 'misaddressed' | 'refused';
  readonly expected: Expected;
  /** Replaces the id of the job; it was made now. */
  readonly id?: (id: string) => string;
  /** The body to send instead: bytes, or a value to be written as JSON. */
  readonly body?: (job: JobMessage, world: World) => unknown;
  readonly envelope?: (draft: Draft, job: JobMessage, world: World) => Partial<Draft>;
}

const DAY_MS = 86_400_000;

function refused(code: Code, field: string | null, row: Expected['row'] = null): Expected {
  return { state: 'refused', code, field, row };
}

function dead(code: Code, field: string): Expected {
  return { state: 'dead', code, field, row: null };
}

function malformed(code: Code, field: string, body: (job: JobMessage) => unknown): Flaw {
  return { group: 'malformed', expected: refused(code, field), body };
}

/** Moves the time inside a UUIDv7. */
function aged(id: string, byMs: number): string {
  const nowMs = uuidV7TimeMs(id) - byMs;
  return newUuidV7({ nowMs: () => nowMs, monotonicMs: () => 0 });
}

function nested(levels: number): unknown {
  return levels === 0 ? 'deep' : [nested(levels - 1)];
}

/** A publisher, by its broker user, that does not send for `account`. */
function foreignUser(account: string, { publishers }: World): string {
  const other = publishers.find(({ accounts }) => !accounts.includes(account));
  return publisherUser(other?.name ?? '');
}

/** An account that whoever sends for `account` may not spend for. */
function foreignAccount(account: string, { publishers }: World): string {
  const own = publishers.filter(({ accounts }) => accounts.includes(account));
  const entitled = new Set(own.flatMap(({ accounts }) => accounts));
  return publishers.flatMap(({ accounts }) => accounts).find((name) => !entitled.has(name)) ?? '';
}

/** Every flaw and the answer it has to get. Source: docs/messages.md. */
export const FLAWS = {
  not_json: malformed('TG_MESSAGE_NOT_JSON', 'body', () => Buffer.from('Please summarise this text for me.')),
  not_utf8: malformed('TG_MESSAGE_NOT_JSON', 'body', () => Buffer.from('{"v":1,"id":"\xff"}', 'latin1')),
  cut_off: malformed('TG_MESSAGE_NOT_JSON', 'body', (job) => Buffer.from(JSON.stringify(job).slice(0, -2))),
  too_large: malformed('TG_MESSAGE_TOO_LARGE', 'body', (job) => ({
    ...job,
    input: { messages: [{ role: 'user', content: 'much '.repeat(220_000) }] },
  })),
  too_deep: malformed('TG_MESSAGE_TOO_DEEP', 'body', (job) => ({ ...job, input: nested(40) })),
  forbidden_key: malformed('TG_MESSAGE_FORBIDDEN_KEY', '__proto__', (job) =>
    Buffer.from(JSON.stringify(job).replace('{', '{"__proto__":{"isAdmin":true},')),
  ),
  unknown_field: malformed('TG_MESSAGE_INVALID', 'colour', (job) => ({ ...job, colour: 'blue' })),
  missing_field: malformed('TG_MESSAGE_INVALID', 'namespace', (job) => ({ ...job, namespace: undefined })),
  wrong_type: malformed('TG_MESSAGE_INVALID', 'limits.timeout_ms', (job) => ({
    ...job,
    limits: { ...job.limits, timeout_ms: '60000' },
  })),
  no_messages: malformed('TG_MESSAGE_INVALID', 'input.messages', (job) => ({
    ...job,
    input: { messages: [] },
  })),
  kind_not_offered: malformed('TG_JOB_UNSUPPORTED', 'kind', (job) => ({ ...job, kind: 'image' })),
  stream_not_offered: malformed('TG_JOB_UNSUPPORTED', 'stream', (job) => ({ ...job, stream: true })),
  subcloud_not_offered: malformed('TG_JOB_UNSUPPORTED', 'constraints.subcloud', (job) => ({
    ...job,
    constraints: { ...job.constraints, subcloud: 'lab' },
  })),
  id_not_v7: {
    group: 'malformed',
    expected: refused('TG_JOB_ID_INVALID', 'id'),
    // The version digit: 4 says random, not time.
    id: (id) => `${id.slice(0, 14)}4${id.slice(15)}`,
  },
  id_too_old: {
    group: 'malformed',
    expected: refused('TG_JOB_ID_WINDOW', 'id'),
    id: (id) => aged(id, 8 * DAY_MS),
  },
  wrong_key: {
    group: 'misaddressed',
    expected: refused('TG_JOB_KEY_MISMATCH', 'routing_key'),
    envelope: (_draft, { model, priority }) => ({
      routingKey: jobKey(model, priority === 'batch' ? 'interactive' : 'batch'),
    }),
  },
  key_to_nowhere: {
    group: 'misaddressed',
    expected: refused('TG_JOB_KEY_MISMATCH', 'routing_key'),
    envelope: () => ({ routingKey: 'nowhere' }),
  },
  wrong_expiration: {
    group: 'misaddressed',
    expected: refused('TG_JOB_KEY_MISMATCH', 'expiration'),
    envelope: ({ expirationMs }) => ({ expirationMs: expirationMs + 1 }),
  },
  wrong_message_id: {
    group: 'misaddressed',
    expected: refused('TG_JOB_KEY_MISMATCH', 'message_id'),
    envelope: () => ({ messageId: newUuidV7() }),
  },
  no_sender: {
    group: 'misaddressed',
    expected: dead('TG_SENDER_MISSING', 'user_id'),
    envelope: () => ({ sender: 'anonymous' }),
  },
  unknown_sender: {
    group: 'misaddressed',
    expected: dead('TG_SENDER_UNKNOWN', 'user_id'),
    envelope: () => ({ sender: 'stranger' }),
  },
  foreign_reply_to: {
    group: 'misaddressed',
    expected: dead('TG_REPLY_TO_FOREIGN', 'reply_to'),
    envelope: (_draft, { account }, world) => ({ replyTo: `reply.${foreignUser(account, world)}` }),
  },
  unknown_account: {
    group: 'misaddressed',
    expected: refused('TG_ACCOUNT_UNKNOWN', 'account'),
    body: (job) => ({ ...job, account: 'nobody' }),
  },
  not_entitled: {
    group: 'misaddressed',
    expected: refused('TG_ACCOUNT_NOT_ENTITLED', 'account'),
    body: (job, world) => ({ ...job, account: foreignAccount(job.account, world) }),
  },
  unknown_namespace: {
    group: 'misaddressed',
    expected: refused('TG_NAMESPACE_UNKNOWN', 'namespace'),
    body: (job) => ({ ...job, namespace: `${job.account}/attic` }),
  },
  unknown_model: {
    group: 'refused',
    expected: refused('TG_MODEL_UNKNOWN', 'model', 'refused'),
    body: (job, { unheardOf }) => ({ ...job, model: unheardOf }),
    envelope: (_draft, { priority }, { unheardOf }) => ({ routingKey: jobKey(unheardOf, priority) }),
  },
  no_price: {
    group: 'refused',
    expected: refused('TG_MODEL_NO_PRICE', 'model', 'refused'),
    body: (job, { unpriced }) => ({ ...job, model: unpriced.name }),
    envelope: (_draft, { priority }, { unpriced }) => ({ routingKey: jobKey(unpriced.name, priority) }),
  },
  over_input_limit: {
    group: 'refused',
    expected: refused('TG_JOB_LIMITS', 'limits.input_tokens_max', 'refused'),
    body: (job) => ({ ...job, limits: { ...job.limits, input_tokens_max: 5_000_000 } }),
  },
  over_output_limit: {
    group: 'refused',
    expected: refused('TG_JOB_LIMITS', 'limits.output_tokens_max', 'refused'),
    body: (job) => ({ ...job, limits: { ...job.limits, output_tokens_max: 5_000_000 } }),
  },
  over_timeout: {
    group: 'refused',
    expected: refused('TG_JOB_LIMITS', 'limits.timeout_ms', 'refused'),
    body: (job) => ({ ...job, limits: { ...job.limits, timeout_ms: 3_600_000 } }),
  },
  over_wait: {
    group: 'malformed',
    expected: refused('TG_JOB_LIMITS', 'limits.wait_ms'),
    body: (job) => ({ ...job, limits: { ...job.limits, wait_ms: 86_400_000 } }),
    envelope: () => ({ expirationMs: 86_400_000 }),
  },
} as const satisfies Record<string, Flaw>;

/** Name of one flaw. */
export type FlawName = keyof typeof FLAWS;

function isFlawName(name: string): name is FlawName {
  return Object.hasOwn(FLAWS, name);
}

/** The flaws of one group, in the order above. */
export function flawsOf(group: Flaw['group']): readonly FlawName[] {
  return Object.keys(FLAWS)
    .filter(isFlawName)
    .filter((name) => FLAWS[name].group === group);
}

/** Spoils a message. Without a flaw it stays as it is. */
export function spoiled(draft: Draft, job: JobMessage, flaw: Flaw | null, world: World): Draft {
  if (flaw === null) return draft;
  const body = flaw.body === undefined ? draft.body : flaw.body(job, world);
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
  return { ...draft, body: bytes, ...flaw.envelope?.(draft, job, world) };
}
