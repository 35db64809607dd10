import * as fc from 'fast-check';
import t from 'tap';
import { DispatchMessage } from '../../src/contracts/dispatch.ts';
import { FleetMessage } from '../../src/contracts/fleet.ts';
import { ChatInput, JobMessage } from '../../src/contracts/job.ts';
import {
  BODY_BYTES_MAX,
  BODY_DEPTH_MAX,
  checkerOf,
  type Parsed,
  parserOf,
} from '../../src/contracts/parse.ts';
import { ResultMessage } from '../../src/contracts/result.ts';

const parseJob = parserOf(JobMessage);
const checkInput = checkerOf(ChatInput, 'input');

const job = {
  v: 1,
  id: '0198c2d4-7e1a-7b3c-8d5e-6f708192a3b4',
  account: 'acme',
  namespace: 'acme/prod',
  model: 'tiny',
  kind: 'chat',
  input: { messages: [{ role: 'user', content: 'Say nothing.' }] },
  limits: {
    input_tokens_max: 900,
    output_tokens_max: 256,
    timeout_ms: 60_000,
    wait_ms: 600_000,
    attempts_max: 3,
  },
  constraints: { subcloud: null, region: null, vram_gb_min: null },
  priority: 'interactive',
  stream: false,
};

const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

/** `code field` of the fault, or `ok`. */
function verdict(value: unknown): string {
  const parsed = parseJob(Buffer.isBuffer(value) ? value : bytes(value));
  return parsed.ok ? 'ok' : `${parsed.fault.code} ${parsed.fault.field}`;
}

const { account: _account, ...withoutAccount } = job;
const { timeout_ms: _timeout, ...limitsWithoutTimeout } = job.limits;

await t.test('a job as the contract shows it is accepted', async (t) => {
  t.equal(verdict(job), 'ok');
});

await t.test('each fault names its field', async (t) => {
  const cases: [string, unknown, string][] = [
    ['unknown field', { ...job, colour: 1 }, 'TG_MESSAGE_INVALID colour'],
    ['unknown field inside', { ...job, limits: { ...job.limits, x: 1 } }, 'TG_MESSAGE_INVALID limits.x'],
    ['missing field', withoutAccount, 'TG_MESSAGE_INVALID account'],
    [
      'missing field inside',
      { ...job, limits: limitsWithoutTimeout },
      'TG_MESSAGE_INVALID limits.timeout_ms',
    ],
    ['wrong type', { ...job, stream: 'no' }, 'TG_MESSAGE_INVALID stream'],
    ['wrong version', { ...job, v: 2 }, 'TG_MESSAGE_INVALID v'],
    ['word outside a closed set', { ...job, priority: 'now' }, 'TG_MESSAGE_INVALID priority'],
    ['name with a dot', { ...job, account: 'a.b' }, 'TG_MESSAGE_INVALID account'],
    [
      'number too large',
      { ...job, limits: { ...job.limits, attempts_max: 11 } },
      'TG_MESSAGE_INVALID limits.attempts_max',
    ],
    ['fraction', { ...job, limits: { ...job.limits, wait_ms: 1.5 } }, 'TG_MESSAGE_INVALID limits.wait_ms'],
    [
      'number beyond doubles',
      JSON.stringify(job).replace('600000', '1e999'),
      'TG_MESSAGE_INVALID limits.wait_ms',
    ],
    ['array', [], 'TG_MESSAGE_INVALID body'],
    ['null', null, 'TG_MESSAGE_INVALID body'],
    ['string', '"job"', 'TG_MESSAGE_INVALID body'],
    ['empty body', '', 'TG_MESSAGE_NOT_JSON body'],
    ['truncated', JSON.stringify(job).slice(0, -1), 'TG_MESSAGE_NOT_JSON body'],
    ['NaN', JSON.stringify(job).replace('900', 'NaN'), 'TG_MESSAGE_NOT_JSON body'],
    ['a second document', `${JSON.stringify(job)}{}`, 'TG_MESSAGE_NOT_JSON body'],
    [
      'bad UTF-8',
      Buffer.concat([bytes('{"v":"'), Buffer.of(0xc3, 0x28), bytes('"}')]),
      'TG_MESSAGE_NOT_JSON body',
    ],
    [
      'UTF-8 of a surrogate',
      Buffer.concat([bytes('{"v":"'), Buffer.of(0xed, 0xa0, 0x80), bytes('"}')]),
      'TG_MESSAGE_NOT_JSON body',
    ],
    ['UTF-16', Buffer.from(JSON.stringify(job), 'utf16le'), 'TG_MESSAGE_NOT_JSON body'],
  ];
  for (const [name, value, expected] of cases) t.equal(verdict(value), expected, name);
});

const padded = (length: number) => Buffer.concat([bytes(job), Buffer.alloc(length, 0x20)], length);

await t.test('the size is judged to the byte, before anything is parsed', async (t) => {
  t.equal(verdict(padded(BODY_BYTES_MAX)), 'ok');
  t.equal(verdict(padded(BODY_BYTES_MAX + 1)), 'TG_MESSAGE_TOO_LARGE body');
  t.equal(verdict(Buffer.alloc(BODY_BYTES_MAX + 1, 0x5b)), 'TG_MESSAGE_TOO_LARGE body');
});

const nested = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;

