import { hash } from 'node:crypto';
import { invariant } from '../errors.ts';
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

/** Of a SHA-256. */
export const DIGEST_BYTES = 32;
/** All of a result digest's layout but the node's name. */
const RESULT_BYTES = RESULT_TAG.length + 16 + 4 + 1 + 8 + 4 + 1 + 4 + 4 + 4 + DIGEST_BYTES;

/** The digest of one result, 32 bytes: what settlement stores and what a flush signs. Written into one buffer, for it is made of every result. */
export function resultDigest(result: Omit<ResultMessage, 'digest' | 'flush'>): Buffer {
  const { job, attempt, node, session, usage, timing } = result;
  const content = hash('sha256', result.output?.text ?? result.error?.code ?? '', 'buffer');
  const nodeBytes = Buffer.byteLength(node);
  const out = Buffer.allocUnsafe(RESULT_BYTES + nodeBytes);
  let at = RESULT_TAG.copy(out);
  at += uuidBytes(job).copy(out, at);
  at = out.writeUInt32BE(attempt, at);
  at = out.writeUInt8(nodeBytes, at);
  at += out.write(node, at);
  at = out.writeBigUInt64BE(BigInt(session), at);
  at = out.writeUInt32BE(result.model_version, at);
  at = out.writeUInt8(result.status === 'completed' ? 1 : 0, at);
  at = out.writeUInt32BE(usage.input_tokens, at);
  at = out.writeUInt32BE(usage.output_tokens, at);
  at = out.writeUInt32BE(timing.total_ms, at);
  at += content.copy(out, at);
  invariant(at === out.length, 'the layout of a result digest is fixed');
  return hash('sha256', out, 'buffer');
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
