import t, { type Test } from 'tap';
import { ModelServer, type ModelServerOptions } from '../../src/demo/model-server.ts';

interface Completion {
  readonly choices: readonly [{ message: { content: string }; finish_reason: string }];
  readonly usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
}
interface Chunk {
  readonly choices: readonly { delta: { content?: string }; finish_reason: string | null }[];
  readonly usage?: Completion['usage'];
}

const question = { model: 'tiny', messages: [{ role: 'user', content: 'What is Light' }], seed: 7 };

async function serve(t: Test, options: Partial<ModelServerOptions> = {}): Promise<ModelServer> {
  const server = new ModelServer({ models: ['tiny', 'small'], ...options });
  await server.start();
  t.after(() => server.stop());
  return server;
}

function post(server: ModelServer, body: object | string, signal?: AbortSignal): Promise<Response> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return fetch(`${server.url}/chat/completions`, { method: 'POST', body: text, signal: signal ?? null });
}

async function complete(server: ModelServer, fields: object): Promise<Completion> {
  const answer: Completion = JSON.parse(await (await post(server, { ...question, ...fields })).text());
  return answer;
}

/** The events of a streamed answer; the last one must be `[DONE]`. */
async function stream(t: Test, server: ModelServer, fields: object): Promise<Chunk[]> {
  const text = await (await post(server, { ...question, ...fields, stream: true })).text();
  const events = text
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => event.replace(/^data: /, ''));
  t.equal(events.pop(), '[DONE]');
  const chunks: Chunk[] = JSON.parse(`[${events.join()}]`);
  return chunks;
}

const textOf = (chunks: readonly Chunk[]) =>
  chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');

await t.test('a streamed answer and a whole one are the same for the same seed', async (t) => {
  const server = await serve(t);
  const whole = await complete(server, { max_tokens: 12 });
  const chunks = await stream(t, server, { max_tokens: 12, stream_options: { include_usage: true } });
  t.equal(textOf(chunks), whole.choices[0].message.content);
  t.same(chunks.at(-1)?.usage, whole.usage);
  t.equal(chunks.at(-2)?.choices[0]?.finish_reason, whole.choices[0].finish_reason);
  t.same(whole.usage, { prompt_tokens: 3, completion_tokens: 12, total_tokens: 15 });
});

await t.test('usage is streamed only when it is asked for', async (t) => {
  const chunks = await stream(t, await serve(t), { max_tokens: 3 });
  t.notOk(chunks.some((chunk) => chunk.usage));
});

await t.test('max_tokens, stop and temperature are honoured', async (t) => {
  const server = await serve(t);
  const long = await complete(server, { max_tokens: 4 });
  t.match(long, { choices: [{ finish_reason: 'length' }], usage: { completion_tokens: 4 } });
  const word = long.choices[0].message.content.split(' ')[1] ?? '';
  const stopped = await complete(server, { max_tokens: 4, stop: ` ${word}` });
  t.match(stopped.choices[0], {
    finish_reason: 'stop',
    message: { content: long.choices[0].message.content.split(' ')[0] },
  });
  const [one, two] = await Promise.all(
    [1, 2].map((seed) => complete(server, { temperature: 0, seed, max_tokens: 8 })),
  );
  t.equal(one?.choices[0].message.content, two?.choices[0].message.content);
});

await t.test('a bad request gets an error in the usual form that names the field', async (t) => {
  const server = await serve(t);
  const cases: [string, object | string, number, string | null][] = [
    ['no JSON', '{', 400, 'body'],
    ['no messages', { model: 'tiny', messages: [] }, 400, 'messages'],
    ['no tokens', { ...question, max_tokens: 0 }, 400, 'max_tokens'],
    ['too hot', { ...question, temperature: 3 }, 400, 'temperature'],
    ['unknown model', { ...question, model: 'large' }, 404, 'model'],
    ['too large', 'x'.repeat(3_000_000), 413, null],
  ];
  for (const [name, body, status, param] of cases) {
    const response = await post(server, body);
    t.equal(response.status, status, name);
    t.match(await response.json(), { error: { type: 'invalid_request_error', param } }, name);
  }
  t.equal((await fetch(`${server.url}/nothing`)).status, 404);
  t.equal((await fetch(`${server.url}/chat/completions`)).status, 405);
});

await t.test('it lists its models, labelled as what they are', async (t) => {
  const server = await serve(t);
  const response = await fetch(`${server.url}/models`);
  t.match(response.headers.get('x-demo-model'), 'n-gram');
  t.match(await response.json(), {
    data: [
      { id: 'tiny', owned_by: 'tollgate-demo-ngram' },
      { id: 'small', owned_by: 'tollgate-demo-ngram' },
    ],
  });
  t.equal((await fetch(new URL('/health', server.url))).status, 200);
});

await t.test('tokens come at the set speed, after the set wait', async (t) => {
  const server = await serve(t, { tokensPerSecond: 100, firstTokenMs: 30 });
  const start = performance.now();
  const chunks = await stream(t, server, { max_tokens: 6 });
  const took = performance.now() - start;
  t.ok(textOf(chunks).length > 0);
  // 30 ms to the first of six, 10 ms to each other; timers may fire a millisecond early.
  t.ok(took >= 78, `${took} ms`);
});

await t.test('more answers than the limit wait for their turn', async (t) => {
  const server = await serve(t, { concurrency: 1, firstTokenMs: 20 });
  const start = performance.now();
  await Promise.all([1, 2, 3].map(() => complete(server, { max_tokens: 2 })));
  t.ok(performance.now() - start >= 57);
});

await t.test('a client that goes away frees its place', async (t) => {
  const server = await serve(t, { concurrency: 1, firstTokenMs: 60_000 });
  const gone = new AbortController();
  const first = post(server, question, gone.signal);
  const second = new AbortController();
  const rejected = t.rejects(first);
  gone.abort();
  await rejected;
  const headers = await post(server, { ...question, stream: true }, second.signal);
  t.equal(headers.status, 200, 'the second answer has begun');
  second.abort();
  await headers.text().catch(() => '');
});

await t.test('start and stop may be called twice and out of order', async (t) => {
  const server = new ModelServer({ models: ['tiny'] });
  await server.stop();
  await server.start();
  await server.start();
  t.equal((await complete(server, { max_tokens: 1 })).usage.completion_tokens, 1);
  await server.stop();
  await server.stop();
});