await t.test('the depth is judged to the level, and brackets inside strings are none', async (t) => {
  t.equal(verdict(nested(BODY_DEPTH_MAX)), 'TG_MESSAGE_INVALID body', 'deep enough to be parsed');
  t.equal(verdict(nested(BODY_DEPTH_MAX + 1)), 'TG_MESSAGE_TOO_DEEP body');
  t.equal(verdict('['.repeat(1_000_000)), 'TG_MESSAGE_TOO_DEEP body');
  t.equal(verdict('{"a":'.repeat(BODY_DEPTH_MAX + 1)), 'TG_MESSAGE_TOO_DEEP body');
  const brackets = `${'['.repeat(100)}\\"{`;
  const input = { messages: [{ role: 'user', content: brackets }] };
  t.equal(verdict({ ...job, input }), 'ok');
});

await t.test('__proto__ is refused as a key, however it is written, and allowed as a value', async (t) => {
  const withKey = (key: string) => JSON.stringify(job).replace('"messages"', `"${key}":{"x":1},"messages"`);
  for (const key of [
    '__proto__',
    '\\u005f_proto__',
    '_\\u005F\\u0070roto__',
    '__\\u0070roto__',
    '__pr\\u006fto__',
    '__pro\\u0074o__',
    '__p\\u0072oto__',
  ])
    t.equal(verdict(withKey(key)), 'TG_MESSAGE_FORBIDDEN_KEY __proto__', key);
  const said = { messages: [{ role: 'user', content: 'What is __proto__?' }] };
  t.equal(verdict({ ...job, input: said }), 'ok');
  t.equal(({} as { x?: number }).x, undefined, 'nothing was polluted');
});

await t.test('a field name of a stranger is bounded before it goes into a reply', async (t) => {
  const parsed = parseJob(bytes({ ...job, ['a'.repeat(10_000)]: 1 }));
  t.equal(parsed.ok ? '' : parsed.fault.field?.length, 128);
});

/** Where the fault of a `chat` input is, or `ok`. */
function inputFault(value: unknown): string | null {
  const parsed = checkInput(value);
  return parsed.ok ? 'ok' : parsed.fault.field;
}

await t.test('a value checked on its own is named below where it stands', async (t) => {
  t.equal(inputFault(job.input), 'ok');
  t.equal(inputFault({}), 'input.messages');
  t.equal(inputFault({ messages: [{ role: 'user' }] }), 'input.messages.0.content');
  t.equal(inputFault({ ...job.input, tools: [] }), 'input.tools');
  t.equal(inputFault('text'), 'input');
});

const inputOf = (body: Buffer) => checkInput(JSON.parse(body.toString()));
const many = (text: string) => Array.from({ length: 240_000 }, () => text).join();

await t.test('of a large body full of faults the first is named', (t) => {
  const parseResult = parserOf(ResultMessage);
  const full = Array.from({ length: 1_001 }, () => ({ role: 'user', content: '' }));
  const cases: [string, string, (body: Buffer) => Parsed<unknown>][] = [
    [`{"v":1,"tokens":{"ends":[${many('1')}],"at_ms":[${many('1')}]}}`, 'job', parseResult],
    [`{"a":"\\u0061","b":[${many('0')}]}`, 'a', parseJob],
    [`{"messages":[${many('0')}]}`, 'input.messages.0', inputOf],
    [JSON.stringify({ messages: full }), 'input.messages', inputOf],
  ];
  for (const [text, field, parse] of cases) {
    const body = Buffer.from(text);
    const parsed = parse(body);
    t.match(parsed, { ok: false, fault: { field } });
  }
  const lease = { job: job.id, attempt: 1 };
  const leases = [...Array.from({ length: 2_000 }, () => lease), { ...lease, attempt: 0 }];
  const heartbeat = {
    v: 1,
    kind: 'heartbeat',
    node: 'n1',
    session: 1,
    seq: 1,
    slots_total: 1,
    slots_in_use: 0,
    pools: ['tiny'],
    warm_models: [],
    config_version: 0,
    gpu: null,
    leases,
    signature: null,
  };
  const far = parserOf(FleetMessage)(bytes(heartbeat));
  t.match(far, { ok: false, fault: { code: 'TG_MESSAGE_INVALID', field: 'body' } }, 'far behind the first');
  t.end();
});

await t.test('no bytes make a parser throw', async (t) => {
  const parsers = [parseJob, parserOf(DispatchMessage), parserOf(ResultMessage), parserOf(FleetMessage)];
  const survives = (body: Buffer) => {
    for (const parse of parsers) {
      const parsed = parse(body);
      if (!parsed.ok && typeof parsed.fault.code !== 'string') return false;
    }
    return true;
  };
  const mutated = fc
    .tuple(fc.nat(), fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 8 }), fc.nat(12))
    .map(([at, insert, removed]) => {
      const body = bytes(job);
      const cut = at % body.length;
      return Buffer.concat([body.subarray(0, cut), Buffer.from(insert), body.subarray(cut + removed)]);
    });
  const random = fc.uint8Array({ maxLength: 512 }).map((array) => Buffer.from(array));
  const json = fc.json({ maxDepth: 8 }).map((text) => Buffer.from(text));
  const fields = fc.record(
    Object.fromEntries(Object.keys(job).map((key) => [key, fc.jsonValue({ maxDepth: 3 })])),
    { requiredKeys: [] },
  );
  const body = fc.oneof(mutated, random, json, fields.map(bytes));
  t.doesNotThrow(() => fc.assert(fc.property(body, survives), { numRuns: 2_000 }));
});
