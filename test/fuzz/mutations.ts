import { gzipSync } from 'node:zlib';
import { BODY_BYTES_MAX } from '../../src/contracts/parse.ts';
import type { Expectation } from './input.ts';
import type { Random } from './random.ts';

/** A JSON value that may be changed. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** A mutated body and what must come of it. */
export interface Mutated {
  readonly body: Buffer;
  readonly expects: Expectation;
  readonly code?: string;
}

/** Changes a valid message, given as a copy that may be changed and as text. */
export type Mutation = (random: Random, value: Json, text: string) => Mutated;

/** A copy of a message that may be changed. */
export function parsed(text: string): Json {
  return JSON.parse(text);
}

/** One place in a tree: `holder[key]`. */
interface Place {
  readonly holder: Json[] | { [key: string]: Json };
  readonly key: string;
}

type Holder = { [key: string]: Json };

/** Fields that a message may do without. */
const OPTIONAL: ReadonlySet<string> = new Set(['temperature', 'top_p', 'seed', 'stop', 'fallbacks']);
/** Objects whose fields mean little to admission: what they may hold is the oracle's to say. */
const NULLABLE: ReadonlySet<string> = new Set([
  'subcloud',
  'region',
  'vram_gb_min',
  'fallbacks',
  'output',
  'tokens',
  'gpu',
  'evaluation',
  'error',
  'moderation',
  'first_token_ms',
  'signature',
]);

const ODD_KEYS = [
  'urgent',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  '',
  ' ',
  'v ',
  'V',
  'account\0',
  '\ud83d',
  '💧',
  '0',
  '-1',
  '__proto',
  '__proto__ ',
  'then',
  'toJSON',
  '$where',
  'a.b',
];

const ODD_STRINGS = [
  '',
  ' ',
  '\0',
  'acme\0',
  'acme\n',
  '\nacme',
  'ACME',
  'аcme',
  'acme ',
  'rival',
  'acme/prod',
  'acme/../rival',
  'rival/prod',
  'constructor',
  '__proto__',
  'toString',
  'small',
  'small.batch',
  'small.*',
  '#',
  'free',
  'n1',
  'n2',
  'n-n1',
  'ghost',
  'null',
  'chat',
  'embedding',
  'batch',
  'completed',
  'failed',
  'hello',
  '\ud800',
  '\udc00\ud800',
  '\ufffd',
  '\u2028',
  '\ufeff',
  '💧'.repeat(70),
  'x'.repeat(65),
  'x'.repeat(1_001),
  '../../etc/passwd',
  "'; drop table jobs.jobs; --",
  '00000000-0000-7000-8000-000000000000',
  'ffffffff-ffff-7fff-bfff-ffffffffffff',
  '9b2d4c1e-58f0-4c1a-9d53-1f0e7a2b3c4d',
];

/** Numbers as they would stand in the text: what JSON does not allow is refused whatever stands around it. */
const ODD_NUMBERS = [
  '-0',
  '0',
  '-1',
  '0.5',
  '1.0',
  '1e2',
  '1e400',
  '-1e400',
  '1e-400',
  '9007199254740993',
  '9007199254740992',
  '4294967295',
  '4294967296',
  '2147483648',
  '1e21',
  '101',
  '100000001',
  '3600001',
];
const NO_NUMBERS = [
  'NaN',
  'Infinity',
  '-Infinity',
  '+1',
  '01',
  '.5',
  '1.',
  '0x10',
  '1_000',
  '--1',
  '1n',
  '-',
  'undefined',
];

/** Bytes that are no UTF-8: overlong, a surrogate, beyond the last code point, and pieces of longer sequences. */
const NO_UTF8 = ['ff', 'fe', 'c0af', 'eda080', 'f5808080', 'e282', '80', 'c3', 'f0908d'].map((hex) =>
  Buffer.from(hex, 'hex'),
);

const RAW = '@raw@';

function isHolder(value: Json): value is Json[] | Holder {
  return typeof value === 'object' && value !== null;
}

function children(value: Json[] | Holder): [string, Json][] {
  return Object.entries(value);
}

/** Every place of a tree, the root's own apart. */
export function placesOf(value: Json, found: Place[] = []): Place[] {
  if (!isHolder(value)) return found;
  for (const [key, child] of children(value)) {
    found.push({ holder: value, key });
    placesOf(child, found);
  }
  return found;
}

function objectsOf(value: Json, found: Holder[] = []): Holder[] {
  if (!isHolder(value)) return found;
  if (!Array.isArray(value)) found.push(value);
  for (const [, child] of children(value)) objectsOf(child, found);
  return found;
}

function read({ holder, key }: Place): Json {
  const value: Json | undefined = Reflect.get(holder, key);
  return value ?? null;
}

