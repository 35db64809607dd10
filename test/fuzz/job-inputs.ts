import { jobMessage } from '../dispatcher/samples.ts';
import type { Envelope, Expectation, Input } from './input.ts';
import { GENERIC, parsed } from './mutations.ts';
import type { Random } from './random.ts';
import { weighted } from './weighted.ts';

type Job = ReturnType<typeof jobMessage>;

/** What a good client sends: the job and the envelope that belongs to it. */
interface Sound {
  readonly job: Job;
  readonly envelope: Envelope;
  readonly routingKey: string;
}

/** A change of the envelope, or of a name or limit that is valid by its form. */
interface Fault {
  readonly sound?: Sound;
  readonly body?: Buffer;
  readonly envelope?: Envelope;
  readonly routingKey?: string;
  readonly source?: Input['source'];
  readonly expects: Expectation;
  readonly code?: string;
}

const SAMPLE = jobMessage();
const WORDS = [
  'the sea',
  'líneas',
  '海は広い',
  '💧💧',
  '"quoted"',
  '\\back',
  'tab\t',
  '\u2028',
  '{}',
  '__proto__',
  '1e400',
];

/** A valid job of account `acme` that publisher `web` sends, with an id of about `nowMs`. */
export function soundJob(random: Random, nowMs: number, model = 'small'): Sound {
  const id = random.uuidV7(nowMs - random.int(0, 3_600_000));
  const message = () => ({
    role: random.pick(['system', 'user', 'assistant', 'tool']),
    content: words(random),
  });
  const priority = random.pick(['interactive', 'batch'] as const);
  const { limits } = SAMPLE;
  const wait_ms = random.int(1_000, 600_000);
  const job = {
    ...SAMPLE,
    id,
    model,
    priority,
    input: {
      messages: Array.from({ length: random.int(1, 3) }, message),
      ...(random.chance(0.3) ? { temperature: random.int(0, 20) / 10 } : {}),
      ...(random.chance(0.2) ? { seed: random.int(0, 4_294_967_295), top_p: 0.5, stop: ['\n'] } : {}),
    },
    limits: {
      ...limits,
      input_tokens_max: random.int(1, 1_000),
      output_tokens_max: random.int(1, 500),
      wait_ms,
    },
  };
  const envelope = {
    userId: 'p-web',
    messageId: id,
    correlationId: id,
    replyTo: 'reply.p-web',
    expiration: String(wait_ms),
  };
  return { job, envelope, routingKey: `${model}.${priority}` };
}

function words(random: Random): string {
  return Array.from({ length: random.int(0, 6) }, () => random.pick(WORDS)).join(' ');
}

function changed(sound: Sound, change: Partial<Job>): Sound {
  return { ...sound, job: { ...sound.job, ...change } };
}

/** Other ways to write a UUIDv7, and other UUIDs. */
export const UUID_FORMS: readonly ((id: string) => string)[] = [
  (id) => id.toUpperCase(),
  (id) => id.replaceAll('-', ''),
  (id) => `{${id}}`,
  (id) => `urn:uuid:${id}`,
  (id) => ` ${id}`,
  (id) => `${id}\n`,
  (id) => `${id}\0`,
  (id) => id.slice(0, -1),
  (id) => `${id}0`,
  (id) => `${id.slice(0, 14)}4${id.slice(15)}`,
  (id) => `${id.slice(0, 19)}c${id.slice(20)}`,
  (id) => id.replace(/.$/, 'g'),
  (id) => id.replace(/^./, '０'),
];

/** An entry of `x-death` as RabbitMQ writes it, and what a client could write in its place. */
export function deaths(random: Random, routingKey: string): unknown {
  const good = { reason: 'expired', queue: 'jobs.small.interactive', 'routing-keys': [routingKey], count: 1 };
  return random.pick<unknown>([
    [good],
    [{ ...good, reason: 'rejected' }],
    [{ ...good, reason: 'maxlen' }],
    [{ ...good, reason: 'delivery_limit' }],
  ]);
}

const NO_DEATHS: readonly unknown[] = [
  'expired',
  5,
  null,
  [],
  [null],
  [5],
  [[]],
  {},
  [{}],
  [{ reason: 5 }],
  [{ reason: ['expired'] }],
];

const TRACEPARENTS: readonly unknown[] = [
  '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  '',
  'x',
  'x'.repeat(9_000),
  '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n',
  5,
  null,
  ['00'],
  { a: 1 },
  '00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\0',
];

/** Names that are no publisher's. */
export const STRANGERS: readonly string[] = [
  'p-',
  'p-ghost',
  'P-web',
  'web',
  'n-n1',
  'guest',
  '',
  'p-web ',
  'p-web\0',
  'p-constructor',
  'p-__proto__',
  'p-toString',
  'p-p-web',
  ' p-web',
];

