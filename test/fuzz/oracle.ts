import { createPublicKey, verify } from 'node:crypto';
import type { Known } from '../../src/dispatcher/types.ts';
import type { FleetMessage } from '../../src/contracts/fleet.ts';
import type { ResultMessage } from '../../src/contracts/result.ts';
import { flushBytes, helloBytes } from '../../src/contracts/signed-bytes.ts';
import type { CancelRequest } from '../../src/ledger/types.ts';
import type { Node } from '../../src/network/types.ts';
import type { Input } from './input.ts';

/**
 * What must be true of a message that was accepted, written by hand and apart from the schemas and from the code that judges. Each
 * function says what is wrong, or null.
 */
const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The bodies that may come at all. */
const BYTES_MAX = 1_048_576;
const DEPTH_MAX = 32;

/** `value[name]` where `value` is an object that has it itself. */
function at(value: unknown, name: string): unknown {
  const isThere = typeof value === 'object' && value !== null && Object.hasOwn(value, name);
  return isThere ? Reflect.get(value, name) : undefined;
}

function isWhole(value: unknown, min: number, max: number): boolean {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max;
}

/** The object that the bytes say, read without any of our parsers. Throws if they are none. */
function treeOf(body: Buffer): object {
  const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('no object');
  return value;
}

/** Depth, and whether a key `__proto__` stands anywhere. */
function formFault(value: unknown, depth = 1): string | null {
  if (typeof value !== 'object' || value === null) return null;
  if (depth > DEPTH_MAX) return 'it is too deep';
  for (const [key, child] of Object.entries(value)) {
    if (key === '__proto__') return 'it has a key __proto__';
    const below = formFault(child, depth + 1);
    if (below !== null) return below;
  }
  return null;
}

function bytesFault(body: Buffer): string | null {
  if (body.length > BYTES_MAX) return `${body.length} bytes`;
  try {
    return formFault(treeOf(body));
  } catch (error) {
    return String(error);
  }
}

/** The names that an object has and may not have, or lacks. */
function keysFault(value: unknown, must: readonly string[], may: readonly string[] = []): string | null {
  if (typeof value !== 'object' || value === null) return 'an object is missing';
  const keys = Object.keys(value);
  const unknown = keys.find((key) => !must.includes(key) && !may.includes(key));
  if (unknown !== undefined) return `unknown field ${JSON.stringify(unknown)}`;
  const missing = must.find((key) => !Object.hasOwn(value, key));
  return missing === undefined ? null : `missing field ${missing}`;
}

const LIMITS = {
  input_tokens_max: 1_000,
  output_tokens_max: 500,
  timeout_ms: 60_000,
  wait_ms: 86_400_000,
  attempts_max: 10,
} as const;

function limitsFault(limits: unknown): string | null {
  const fault = keysFault(limits, Object.keys(LIMITS));
  if (fault !== null) return fault;
  for (const [name, max] of Object.entries(LIMITS))
    if (!isWhole(at(limits, name), 1, max)) return `limit ${name}`;
  return null;
}

function isShare(value: unknown, max: number): boolean {
  return value === undefined || (typeof value === 'number' && value >= 0 && value <= max);
}

function inputFault(input: unknown): string | null {
  const fault = keysFault(input, ['messages'], ['temperature', 'top_p', 'seed', 'stop']);
  if (fault !== null) return fault;
  const messages = at(input, 'messages');
  if (!Array.isArray(messages) || messages.length === 0 || messages.length > 1_000) return 'messages';
  for (const message of messages) {
    const wrong = keysFault(message, ['role', 'content']);
    if (wrong !== null) return wrong;
    const [role, content] = [at(message, 'role'), at(message, 'content')];
    if (!['system', 'user', 'assistant', 'tool'].includes(String(role)) || typeof content !== 'string')
      return 'a message';
  }
  return isShare(at(input, 'temperature'), 2) && isShare(at(input, 'top_p'), 1)
    ? null
    : 'temperature or top_p';
}

/** What is wrong with a job that was admitted, or with what the arbiter is to remember of it. */
export function jobFault(
  { body, envelope, source, routingKey }: Input,
  { job, identity, account, publisher }: Known,
): string | null {
  const bytes = bytesFault(body);
  if (bytes !== null) return bytes;
  const said = treeOf(body);
  if (envelope.userId !== 'p-web' || publisher.name !== 'web') return 'the sender may not spend';
  if (at(said, 'account') !== 'acme' || account.id !== 1 || at(said, 'namespace') !== 'acme/prod')
    return 'the account';
  if (at(said, 'v') !== 1 || at(said, 'kind') !== 'chat' || at(said, 'stream') !== false)
    return 'v, kind or stream';
  const id = at(said, 'id');
  if (
    typeof id !== 'string' ||
    !UUID_V7.test(id) ||
    id !== envelope.messageId ||
    id !== identity.jobId ||
    id !== job.id
  )
    return 'the id';
  const key = `${String(at(said, 'model'))}.${String(at(said, 'priority'))}`;
  if (source === 'pool' && routingKey !== key) return 'the routing key';
  if (!['interactive', 'batch'].includes(String(at(said, 'priority')))) return 'the priority';
  const { expiration, replyTo } = envelope;
  const wait = at(at(said, 'limits'), 'wait_ms');
  if (source !== 'expired' && expiration !== String(wait)) return 'the expiration';
  if (at(said, 'priority') === 'interactive' && Number(wait) > 600_000) return 'wait_ms';
  if (replyTo !== undefined && replyTo !== 'reply.p-web' && !replyTo.startsWith('reply.p-web.'))
    return 'reply_to';
  return identityFault(identity) ?? inputFault(at(said, 'input'));
}