function write({ holder, key }: Place, value: Json): void {
  Reflect.set(holder, key, value);
}

function typeOf(value: Json): string {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
}

function bytesOf(value: Json): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** The text of `value` with `raw` where the marker stands, so that the text may say what JSON.stringify never writes. */
function textWith(value: Json, raw: string): string {
  return JSON.stringify(value).replace(`"${RAW}"`, () => raw);
}

function randomValue(random: Random): Json {
  return random.pick<Json>([
    null,
    true,
    false,
    0,
    1,
    -1,
    3.5,
    '',
    'x',
    [],
    {},
    [null],
    [[]],
    { a: 1 },
    ['x', 1],
  ]);
}

function escaped(random: Random, text: string, share: number): string {
  return text
    .split('')
    .map((letter) => {
      if (!random.chance(share)) return letter;
      const code = (letter.codePointAt(0) ?? 0).toString(16).padStart(4, '0');
      return `\\u${random.chance(0.5) ? code.toUpperCase() : code}`;
    })
    .join('');
}

/** Puts `raw` members at the front or the end of a random object of the text. */
function withMember(random: Random, value: Json, raw: string): Buffer {
  const holder = random.pick(objectsOf(value));
  holder[RAW] = RAW;
  const text = JSON.stringify(value).replace(`"${RAW}":"${RAW}"`, () => raw);
  return Buffer.from(text);
}

function splice(random: Random, text: string, piece: Buffer, removed = 0): Buffer {
  const bytes = Buffer.from(text);
  const at = random.int(0, bytes.length);
  return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at + removed)]);
}

function shuffled(random: Random, value: Json): Json {
  if (!isHolder(value)) return value;
  if (Array.isArray(value)) return value.map((item) => shuffled(random, item));
  const entries = children(value).map(([key, child]) => ({ key, child, rank: random.next() }));
  const copy: Holder = {};
  for (const { key, child } of entries.toSorted((a, b) => a.rank - b.rank))
    copy[key] = shuffled(random, child);
  return copy;
}

