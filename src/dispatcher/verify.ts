import { createPublicKey, type KeyObject, verify as verifySignature } from 'node:crypto';
import { promisify } from 'node:util';
import type { Delivery } from '../broker/types.ts';
import type { Config } from '../config-schema.ts';
import { nodeUser } from '../contracts/names.ts';
import { parserOf } from '../contracts/parse.ts';
import { ResultMessage } from '../contracts/result.ts';
import { flushBytes, resultDigest, signatureBytes } from '../contracts/signed-bytes.ts';
import { type Refusal, refusal } from '../errors.ts';
import type { Directory, Node } from '../network/types.ts';

/** A result whose sender, shape and digest hold. `digest`: 32 bytes. */
export interface VerifiedResult {
  readonly delivery: Delivery;
  readonly result: ResultMessage;
  readonly digest: Buffer;
}

/** A result that may not settle anything. The job goes on as if it had never come. */
export interface RefusedResult {
  readonly delivery: Delivery;
  readonly refusal: Refusal;
  /** Null where the bytes were too broken to tell. */
  readonly job: string | null;
}

/** What verification needs; `random` is uniform in [0, 1). */
export interface VerifyDeps {
  readonly directory: Directory;
  readonly bounds: Config['results'];
  readonly random: () => number;
}

type Checked =
  | { readonly ok: true; readonly value: VerifiedResult }
  | { readonly ok: false; readonly no: RefusedResult };

const parseResult = parserOf(ResultMessage);
// With a callback Node verifies on its thread pool: the event loop is not held for 0.2 ms a signature.
const verifyAsync = promisify(
  (key: KeyObject, bytes: Buffer, signature: Buffer, done: (error: Error | null, isGood: boolean) => void) =>
    verifySignature(null, bytes, key, signature, done),
);

/** DER prefix of an Ed25519 public key: the raw 32 bytes follow. Source: RFC 8410. */
const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex');

/**
 * Decides which results may be settled. The sender is who the broker says (`user_id` must be there and be the node's own), the
 * digest is recomputed, and the signature, which is evidence for disputes rather than authentication, is checked for nodes on
 * probation, for large amounts and for a sample. Source: design [20], [21].
 */
export async function verify(
  deliveries: readonly Delivery[],
  deps: VerifyDeps,
): Promise<{ on: VerifiedResult[]; off: RefusedResult[] }> {
  const checked = deliveries.map((delivery) => checkShape(delivery));
  if (checked.some((one) => one.ok && !deps.directory.node(one.value.result.node)))
    await deps.directory.refresh();
  const priceMicro = dearestMicro(deps.directory);
  const judged = await Promise.all(
    checked.map(async (one) => (one.ok ? checkNode(one.value, priceMicro, deps) : one)),
  );
  const on: VerifiedResult[] = [];
  const off: RefusedResult[] = [];
  for (const one of judged) {
    if (one.ok) on.push(one.value);
    else off.push(one.no);
  }
  return { on, off };
}

function no(delivery: Delivery, why: Refusal, job: string | null): Checked {
  return { ok: false, no: { delivery, refusal: why, job } };
}

function checkShape(delivery: Delivery): Checked {
  const parsed = parseResult(delivery.body);
  if (!parsed.ok) return no(delivery, { ...parsed.fault, code: 'TG_RESULT_INVALID' }, null);
  const result = parsed.value;
  if (delivery.userId !== nodeUser(result.node))
    return no(delivery, refusal('TG_RESULT_SENDER', 'user_id'), result.job);
  const misfit = inconsistency(result);
  if (misfit) return no(delivery, refusal('TG_RESULT_INVALID', misfit), result.job);
  const digest = resultDigest(result);
  if (digest.toString('hex') !== result.digest)
    return no(delivery, refusal('TG_RESULT_SIGNATURE', 'digest'), result.job);
  if (!result.flush.digests.includes(result.digest)) {
    return no(delivery, refusal('TG_RESULT_SIGNATURE', 'flush.digests'), result.job);
  }
  return { ok: true, value: { delivery, result, digest } };
}

/** The field that contradicts another, or null. */
function inconsistency(result: ResultMessage): string | null {
  const isCompleted = result.status === 'completed';
  if ((result.output !== null) !== isCompleted) return 'output';
  if ((result.error === null) !== isCompleted) return 'error';
  if (result.tokens && result.tokens.ends.length !== result.tokens.at_ms.length) return 'tokens';
  // Half a surrogate pair becomes U+FFFD in the bytes of the digest: two texts would have one proof.
  if (result.output?.text.isWellFormed() === false) return 'output.text';
  if (result.error?.code.isWellFormed() === false) return 'error.code';
  return null;
}

async function checkNode(verified: VerifiedResult, priceMicro: bigint, deps: VerifyDeps): Promise<Checked> {
  const { delivery, result } = verified;
  const node = deps.directory.node(result.node);
  if (!node) return no(delivery, refusal('TG_RESULT_SENDER', 'node'), result.job);
  if (!mustCheckSignature(result, node, priceMicro, deps)) return { ok: true, value: verified };
  const key = createPublicKey({
    key: Buffer.concat([ED25519_SPKI, node.publicKey]),
    format: 'der',
    type: 'spki',
  });
  const bytes = flushBytes(result.node, result.session, result.flush.digests);
  const signature = signatureBytes(result.flush.signature);
  const isGood = signature !== null && (await verifyAsync(key, bytes, signature));
  if (!isGood) return no(delivery, refusal('TG_RESULT_SIGNATURE', 'flush.signature'), result.job);
  return { ok: true, value: verified };
}

function mustCheckSignature(
  result: ResultMessage,
  node: Node,
  priceMicro: bigint,
  deps: VerifyDeps,
): boolean {
  if (node.lifecycle !== 'active') return true;
  if (deps.random() < deps.bounds.verifySampleShare) return true;
  const tokens = BigInt(result.usage.input_tokens + result.usage.output_tokens);
  return (tokens * priceMicro) / 1_000_000n >= BigInt(deps.bounds.verifyAmountMicro);
}

/** The dearest token of the directory, per 1,000,000: what a result may be worth at most before the ledger has looked. */
function dearestMicro(directory: Directory): bigint {
  let dearest = 0n;
  for (const { inputPriceMicro, outputPriceMicro } of directory.models()) {
    for (const price of [inputPriceMicro ?? 0n, outputPriceMicro ?? 0n]) if (price > dearest) dearest = price;
  }
  return dearest;
}
