import t from 'tap';
import { digestKeyOf } from '../../src/contracts/canonical.ts';
import type { Delivery } from '../../src/broker/types.ts';
import { admit } from '../../src/dispatcher/admit.ts';
import type { Code } from '../../src/errors.ts';
import type { Arrival } from '../../src/dispatcher/types.ts';
import { arrivalOf, GOOD_STANDING, jobMessage, NO_LIMITS, PaperDirectory } from './samples.ts';

const directory = new PaperDirectory();
const deps = { directory, limits: NO_LIMITS, digestKey: digestKeyOf('a key for tests') };
const publicKey = Buffer.alloc(32);
const node = {
  ...GOOD_STANDING,
  owner: 'o',
  publicKey,
  models: new Set(['small']),
  lifecycle: 'active',
} as const;
directory.paperNodes.push(
  { ...node, id: 'a', region: 'eu', vramGb: 24 },
  { ...node, id: 'b', region: null, vramGb: 40 },
  { ...node, id: 'c', region: 'us', vramGb: 192, models: new Set(['free']) },
  { ...node, id: 'd', region: 'us', vramGb: 192, lifecycle: 'retired' },
);

function wants(region: string | null, vram_gb_min: number | null): Record<string, unknown> {
  return { constraints: { subcloud: null, region, vram_gb_min } };
}

await t.test('a good job is admitted with its account, model and keyed digest', async (t) => {
  const arrival = arrivalOf(jobMessage());
  const admission = admit(arrival, deps);
  if (admission.kind !== 'admitted') throw new Error(`not admitted: ${admission.kind}`);
  const { identity, model } = admission.admitted;
  t.match(identity, {
    accountId: 1,
    namespaceId: 3,
    publisherId: 5,
    replyTo: 'reply.p-web',
    correlationId: 'c-1',
  });
  t.equal(identity.digest.length, 32);
  t.equal(model.id, 7);
});

await t.test('the same body has the same digest whatever the order of its keys', async (t) => {
  const job = jobMessage();
  const turned = Object.fromEntries(Object.entries(job).toReversed());
  const digests = [job, turned].map((body) => {
    const admission = admit(
      arrivalOf(body, { messageId: job.id, routingKey: 'small.interactive', expiration: '5000' }),
      deps,
    );
    return admission.kind === 'admitted'
      ? admission.admitted.identity.digest.toString('hex')
      : admission.kind;
  });
  t.equal(digests[0], digests[1]);
});