/** Mutations that know nothing of what a message means. A message is one JSON object whose objects are all closed. */
export const GENERIC: Readonly<Record<string, { readonly weight: number; readonly mutate: Mutation }>> = {
  'missing field': {
    weight: 8,
    mutate: (random, value) => {
      const place = random.pick(placesOf(value).filter(({ holder }) => !Array.isArray(holder)));
      Reflect.deleteProperty(place.holder, place.key);
      return { body: bytesOf(value), expects: OPTIONAL.has(place.key) ? 'open' : 'refused' };
    },
  },
  'unknown field': {
    weight: 8,
    mutate: (random, value) => {
      random.pick(objectsOf(value))[random.pick(ODD_KEYS)] = randomValue(random);
      return { body: bytesOf(value), expects: 'refused' };
    },
  },
  'wrong type': {
    weight: 10,
    mutate: (random, value) => {
      const place = random.pick(placesOf(value));
      const before = typeOf(read(place));
      const next = randomValue(random);
      write(place, next);
      const isSure = typeOf(next) !== before && !NULLABLE.has(place.key);
      return { body: bytesOf(value), expects: isSure ? 'refused' : 'open' };
    },
  },
  'odd number': {
    weight: 10,
    mutate: (random, value) => {
      const places = placesOf(value);
      const numbers = places.filter((place) => typeof read(place) === 'number');
      write(random.pick(random.chance(0.9) && numbers.length > 0 ? numbers : places), RAW);
      const isNone = random.chance(0.3);
      const raw = random.pick(isNone ? NO_NUMBERS : ODD_NUMBERS);
      return { body: Buffer.from(textWith(value, raw)), expects: isNone ? 'refused' : 'open' };
    },
  },
  'odd string': {
    weight: 12,
    mutate: (random, value) => {
      const strings = placesOf(value).filter((place) => typeof read(place) === 'string');
      const place = random.pick(strings);
      const before = read(place);
      const text = typeof before === 'string' ? before : '';
      const odd = random.pick(ODD_STRINGS);
      write(place, random.chance(0.7) ? odd : random.chance(0.5) ? `${text}${odd}` : `${odd}${text}`);
      return { body: bytesOf(value), expects: 'open' };
    },
  },
  'deep nesting': {
    weight: 3,
    mutate: (random, value) => {
      const levels = random.chance(0.1) ? random.int(1_000, 20_000) : random.int(33, 60);
      const [open, close] = random.pick([
        ['[', ']'],
        ['{"a":', '}'],
      ] as const);
      const isClosed = random.chance(0.7);
      const raw = open.repeat(levels) + (isClosed ? `1${close.repeat(levels)}` : '');
      write(random.pick(placesOf(value)), RAW);
      return { body: Buffer.from(textWith(value, raw)), expects: 'refused', code: 'TOO_DEEP' };
    },
  },
  huge: {
    weight: 0.02,
    mutate: (random, value) => {
      const strings = placesOf(value).filter((place) => typeof read(place) === 'string');
      write(random.pick(strings), 'x'.repeat(BODY_BYTES_MAX + random.int(-2_000, 2_000)));
      const body = bytesOf(value);
      return body.length > BODY_BYTES_MAX
        ? { body, expects: 'refused', code: 'TOO_LARGE' }
        : { body, expects: 'open' };
    },
  },
  'thousands of fields': {
    weight: 0.05,
    mutate: (random, value) => {
      const raw = Array.from({ length: random.int(1_000, 5_000) }, (_, i) => `"k${i}":${i}`).join();
      return { body: withMember(random, value, raw), expects: 'refused' };
    },
  },
  'duplicate key': {
    weight: 6,
    mutate: (random, value, text) => {
      const place = random.pick(placesOf(value).filter(({ holder }) => !Array.isArray(holder)));
      const twin = `"${place.key}":${JSON.stringify(random.chance(0.5) ? read(place) : randomValue(random))}`;
      const member = `"${place.key}":`;
      const at = text.indexOf(member);
      return { body: Buffer.from(`${text.slice(0, at)}${twin},${text.slice(at)}`), expects: 'open' };
    },
  },
  'key __proto__': {
    weight: 6,
    mutate: (random, value) => {
      const key = escaped(random, '__proto__', random.pick([0, 0.2, 0.5, 1]));
      const raw = `"${key}":${JSON.stringify(randomValue(random))}`;
      return { body: withMember(random, value, raw), expects: 'refused', code: 'FORBIDDEN_KEY' };
    },
  },
  truncated: {
    weight: 6,
    mutate: (random, _value, text) => {
      const bytes = Buffer.from(text);
      return {
        body: bytes.subarray(0, random.int(0, bytes.length - 1)),
        expects: 'refused',
        code: 'NOT_JSON',
      };
    },
  },
  'no UTF-8': {
    weight: 4,
    mutate: (random, _value, text) => {
      const at = random.int(0, text.length);
      // Between whole characters, so that the piece stays broken.
      const body = Buffer.concat([
        Buffer.from(text.slice(0, at)),
        random.pick(NO_UTF8),
        Buffer.from('"'),
        Buffer.from(text.slice(at)),
      ]);
      return { body, expects: 'refused' };
    },
  },
  'flipped bits': {
    weight: 6,
    mutate: (random, _value, text) => {
      const body = Buffer.from(text);
      for (let i = random.int(1, 4); i > 0; i--) {
        const at = random.int(0, body.length - 1);
        body[at] = (body[at] ?? 0) ^ (1 << random.int(0, 7));
      }
      return { body, expects: 'open' };
    },
  },
  'spliced bytes': {
    weight: 6,
    mutate: (random, _value, text) => {
      const piece = random.chance(0.5)
        ? random.bytes(random.int(1, 16))
        : Buffer.from(
            random.pick(['\0', '"', '\\', '{', '}', ',', ':', ' ', '\ufeff', '\\u0000', '1', 'e', 'null']),
          );
      return { body: splice(random, text, piece, random.int(0, 8)), expects: 'open' };
    },
  },
  'another text': {
    weight: 3,
    mutate: (random, _value, text) => {
      const bytes = Buffer.from(text);
      const body = random.pick<() => Buffer>([
        () => Buffer.alloc(0),
        () => Buffer.concat([bytes, bytes]),
        () => Buffer.concat([bytes, Buffer.from(random.pick(['x', ',', '}', '\0', '{}']))]),
        () =>
          Buffer.from(
            random.pick([
              '[1]',
              '"x"',
              '5',
              'null',
              'true',
              '[]',
              '{}',
              '{"v":1}',
              `[${text}]`,
              JSON.stringify(text),
            ]),
          ),
        () => Buffer.from(text, 'utf16le'),
        () => gzipSync(bytes),
        () => random.bytes(random.int(1, 200)),
      ])();
      return { body, expects: 'refused' };
    },
  },
  'same meaning': {
    weight: 6,
    mutate: (random, value) => {
      const moved = shuffled(random, value);
      const text = random.chance(0.5)
        ? JSON.stringify(moved, null, random.pick([1, 2, '\t']))
        : JSON.stringify(moved);
      return {
        body: Buffer.from(`${random.pick(['', ' ', '\r\n'])}${text}${random.pick(['', '\n'])}`),
        expects: 'accepted',
      };
    },
  },
  none: { weight: 5, mutate: (_random, _value, text) => ({ body: Buffer.from(text), expects: 'accepted' }) },
};