/** Queues that are not publisher `web`'s, or that PostgreSQL could not keep. */
export const FOREIGN_REPLY_QUEUES: readonly string[] = [
  '',
  'reply.',
  'reply.p-we',
  'reply.p-webx',
  'reply.p-rival',
  'reply.p-web-x',
  'REPLY.p-web',
  ' reply.p-web',
  'results',
  'node.n1',
  'amq.rabbitmq.reply-to',
  'amq.gen-x',
  'jobs.small.interactive',
  'reply.p-web.\0',
  'reply.p-web.a\0b',
];

/** Faults of a job beside its bytes: who sends it, what the envelope says, what names and limits it uses. */
const JOB_FAULTS: Readonly<
  Record<string, { readonly weight: number; readonly make: (random: Random, sound: Sound) => Fault }>
> = {
  'user_id missing': {
    weight: 1,
    make: (_, { envelope }) => ({
      envelope: { ...envelope, userId: undefined },
      expects: 'refused',
      code: 'TG_SENDER_MISSING',
    }),
  },
  'user_id of nobody': {
    weight: 3,
    make: (random, { envelope }) => {
      const userId = random.pick(STRANGERS);
      return {
        envelope: { ...envelope, userId, replyTo: `reply.${userId}` },
        expects: 'refused',
        code: 'TG_SENDER_UNKNOWN',
      };
    },
  },
  'user_id of another publisher': {
    weight: 2,
    make: (random, { envelope }) => {
      const userId = random.pick(['p-idle', 'p-rival']);
      const isOwnReply = random.chance(0.7);
      const replyTo = isOwnReply ? `reply.${userId}` : envelope.replyTo;
      return {
        envelope: { ...envelope, userId, replyTo },
        expects: 'refused',
        code: isOwnReply ? 'TG_ACCOUNT_NOT_ENTITLED' : 'TG_REPLY_TO_FOREIGN',
      };
    },
  },
  'message_id of another job': {
    weight: 2,
    make: (random, { envelope, job }) => {
      const messageId = random.pick([
        undefined,
        '',
        random.uuidV7(1),
        job.id.toUpperCase(),
        `${job.id} `,
        'x'.repeat(255),
      ]);
      return { envelope: { ...envelope, messageId }, expects: 'refused', code: 'TG_JOB_KEY_MISMATCH' };
    },
  },
  'expiration that is not wait_ms': {
    weight: 2,
    make: (random, { envelope, job }) => {
      const { wait_ms } = job.limits;
      const expiration = random.pick([
        undefined,
        '',
        '0',
        `${wait_ms} `,
        ` ${wait_ms}`,
        `+${wait_ms}`,
        `0${wait_ms}`,
        `${wait_ms}.0`,
        String(wait_ms + 1),
        '1e3',
        '-1',
        'never',
      ]);
      return { envelope: { ...envelope, expiration }, expects: 'refused', code: 'TG_JOB_KEY_MISMATCH' };
    },
  },
  'another routing key': {
    weight: 2,
    make: (random, { routingKey, job }) => {
      const other = job.priority === 'batch' ? 'interactive' : 'batch';
      const wrong = random.pick([
        '',
        'small',
        `small.${other}`,
        `${routingKey}.`,
        ` ${routingKey}`,
        `free.${job.priority}`,
        '#',
        routingKey.toUpperCase(),
        `small@x.${job.priority}`,
      ]);
      return {
        routingKey: wrong,
        source: random.pick(['pool', 'unroutable'] as const),
        expects: 'refused',
        code: 'TG_JOB_KEY_MISMATCH',
      };
    },
  },
  'foreign reply_to': {
    weight: 3,
    make: (random, { envelope }) => {
      const replyTo = random.pick(FOREIGN_REPLY_QUEUES);
      return { envelope: { ...envelope, replyTo }, expects: 'refused', code: 'TG_REPLY_TO_FOREIGN' };
    },
  },
  'own reply_to or none': {
    weight: 1,
    make: (random, { envelope }) => ({
      envelope: {
        ...envelope,
        replyTo: random.pick([
          undefined,
          'reply.p-web.1',
          'reply.p-web.💧',
          'reply.p-web..',
          `reply.p-web.${'x'.repeat(200)}`,
        ]),
      },
      expects: 'accepted',
    }),
  },
  'odd correlation_id': {
    weight: 2,
    make: (random, { envelope }) => {
      const correlationId = random.pick([
        undefined,
        '',
        '\0',
        'a\0b',
        'x'.repeat(255),
        '\ufffd'.repeat(85),
        '💧',
        "'; --",
        '../..',
      ]);
      const isKeepable = !correlationId?.includes('\0');
      return {
        envelope: { ...envelope, correlationId },
        expects: isKeepable ? 'accepted' : 'refused',
        ...(isKeepable ? {} : { code: 'TG_MESSAGE_INVALID' }),
      };
    },
  },
  'x-death of a client': {
    weight: 2,
    make: (random, { envelope, routingKey }) => ({
      envelope: { ...envelope, headers: { 'x-death': deaths(random, routingKey) } },
      source: random.pick(['pool', 'unroutable'] as const),
      expects: 'refused',
      code: 'TG_SENDER_UNKNOWN',
    }),
  },
  'x-death that is none': {
    weight: 1,
    make: (random, { envelope }) => ({
      envelope: {
        ...envelope,
        headers: { 'x-death': random.pick(NO_DEATHS), 'x-first-death-reason': 'expired' },
      },
      expects: 'accepted',
    }),
  },
  'expired in its queue': {
    weight: 1,
    make: (_, { envelope, routingKey }) => {
      const death = {
        reason: 'expired',
        'routing-keys': [routingKey],
        'original-expiration': envelope.expiration,
      };
      return {
        envelope: { ...envelope, expiration: undefined, headers: { 'x-death': [death] } },
        source: 'expired',
        routingKey,
        expects: 'accepted',
      };
    },
  },
  'dead for another reason': {
    weight: 1,
    make: (random, { envelope }) => ({
      envelope: {
        ...envelope,
        headers: { 'x-death': random.pick([[{ reason: 'rejected' }], ...NO_DEATHS]) },
      },
      source: 'expired',
      expects: 'refused',
    }),
  },
  'odd traceparent': {
    weight: 2,
    make: (random, { envelope }) => ({
      envelope: { ...envelope, headers: { traceparent: random.pick(TRACEPARENTS) } },
      expects: 'accepted',
    }),
  },
  'odd form of a UUID': {
    weight: 3,
    make: (random, sound) => {
      const id = random.pick(UUID_FORMS)(sound.job.id);
      return {
        sound: changed(sound, { id }),
        envelope: { ...sound.envelope, messageId: id },
        expects: 'refused',
      };
    },
  },
  'account of another': {
    weight: 2,
    make: (random, sound) => {
      const account = random.pick(['rival', 'nobody', 'constructor', 'acme2']);
      return {
        sound: changed(sound, { account, namespace: `${account}/prod` }),
        expects: 'refused',
        code: account === 'rival' ? 'TG_ACCOUNT_NOT_ENTITLED' : 'TG_ACCOUNT_UNKNOWN',
      };
    },
  },
  'namespace of another': {
    weight: 1,
    make: (random, sound) => ({
      sound: changed(sound, { namespace: random.pick(['rival/prod', 'acme/other', 'acme/constructor']) }),
      expects: 'refused',
      code: 'TG_NAMESPACE_UNKNOWN',
    }),
  },
  'model that is not there': {
    weight: 1,
    make: (random, sound) => {
      const model = random.pick(['nothing', 'constructor', 'free']);
      return {
        sound: changed(sound, { model }),
        routingKey: `${model}.${sound.job.priority}`,
        expects: 'refused',
        code: model === 'free' ? 'TG_MODEL_NO_PRICE' : 'TG_MODEL_UNKNOWN',
      };
    },
  },
  "limit beyond the model's": {
    weight: 2,
    make: (random, sound) => {
      const limits = {
        ...sound.job.limits,
        ...random.pick([
          { input_tokens_max: 10_000_000 },
          { output_tokens_max: 1_000_000 },
          { timeout_ms: 3_600_000 },
        ]),
      };
      return { sound: changed(sound, { limits }), expects: 'refused', code: 'TG_JOB_LIMITS' };
    },
  },
  'not offered': {
    weight: 2,
    make: (random, sound) => ({
      sound: changed(
        sound,
        random.pick<Partial<Job>>([
          { kind: 'embedding' },
          { kind: 'image' },
          { stream: true },
          { constraints: { ...sound.job.constraints, subcloud: 'ours' } },
        ]),
      ),
      expects: 'refused',
      code: 'TG_JOB_UNSUPPORTED',
    }),
  },
};

const GENERIC_SHARE = 0.7;
const pickGeneric = weighted(GENERIC);
const pickFault = weighted(JOB_FAULTS);

/** Makes a job input. `nowMs`: about when its id was made. */
export function jobInput(random: Random, nowMs: number): Input {
  const sound = soundJob(random, nowMs);
  const original = JSON.stringify(sound.job);
  const base = {
    kind: 'job',
    envelope: sound.envelope,
    routingKey: sound.routingKey,
    source: 'pool',
    original,
    isStrict: false,
    code: null,
  } as const;
  if (random.chance(GENERIC_SHARE)) {
    const mutation = pickGeneric(random);
    const { body, expects, code } = GENERIC[mutation]?.mutate(random, parsed(original), original) ?? never();
    return { ...base, mutation, body, expects, code: code === undefined ? null : `TG_MESSAGE_${code}` };
  }
  const mutation = pickFault(random);
  const { sound: other = sound, ...fault } = JOB_FAULTS[mutation]?.make(random, sound) ?? never();
  return { ...base, code: null, mutation, body: Buffer.from(JSON.stringify(other.job)), ...fault };
}

function never(): never {
  throw new Error('no such mutation');
}
