import { connect } from 'amqplib';
import t, { type Test } from 'tap';
import type { OutMessage } from '../../src/broker/types.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { publisherUser } from '../../src/contracts/names.ts';
import type { Code } from '../../src/errors.ts';
import { newUuidV7, uuidV7TimeMs } from '../../src/ids.ts';
import { TestClient } from '../support/client.ts';
import { collectDeadLetters, type DeadLetter } from '../support/dead-letters.ts';
import { until } from '../support/until.ts';
import { passwordOf, type World, world } from '../support/world.ts';

/**
 * Every kind of bad job, end to end on real servers. For each: the code and the field reach the sender (or the dead-letter
 * queue, where nobody can safely be answered), `/metrics` counts it, MongoDB keeps an event, no credit moves, and a good job
 * that is sent right after runs.
 */
interface BadJob {
  readonly name: string;
  readonly code: Code;
  readonly field: string | null;
  readonly body: Buffer | JobMessage | Record<string, unknown>;
  readonly envelope?: Partial<OutMessage>;
  readonly client?: TestClient;
  /** `user_id` as the coordinator sees it; default the client's. */
  readonly sender?: string | null;
  /** Default: a reply says `refused`. `dead`: it is kept unanswered. */
  readonly ends?: 'refused' | 'expired' | 'dead';
}

interface Tools {
  readonly tollgate: World;
  readonly deadLetters: readonly DeadLetter[];
}

const HOUR_MS = 3_600_000;

/** A new UUIDv7 whose time is `offsetMs` from now. */
function idAt(offsetMs: number): string {
  const nowMs = uuidV7TimeMs(newUuidV7()) + offsetMs;
  return newUuidV7({ nowMs: () => nowMs, monotonicMs: () => 0 });
}

function toBytes(body: BadJob['body']): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
}

/** What a good client would put into the envelope of `body`. */
function envelopeOf(body: BadJob['body']): Partial<OutMessage> {
  if (Buffer.isBuffer(body)) return {};
  const { id, model, priority, limits } = body as Partial<JobMessage>;
  return {
    messageId: typeof id === 'string' ? id : newUuidV7(),
    routingKey: `${model}.${priority}`,
    ...(typeof limits?.wait_ms === 'number' ? { expirationMs: limits.wait_ms } : {}),
  };
}

async function proveRefused(t: Test, { tollgate, deadLetters }: Tools, bad: BadJob): Promise<void> {
  const { code, field, client = tollgate.client, ends = 'refused' } = bad;
  const sender = bad.sender === undefined ? client.user : bad.sender;
  const counted = () => tollgate.metric('tollgate_jobs_refused_total', { code });
  const countedBefore = await counted();
  const creditsBefore = await tollgate.books.credits();
  const from = new Date();
  const correlationId = newUuidV7();
  const body = toBytes(bad.body);
  await client.send(body, { ...envelopeOf(bad.body), correlationId, ...bad.envelope });

  if (ends === 'dead') {
    const letter = await until(() => deadLetters.find((one) => one.body.equals(body)), 'the dead letter');
    t.match(letter, { reason: code, field, sender: sender ?? '' });
  } else {
    const { error, state, charged_micro } = await client.reply(bad.envelope?.correlationId ?? correlationId);
    t.match({ state, charged_micro, ...error }, { state: ends, charged_micro: 0, code, field });
  }
  await until(async () => (await counted()) === countedBefore + 1, `${code} to be counted`);
  const found = () => tollgate.books.events({ code, field, sender, at: { $gte: from } });
  await until(async () => (await found()).length > 0, `an event with ${code}`);
  t.equal((await found()).length, 1, 'one event');
  t.equal(await tollgate.books.credits(), creditsBefore, 'no credit moved');

  const good = await tollgate.run(tollgate.job());
  t.equal(good.state, 'succeeded', 'the next good job runs');
  await tollgate.slotsAreFree();
  if (ends === 'dead') {
    const answers = [...client.repliesTo(correlationId), ...tollgate.client.repliesTo(correlationId)];
    t.same(answers, [], 'nobody was answered');
  }
}