/** What is wrong, the code and field it gets, and how it leaves. */
const FAULTS: [
  what: string,
  job: unknown,
  change: Partial<Delivery>,
  kind: string,
  code: Code,
  field: string,
][] = [
  ['no JSON', Buffer.from('{"v":'), {}, 'out', 'TG_MESSAGE_NOT_JSON', 'body'],
  ['a missing field', { ...jobMessage(), model: undefined }, {}, 'out', 'TG_MESSAGE_INVALID', 'model'],
  ['an unknown field', jobMessage({ colour: 'red' }), {}, 'out', 'TG_MESSAGE_INVALID', 'colour'],
  ['a wrong type', jobMessage({ stream: 'no' }), {}, 'out', 'TG_MESSAGE_INVALID', 'stream'],
  [
    'a wrong role',
    jobMessage({ input: { messages: [{ role: 'boss', content: '' }] } }),
    {},
    'out',
    'TG_MESSAGE_INVALID',
    'input.messages.0.role',
  ],
  [
    'an unknown input field',
    jobMessage({ input: { messages: [{ role: 'user', content: '' }], top_q: 1 } }),
    {},
    'out',
    'TG_MESSAGE_INVALID',
    'input.top_q',
  ],
  ['an id that is no UUIDv7', jobMessage({ id: 'job-1' }), {}, 'out', 'TG_JOB_ID_INVALID', 'id'],
  ['another message_id', jobMessage(), { messageId: 'x' }, 'out', 'TG_JOB_KEY_MISMATCH', 'message_id'],
  [
    'another routing key',
    jobMessage(),
    { routingKey: 'small.batch' },
    'out',
    'TG_JOB_KEY_MISMATCH',
    'routing_key',
  ],
  ['another expiration', jobMessage(), { expiration: '1' }, 'out', 'TG_JOB_KEY_MISMATCH', 'expiration'],
  ['no expiration', jobMessage(), { expiration: null }, 'out', 'TG_JOB_KEY_MISMATCH', 'expiration'],
  [
    'too long a wait',
    jobMessage({ limits: { ...jobMessage().limits, wait_ms: 700_000 } }),
    {},
    'out',
    'TG_JOB_LIMITS',
    'limits.wait_ms',
  ],
  ['another kind', jobMessage({ kind: 'image' }), {}, 'out', 'TG_JOB_UNSUPPORTED', 'kind'],
  ['streaming', jobMessage({ stream: true }), {}, 'out', 'TG_JOB_UNSUPPORTED', 'stream'],
  [
    'a subcloud',
    jobMessage({ constraints: { subcloud: 'ours', region: null, vram_gb_min: null } }),
    {},
    'out',
    'TG_JOB_UNSUPPORTED',
    'constraints.subcloud',
  ],
  [
    'a region that is no name',
    jobMessage({ constraints: { subcloud: null, region: 'eu~v.8', vram_gb_min: null } }),
    {},
    'out',
    'TG_MESSAGE_INVALID',
    'constraints.region',
  ],
  [
    'more memory than any class',
    jobMessage({ constraints: { subcloud: null, region: null, vram_gb_min: 193 } }),
    {},
    'out',
    'TG_MESSAGE_INVALID',
    'constraints.vram_gb_min',
  ],
  [
    'the key of the model and a constraint',
    jobMessage({ constraints: { subcloud: null, region: null, vram_gb_min: 8 } }),
    { routingKey: 'small.interactive' },
    'out',
    'TG_JOB_KEY_MISMATCH',
    'routing_key',
  ],
  ['an unknown account', jobMessage({ account: 'nobody' }), {}, 'unknown', 'TG_ACCOUNT_UNKNOWN', 'account'],
  [
    'an unknown namespace',
    jobMessage({ namespace: 'acme/dev' }),
    {},
    'unknown',
    'TG_NAMESPACE_UNKNOWN',
    'namespace',
  ],
  [
    'a publisher of another account',
    jobMessage(),
    { userId: 'p-idle', replyTo: null },
    'unknown',
    'TG_ACCOUNT_NOT_ENTITLED',
    'account',
  ],
  ['no sender', jobMessage(), { userId: null }, 'out', 'TG_SENDER_MISSING', 'user_id'],
  ['a node as sender', jobMessage(), { userId: 'n-web' }, 'out', 'TG_SENDER_UNKNOWN', 'user_id'],
  [
    'an unknown sender',
    jobMessage(),
    { userId: 'p-ghost', replyTo: null },
    'unknown',
    'TG_SENDER_UNKNOWN',
    'user_id',
  ],
  [
    "a stranger's reply queue",
    jobMessage(),
    { replyTo: 'reply.p-website' },
    'out',
    'TG_REPLY_TO_FOREIGN',
    'reply_to',
  ],
  [
    'an own reply_to that PostgreSQL cannot keep',
    jobMessage(),
    { replyTo: 'reply.p-web.\0' },
    'out',
    'TG_REPLY_TO_FOREIGN',
    'reply_to',
  ],
  [
    'a dead letter of a client',
    jobMessage(),
    { deathReason: 'expired' },
    'out',
    'TG_SENDER_UNKNOWN',
    'x-death',
  ],
];

