import { createHash } from 'node:crypto';
import { uuidBytes } from '../ids.ts';
import type { FleetMessage } from './fleet.ts';
import type { ResultMessage } from './result.ts';

/**
 * What is hashed and signed, in fixed binary layouts with a domain tag, so that no two different messages can ever have
 * the same bytes. Golden vectors in `test/contracts/signed-bytes.test.ts`. Integers are big-endian.
 *
 *     result digest = SHA-256( "tollgate.result.v1\0" | job 16 | attempt u32 | node u8 len + bytes | session u64
 *                              | model_version u32 | status u8 (1 completed, 0 failed) | input_tokens u32
 *                              | output_tokens u32 | total_ms u32 | SHA-256(output text or error code) 32 )
 *     flush bytes   = "tollgate.flush.v1\0" | node u8 len + bytes | session u64 | count u16 | digests 32 each
 *     hello bytes   = "tollgate.hello.v1\0" | node u8 len + bytes | session u64 | slots_total u32
 *                     | count u16 | (pool u8 len + bytes) each
 */
const RESULT_TAG = Buffer.from('tollgate.result.v1\0');
const FLUSH_TAG = Buffer.from('tollgate.flush.v1\0');
const HELLO_TAG = Buffer.from('tollgate.hello.v1\0');

function u16(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16BE(value);
  return out;
}
function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}
function u64(value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(BigInt(value));
  return out;
}
function short(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

/** The digest of one result, 32 bytes: what settlement stores and what a flush signs. */
export function resultDigest(result: Omit<ResultMessage, 'digest' | 'flush'>): Buffer {
  const content = createHash('sha256')
    .update(result.output?.text ?? result.error?.code ?? '')
    .digest();
  return createHash('sha256')
    .update(RESULT_TAG)
    .update(uuidBytes(result.job))
    .update(u32(result.attempt))
    .update(short(result.node))
    .update(u64(result.session))
    .update(u32(result.model_version))
    .update(Buffer.of(result.status === 'completed' ? 1 : 0))
    .update(u32(result.usage.input_tokens))
    .update(u32(result.usage.output_tokens))
    .update(u32(result.timing.total_ms))
    .update(content)
    .digest();
}

/** The bytes a node signs once per flush; `digests` in hex as they travel. */
export function flushBytes(node: string, session: number, digests: readonly string[]): Buffer {
  return Buffer.concat([
    FLUSH_TAG,
    short(node),
    u64(session),
    u16(digests.length),
    ...digests.map((digest) => Buffer.from(digest, 'hex')),
  ]);
}

/** The bytes a worker signs in its hello. */
export function helloBytes(hello: Pick<FleetMessage, 'node' | 'session' | 'slots_total' | 'pools'>): Buffer {
  return Buffer.concat([
    HELLO_TAG,
    short(hello.node),
    u64(hello.session),
    u32(hello.slots_total),
    u16(hello.pools.length),
    ...hello.pools.map(short),
  ]);
}

/** Bytes of an Ed25519 signature. */
const SIGNATURE_BYTES = 64;

/**
 * The bytes of a signature as it travels, or null unless it is the one base64 text of 64 bytes: Node reads others, too, and then two
 * different messages would carry the same proof.
 */
export function signatureBytes(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === SIGNATURE_BYTES && bytes.toString('base64') === text ? bytes : null;
}