/** Bytes and shapes. */
function malformed(tollgate: World): BadJob[] {
  const job = tollgate.job();
  const without = (name: keyof JobMessage) =>
    Object.fromEntries(Object.entries(tollgate.job()).filter(([key]) => key !== name));
  const deep = `{"v":1,"input":${'['.repeat(40)}${']'.repeat(40)}}`;
  const content = 'x'.repeat(1_100_000);
  return [
    {
      name: 'bytes that are no JSON',
      code: 'TG_MESSAGE_NOT_JSON',
      field: 'body',
      body: Buffer.from('{"v":1,'),
    },
    {
      name: 'bytes that are no UTF-8',
      code: 'TG_MESSAGE_NOT_JSON',
      field: 'body',
      body: Buffer.of(0x22, 0xff, 0x22),
    },
    { name: 'an empty body', code: 'TG_MESSAGE_NOT_JSON', field: 'body', body: Buffer.alloc(0) },
    {
      name: 'a JSON value that is no object',
      code: 'TG_MESSAGE_INVALID',
      field: 'body',
      body: Buffer.from('[1]'),
    },
    {
      name: 'a body over 1 MiB',
      code: 'TG_MESSAGE_TOO_LARGE',
      field: 'body',
      body: tollgate.job({ input: { messages: [{ role: 'user', content }] } }),
    },
    { name: 'a body nested too deep', code: 'TG_MESSAGE_TOO_DEEP', field: 'body', body: Buffer.from(deep) },
    {
      name: 'a key __proto__',
      code: 'TG_MESSAGE_FORBIDDEN_KEY',
      field: '__proto__',
      body: Buffer.from(JSON.stringify(job).replace('{', '{"__proto__":{"isAdmin":true},')),
    },
    {
      name: 'a field of the wrong type',
      code: 'TG_MESSAGE_INVALID',
      field: 'stream',
      body: { ...tollgate.job(), stream: 'no' },
    },
    {
      name: 'a nested field of the wrong type',
      code: 'TG_MESSAGE_INVALID',
      field: 'limits.output_tokens_max',
      body: { ...job, limits: { ...job.limits, output_tokens_max: 1.5 } },
      envelope: { expirationMs: job.limits.wait_ms },
    },
    {
      name: 'an unknown field',
      code: 'TG_MESSAGE_INVALID',
      field: 'urgent',
      body: { ...tollgate.job(), urgent: true },
    },
    { name: 'a missing field', code: 'TG_MESSAGE_INVALID', field: 'account', body: without('account') },
    {
      name: 'a chat without messages',
      code: 'TG_MESSAGE_INVALID',
      field: 'input.messages',
      body: tollgate.job({ input: {} }),
    },
    {
      name: 'another version of the layout',
      code: 'TG_MESSAGE_INVALID',
      field: 'v',
      body: { ...tollgate.job(), v: 2 },
    },
  ];
}

