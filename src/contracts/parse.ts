import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { type Refusal, refusal } from '../errors.ts';

/** Largest message body, in bytes. */
export const BODY_BYTES_MAX = 1_048_576;
/** Deepest nesting of objects and arrays. */
export const BODY_DEPTH_MAX = 32;

/** Either the parsed message or one fault that names the field. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly fault: Refusal };

/** A compiled parser of one kind of message: bytes in, typed value or named fault out. Never throws. */
export type Parser<T> = (body: Buffer) => Parsed<T>;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** A text with no more brackets than levels are allowed cannot be too deep: most have a few, and the search for them is native. */
function mayBeTooDeep(text: string): boolean {
  let left = BODY_DEPTH_MAX;
  for (const bracket of ['{', '['])
    for (let at = text.indexOf(bracket); at !== -1; at = text.indexOf(bracket, at + 1))
      if (--left < 0) return true;
  return false;
}

/**
 * Depth of nesting, found by one pass over the bytes before anything is parsed: `JSON.parse` takes a million levels,
 * and what it builds then overflows the stack of whoever walks it.
 */
function isTooDeep(body: Buffer): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < body.length; i++) {
    const byte = body[i];
    if (inString) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > BODY_DEPTH_MAX) return true;
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
  return false;
}

/** Any of its letters may be escaped: `_` is \u005f, `o` \u006f, `p`, `r` and `t` \u0070, \u0072 and \u0074. */
const PROTO_TRACES = ['__proto__', '\\u00'];

/**
 * `__proto__` as a key, however it is escaped: `JSON.parse` makes an own key of it that later copies would obey. Only bodies with a
 * trace of it are walked; a parse with a reviver would take 30 times as long over a body full of small values.
 */
function hasForbiddenKey(text: string, value: unknown): boolean {
  return PROTO_TRACES.some((trace) => text.includes(trace)) && hasProto(value);
}

function hasProto(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.hasOwn(value, '__proto__') || Object.values(value).some(hasProto);
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function decode(body: Buffer, bytesMax: number): Parsed<unknown> {
  if (body.length > bytesMax)
    return { ok: false, fault: refusal('TG_MESSAGE_TOO_LARGE', 'body', `${body.length} bytes`) };
  try {
    const text = utf8.decode(body);
    if (mayBeTooDeep(text) && isTooDeep(body))
      return { ok: false, fault: refusal('TG_MESSAGE_TOO_DEEP', 'body') };
    const value: unknown = JSON.parse(text);
    if (hasForbiddenKey(text, value))
      return { ok: false, fault: refusal('TG_MESSAGE_FORBIDDEN_KEY', '__proto__') };
    return { ok: true, value };
  } catch {
    return { ok: false, fault: refusal('TG_MESSAGE_NOT_JSON', 'body', 'send one JSON object in UTF-8') };
  }
}

/** Items of an array, fields of an object, and all of both together that are looked at to name a fault. */
const NAMED_FROM = { items: 1_001, fields: 100, all: 5_000 };

/**
 * As much of a value as names its fault. Naming looks at every item of a list, one by one: half a second for a body full of wrong
 * ones, while nobody else is served. What is cut keeps its first item and its first fields.
 */
function excerptOf(value: unknown, left = { count: NAMED_FROM.all }): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    const items: unknown[] = [];
    for (const item of value.slice(0, NAMED_FROM.items)) {
      if (left.count-- <= 0 && items.length > 0) break;
      items.push(excerptOf(item, left));
    }
    return items;
  }
  const entries = Object.entries(value).slice(0, NAMED_FROM.fields);
  left.count -= entries.length;
  return Object.fromEntries(entries.map(([key, field]) => [key, excerptOf(field, left)]));
}

/** The dotted path of the first fault: an unknown field first (it explains the rest), then a missing or wrong one. */
function describe(
  errors: readonly { keyword: string; instancePath: string; message: string; params: object }[],
): Refusal {
  const unknown = errors.find((e) => e.keyword === 'additionalProperties');
  const missing = errors.find((e) => e.keyword === 'required');
  const first = unknown ?? missing ?? errors.find((e) => e.keyword !== 'boolean') ?? errors[0];
  if (first === undefined)
    return refusal('TG_MESSAGE_INVALID', null, 'too many items, or a wrong one far behind the first');
  const names = Object.values(first.params).find(Array.isArray) as string[] | undefined;
  const path = first.instancePath.split('/').slice(1);
  if ((first === unknown || first === missing) && names?.[0] !== undefined) path.push(names[0]);
  const what = first === unknown ? 'unknown field' : first === missing ? 'missing field' : first.message;
  // A field name comes from the sender and may be anything: bounded before it goes into a reply or an event.
  return refusal('TG_MESSAGE_INVALID', path.join('.').slice(0, 128), what);
}

/**
 * Compiles `schema` once; the returned parser checks size, depth and keys before it parses, then the shape. `bytesMax` is
 * for who reads a message that we made around a client's and that may be a little larger.
 */
export function parserOf<S extends TSchema>(schema: S, bytesMax = BODY_BYTES_MAX): Parser<Static<S>> {
  const compiled = Compile(schema);
  return (body) => {
    const decoded = decode(body, bytesMax);
    if (!decoded.ok) return decoded;
    if (compiled.Check(decoded.value)) return { ok: true, value: decoded.value };
    const fault = describe(compiled.Errors(excerptOf(decoded.value)));
    return { ok: false, fault: { ...fault, field: fault.field || 'body' } };
  };
}

/** Checks an already parsed value against `schema`, with the same faults. */
export function checkerOf<S extends TSchema>(
  schema: S,
  under: string,
): (value: unknown) => Parsed<Static<S>> {
  const compiled = Compile(schema);
  return (value) => {
    if (compiled.Check(value)) return { ok: true, value };
    const fault = describe(compiled.Errors(excerptOf(value)));
    return { ok: false, fault: { ...fault, field: [under, fault.field].filter((part) => part).join('.') } };
  };
}