/** What PostgreSQL is to keep must be something that it can keep. */
function identityFault(identity: Known['identity']): string | null {
  const { replyTo, correlationId, traceparent, digest } = identity;
  if ([replyTo, correlationId, traceparent].some((text) => text?.includes('\0')))
    return 'a zero byte that PostgreSQL cannot hold';
  if (traceparent !== null && !TRACEPARENT.test(traceparent)) return 'a traceparent that is none';
  return digest.length === 32 ? null : 'the digest';
}

/** What is wrong with a job that may run. */
export function admittedFault(input: Input, known: Known): string | null {
  if (known.model?.model !== 'small' || known.job.model !== 'small') return 'the model';
  return jobFault(input, known) ?? limitsFault(at(treeOf(input.body), 'limits'));
}

/** What is wrong with a cancellation that PostgreSQL is asked for. */
export function cancelFault({ body, envelope }: Input, request: CancelRequest): string | null {
  const bytes = bytesFault(body);
  if (bytes !== null) return bytes;
  const said = treeOf(body);
  if (envelope.userId !== 'p-web' || request.publisherId !== 5)
    return 'the sender may not speak for the account';
  if (at(said, 'account') !== 'acme' || at(said, 'namespace') !== 'acme/prod') return 'the account';
  if (request.accountId !== 1 || request.namespaceId !== 3) return 'the ids of the account';
  const id = at(said, 'id');
  if (typeof id !== 'string' || !UUID_V7.test(id) || id !== request.jobId) return 'the id';
  return keysFault(said, ['v', 'id', 'account', 'namespace']);
}

/** What a result claims under its digest; a text counts as the bytes that travel. */
function claimOf(result: ResultMessage): string {
  const { job, attempt, node, session, model_version, status, usage, timing } = result;
  const content = result.output?.text ?? result.error?.code;
  const tokens = [usage.input_tokens, usage.output_tokens];
  return JSON.stringify([
    job,
    attempt,
    node,
    session,
    model_version,
    status,
    tokens,
    timing.total_ms,
    content,
  ]);
}

function rawKey(raw: Buffer) {
  return createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') },
    format: 'jwk',
  });
}

/** What is wrong with a result that may settle a job. `node`: who is registered under the name it gives. */
export function resultFault(
  { body, envelope, original, isStrict }: Input,
  result: ResultMessage,
  node: Node | undefined,
): string | null {
  const bytes = bytesFault(body);
  if (bytes !== null) return bytes;
  if (node === undefined || envelope.userId !== `n-${result.node}`) return 'it does not come from its node';
  if ((result.status === 'completed') !== (result.output !== null)) return 'output';
  if ((result.status === 'failed') !== (result.error !== null)) return 'error';
  if (!isWhole(result.usage.output_tokens, 0, 100_000_000) || !isWhole(result.attempt, 1, 100))
    return 'a number';
  if (!result.flush.digests.includes(result.digest)) return 'its flush does not list it';
  const good: ResultMessage = JSON.parse(original);
  if (result.digest === good.digest && claimOf(result) !== claimOf(good))
    return 'another claim under the same digest';
  if (!isStrict) return null;
  const signed = flushBytes(result.node, result.session, result.flush.digests);
  const signature = Buffer.from(result.flush.signature, 'base64');
  return verify(null, signed, rawKey(node.publicKey), signature) ? null : 'its signature does not verify';
}

/** What is wrong with a fleet message that reached the registry, with the pools that counted. */
export function fleetFault(
  { body, envelope }: Input,
  message: FleetMessage,
  pools: readonly string[],
  node: Node | undefined,
): string | null {
  const bytes = bytesFault(body);
  if (bytes !== null) return bytes;
  if (node === undefined || node.lifecycle === 'retired') return 'the node may not speak';
  if (envelope.userId !== `n-${message.node}`) return 'it does not come from its node';
  if (pools.some((pool) => !node.models.has(pool))) return 'a pool that the node may not serve';
  if (!isWhole(message.session, 1, Number.MAX_SAFE_INTEGER) || !isWhole(message.slots_total, 1, 4_096))
    return 'a number';
  if (message.kind !== 'hello') return null;
  const signature = Buffer.from(message.signature ?? '', 'base64');
  return verify(null, helloBytes(message), rawKey(node.publicKey), signature)
    ? null
    : 'its signature does not verify';
}