/** Ids, names, limits, and what this version does not offer. */
function inadmissible(tollgate: World): BadJob[] {
  const { limits, constraints } = tollgate.job();
  const limited = (name: keyof JobMessage['limits'], value: number): BadJob => ({
    name: `${name} beyond the model's`,
    code: 'TG_JOB_LIMITS',
    field: `limits.${name}`,
    body: tollgate.job({ limits: { ...limits, [name]: value } }),
  });
  const unsupported = (field: string, change: Partial<JobMessage>): BadJob => ({
    name: `${field} that is not offered`,
    code: 'TG_JOB_UNSUPPORTED',
    field,
    body: tollgate.job(change),
  });
  return [
    {
      name: 'an id that is no UUID',
      code: 'TG_JOB_ID_INVALID',
      field: 'id',
      body: tollgate.job({ id: 'job-1' }),
    },
    {
      name: 'an id that is a UUIDv4',
      code: 'TG_JOB_ID_INVALID',
      field: 'id',
      body: tollgate.job({ id: '9b2d4c1e-58f0-4c1a-9d53-1f0e7a2b3c4d' }),
    },
    {
      name: 'an id from eight days ago',
      code: 'TG_JOB_ID_WINDOW',
      field: 'id',
      body: tollgate.job({ id: idAt(-8 * 24 * HOUR_MS) }),
    },
    {
      name: 'an id from an hour ahead',
      code: 'TG_JOB_ID_WINDOW',
      field: 'id',
      body: tollgate.job({ id: idAt(HOUR_MS) }),
    },
    {
      name: 'an id from ten years ago',
      code: 'TG_JOB_ID_WINDOW',
      field: 'id',
      body: tollgate.job({ id: idAt(-87_600 * HOUR_MS) }),
    },
    {
      name: 'an unknown account',
      code: 'TG_ACCOUNT_UNKNOWN',
      field: 'account',
      body: tollgate.job({ account: 'nobody' }),
    },
    {
      name: 'an account the publisher may not spend for',
      code: 'TG_ACCOUNT_NOT_ENTITLED',
      field: 'account',
      body: tollgate.job({ account: 'rival', namespace: 'rival/prod' }),
    },
    {
      name: "another account's namespace",
      code: 'TG_NAMESPACE_UNKNOWN',
      field: 'namespace',
      body: tollgate.job({ namespace: 'rival/prod' }),
    },
    {
      name: 'an unknown model',
      code: 'TG_MODEL_UNKNOWN',
      field: 'model',
      body: tollgate.job({ model: 'nothing' }),
    },
    {
      name: 'a model without a price',
      code: 'TG_MODEL_NO_PRICE',
      field: 'model',
      body: tollgate.job({ model: 'free' }),
    },
    limited('input_tokens_max', 4_001),
    limited('output_tokens_max', 1_001),
    limited('timeout_ms', 60_001),
    { ...limited('wait_ms', 600_001), name: "wait_ms beyond its priority's" },
    {
      name: 'an account with too little credit',
      code: 'TG_CREDIT_INSUFFICIENT',
      field: 'account',
      body: tollgate.job({ account: 'poor', namespace: 'poor/prod' }),
    },
    unsupported('kind', { kind: 'embedding' }),
    unsupported('stream', { stream: true }),
    unsupported('constraints.subcloud', { constraints: { ...constraints, subcloud: 'ours' } }),
  ];
}

/** Who sends, and what the envelope says. */
async function misaddressed(tollgate: World): Promise<BadJob[]> {
  const { user } = tollgate.client;
  const nameless = new TestClient(user, await tollgate.connectAs(user, null));
  const stranger = await tollgate.connectStranger('s-stranger');
  const ghost = await tollgate.connectStranger(publisherUser('ghost'));
  return [
    {
      name: 'a job without user_id',
      code: 'TG_SENDER_MISSING',
      field: 'user_id',
      body: tollgate.job(),
      client: nameless,
      sender: null,
      ends: 'dead',
    },
    {
      name: 'a broker user that is no publisher',
      code: 'TG_SENDER_UNKNOWN',
      field: 'user_id',
      body: tollgate.job(),
      client: stranger,
      ends: 'dead',
    },
    {
      name: 'a publisher that is not registered',
      code: 'TG_SENDER_UNKNOWN',
      field: 'user_id',
      body: tollgate.job(),
      client: ghost,
      ends: 'dead',
    },
    {
      name: "a reply_to that is another's",
      code: 'TG_REPLY_TO_FOREIGN',
      field: 'reply_to',
      body: tollgate.job(),
      envelope: { replyTo: 'reply.p-rival' },
      ends: 'dead',
    },
    {
      name: 'a reply_to that is a queue of ours',
      code: 'TG_REPLY_TO_FOREIGN',
      field: 'reply_to',
      body: tollgate.job(),
      envelope: { replyTo: 'results' },
      ends: 'dead',
    },
    {
      name: 'a correlation_id with a zero byte',
      code: 'TG_MESSAGE_INVALID',
      field: 'correlation_id',
      body: tollgate.job(),
      envelope: { correlationId: `a${String.fromCodePoint(0)}b` },
    },
    {
      name: 'a message_id that is not the id',
      code: 'TG_JOB_KEY_MISMATCH',
      field: 'message_id',
      body: tollgate.job(),
      envelope: { messageId: newUuidV7() },
    },
    {
      name: 'an expiration that is not wait_ms',
      code: 'TG_JOB_KEY_MISMATCH',
      field: 'expiration',
      body: tollgate.job(),
      envelope: { expirationMs: 12_345 },
    },
    {
      name: 'no expiration',
      code: 'TG_JOB_KEY_MISMATCH',
      field: 'expiration',
      body: tollgate.job(),
      envelope: { expirationMs: undefined },
    },
    {
      name: "the routing key of another model's queue",
      code: 'TG_JOB_KEY_MISMATCH',
      field: 'routing_key',
      body: tollgate.job({ model: 'free' }),
      envelope: { routingKey: 'small.interactive' },
    },
    {
      name: "the other priority's routing key",
      code: 'TG_JOB_KEY_MISMATCH',
      field: 'routing_key',
      body: tollgate.job({ priority: 'batch' }),
      envelope: { routingKey: 'small.interactive' },
    },
    {
      name: 'a routing key without a queue',
      code: 'TG_JOB_KEY_MISMATCH',
      field: 'routing_key',
      body: tollgate.job(),
      envelope: { routingKey: 'small.urgent' },
    },
  ];
}