for (const [what, job, change, kind, code, field] of FAULTS) {
  await t.test(`${what} is refused with ${code}`, async (t) => {
    const admission = admit(arrivalOf(job, change), deps);
    if (admission.kind !== 'out' && admission.kind !== 'unknown') throw new Error(admission.kind);
    t.equal(admission.kind, kind);
    if (admission.outcome.kind !== 'refused' && admission.outcome.kind !== 'dead') {
      throw new Error(admission.outcome.kind);
    }
    t.match(admission.outcome.refusal, { code, field });
  });
}

/** Refusals of a known account's well-formed job are kept under its id. */
const REMEMBERED: [what: string, change: Record<string, unknown>, code: Code, field: string][] = [
  ['an unknown model', { model: 'huge' }, 'TG_MODEL_UNKNOWN', 'model'],
  ['a model without a price', { model: 'free' }, 'TG_MODEL_NO_PRICE', 'model'],
  [
    'too much input',
    { limits: { ...jobMessage().limits, input_tokens_max: 1_001 } },
    'TG_JOB_LIMITS',
    'limits.input_tokens_max',
  ],
  [
    'too much output',
    { limits: { ...jobMessage().limits, output_tokens_max: 501 } },
    'TG_JOB_LIMITS',
    'limits.output_tokens_max',
  ],
  [
    'too long a run',
    { limits: { ...jobMessage().limits, timeout_ms: 60_001 } },
    'TG_JOB_LIMITS',
    'limits.timeout_ms',
  ],
  ['a region without nodes', wants('mars', null), 'TG_REGION_UNKNOWN', 'constraints.region'],
  ['a region without this model', wants('us', null), 'TG_NO_NODE_FITS', 'constraints.region'],
  ['memory that no node has', wants(null, 41), 'TG_NO_NODE_FITS', 'constraints.vram_gb_min'],
  ['memory that no node of the region has', wants('eu', 25), 'TG_NO_NODE_FITS', 'constraints.vram_gb_min'],
];

for (const [what, change, code, field] of REMEMBERED) {
  await t.test(`${what} is refused with ${code} and remembered`, async (t) => {
    const admission = admit(arrivalOf(jobMessage(change)), deps);
    if (admission.kind !== 'remember') throw new Error(admission.kind);
    t.match(admission.refusal, { code, field });
  });
}

await t.test(
  'a job that expired in its queue needs no expiration, and is judged by the key it died with',
  async (t) => {
    const job = jobMessage();
    const death: Partial<Delivery> = {
      deathReason: 'expired',
      deathRoutingKey: 'small.interactive',
      routingKey: 'x',
      expiration: null,
    };
    t.equal(admit(arrivalOf(job, death, 'expired'), deps).kind, 'admitted');
    const rejected: Arrival = arrivalOf(job, { ...death, deathReason: 'rejected' }, 'expired');
    t.match(admit(rejected, deps), { kind: 'out', outcome: { kind: 'dead' } });
  },
);

await t.test(
  'the first job of a constraint wants its pool opened, by its class; the next is admitted to it',
  async (t) => {
    const job = jobMessage(wants('eu', 20));
    const first = arrivalOf(job, {}, 'unroutable');
    t.match(admit(first, deps), { kind: 'unopened', wanted: [{ model: 'small', region: 'eu', vramGb: 24 }] });
    first.hasAskedForPool = true;
    t.match(admit(first, deps), { kind: 'out', outcome: { refusal: { code: 'TG_POOLS_FULL' } } });
    const expired: Partial<Delivery> = {
      deathReason: 'expired',
      deathRoutingKey: 'small~r.eu~v.24.interactive',
    };
    t.equal(admit(arrivalOf(job, expired, 'expired'), deps).kind, 'admitted', 'one that expired needs none');
    directory.paperPools.push({ name: 'small~r.eu~v.24', model: 'small', region: 'eu', vramGb: 24 });
    t.match(admit(arrivalOf(job), deps), { kind: 'admitted', admitted: { pool: 'small~r.eu~v.24' } });
  },
);
