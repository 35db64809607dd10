import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { invariant } from '../errors.ts';

function isContainer(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** The same value with the keys of every object in code-unit order, which is how strings sort by themselves. */
function sorted(value: unknown): unknown {
  if (!isContainer(value)) return value;
  if (Array.isArray(value)) return value.map(sorted);
  const copy: Record<string, unknown> = {};
  for (const key of inOrder(Object.keys(value))) copy[key] = sorted(value[key]);
  return copy;
}

/** Keys to which an insertion sort is the faster one: no object of our messages has more. */
const FEW_KEYS = 16;

/** The keys in code-unit order. The built-in sort copies them twice, which for the dozen of a message costs more than to compare them. */
function inOrder(keys: string[]): string[] {
  if (keys.length > FEW_KEYS) return keys.toSorted();
  for (let i = 1; i < keys.length; i++) {
    const key = keys[i] ?? '';
    let at = i;
    for (let before = keys[at - 1]; before !== undefined && before > key; before = keys[at - 1])
      keys[at--] = before;
    keys[at] = key;
  }
  return keys;
}

/**
 * JSON with the keys of every object in code-unit order and no white space: two bodies that mean the same are the same
 * bytes. Arrays keep their order; numbers and strings are as `JSON.stringify` writes them. A sorted copy that is written in one go
 * costs half of what writing value by value does. For values from our parser: no key is `__proto__` or looks like a number.
 * Source: RFC 8785, less its number formatting, which `JSON.stringify` already follows.
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(sorted(value));
}

/** The key of the body digests, from the secret that all coordinators share. */
export function digestKeyOf(secret: string): KeyObject {
  return createSecretKey(Buffer.from(secret));
}

/**
 * Keyed digest (HMAC-SHA-256, 32 bytes) of a job's canonical body: all that PostgreSQL knows of it. Keyed, because a short
 * prompt could be guessed from a plain hash. The key comes as an object made once (`createSecretKey`): from a Buffer Node would make
 * one per call, which costs four times the digest.
 */
export function bodyDigest(key: KeyObject, body: unknown): Buffer {
  return createHmac('sha256', key).update(canonicalJson(body)).digest();
}

/** Where canonical JSON has an input. No string contains this: in JSON its quotes would be escaped. */
const INPUT_PLACE = ',"input":0,';

/**
 * `bodyDigest` of a whole job whose input was written already: `inputJson` is `canonicalJson(job.input)`, by far the largest part, and
 * goes into the dispatch, too. `job` has fields that sort before and behind `input`, and no other field of that name.
 */
export function jobDigest(key: KeyObject, job: { readonly input: unknown }, inputJson: string): Buffer {
  const around = canonicalJson({ ...job, input: 0 });
  const at = around.indexOf(INPUT_PLACE);
  invariant(at !== -1, 'a job without fields around its input');
  const from = at + INPUT_PLACE.length - 2;
  return createHmac('sha256', key)
    .update(around.slice(0, from))
    .update(inputJson)
    .update(around.slice(from + 1))
    .digest();
}