await t.test('a bad job is answered with its code and its field, and harms nobody', async (t) => {
  const tollgate = await world(t);
  await tollgate.addPublisher('rival');
  await tollgate.addAccount('rival', ['rival'], 1_000_000n);
  await tollgate.addAccount('poor', ['web'], 10n);
  await tollgate.addModel('free', { inputPriceMicro: null });
  await tollgate.addModel('idle');
  await tollgate.addNode('n2', ['free']);
  await tollgate.startHandWorker('n2', 2, ['free']);
  const tools = { tollgate, deadLetters: await collectDeadLetters(tollgate) };
  const all = [...malformed(tollgate), ...inadmissible(tollgate), ...(await misaddressed(tollgate))];
  for (const bad of all) await t.test(bad.name, (t) => proveRefused(t, tools, bad));

  await t.test('a job whose wait_ms runs out in its queue', (t) => {
    const body = tollgate.job({ model: 'idle', limits: { ...tollgate.job().limits, wait_ms: 300 } });
    return proveRefused(t, tools, {
      name: 'expired',
      code: 'TG_JOB_EXPIRED',
      field: 'limits.wait_ms',
      body,
      ends: 'expired',
    });
  });

  await t.test('a traceparent that is none is left out, and a good one is kept', async (t) => {
    const good = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    for (const [traceparent, kept] of [
      [good, good],
      [`${good}\0`, null],
      ['x'.repeat(20_000), null],
    ] as const) {
      const job = tollgate.job();
      await tollgate.send(job, { headers: { traceparent } });
      t.equal((await tollgate.reply(job.id)).state, 'succeeded');
      const [row] = await tollgate.books.sql<{ traceparent: string | null }>(
        'select traceparent from jobs.jobs where id = $1',
        [job.id],
      );
      t.equal(row?.traceparent, kept);
    }
  });

  await t.test("our own reply, turned back into `jobs` by its reader's queue", async (t) => {
    const url = new URL(tollgate.servers.amqpUrl);
    url.username = tollgate.client.user;
    url.password = passwordOf(tollgate.client.user);
    const connection = await connect(url.href);
    t.after(() => connection.close());
    const channel = await connection.createChannel();
    const trap = `${tollgate.client.replyQueue}.trap`;
    await channel.assertQueue(trap, {
      messageTtl: 0,
      deadLetterExchange: 'jobs',
      deadLetterRoutingKey: 'small.interactive',
      autoDelete: true,
    });
    const creditsBefore = await tollgate.books.credits();
    await tollgate.send(tollgate.job({ account: 'nobody' }), { replyTo: trap });
    const letter = await until(
      () => tools.deadLetters.find((one) => one.body.includes('TG_ACCOUNT_UNKNOWN')),
      'the reply as a dead letter',
    );
    t.match(letter, { reason: 'TG_SENDER_UNKNOWN', field: 'x-death' });
    t.equal(await tollgate.books.credits(), creditsBefore);
    t.equal((await tollgate.run(tollgate.job())).state, 'succeeded', 'the next good job runs');
  });
});
