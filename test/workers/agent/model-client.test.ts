import type { ServerResponse } from 'node:http';
import t, { type Test } from 'tap';
import { systemClock } from '../../../src/clock.ts';
import type { DispatchMessage } from '../../../src/contracts/dispatch.ts';
import {
  type ChatOutcome,
  completionsUrl,
  ModelClient,
  type ServedModel,
} from '../../../src/workers/agent/model-client.ts';
import { beginStream, DONE, finish, type Script, scriptedModel, token, usage } from './scripted-model.ts';

const dispatch: Pick<DispatchMessage, 'input' | 'limits'> = {
  input: { messages: [{ role: 'user', content: 'secret-prompt' }], temperature: 0.5, stop: ['x'] },
  limits: { input_tokens_max: 10, output_tokens_max: 7 },
};

async function ask(
  t: Test,
  script: Script,
  {
    model = {},
    signal = new AbortController().signal,
  }: { model?: Partial<ServedModel>; signal?: AbortSignal } = {},
): Promise<ChatOutcome> {
  const { url } = await scriptedModel(t, script);
  const client = new ModelClient(4, systemClock);
  t.after(() => client.close());
  return client.ask({ name: 'tiny', url, ...model }, dispatch, signal);
}

/** A script that streams `text` as it is. */
const streams =
  (text: string | Buffer): Script =>
  (response) => {
    beginStream(response);
    response.end(text);
  };

/** What an answered outcome holds, flat; throws on a failed one. */
function answered(outcome: ChatOutcome): object {
  if (outcome.kind === 'failed') throw new Error(`${outcome.code}: ${outcome.message}`);
  const { text, finishReason, moderation, usage: counted, tokenEnds, tokenAtMs } = outcome.answer;
  return { text, finishReason, moderation, usage: counted, tokenEnds, tokens: tokenAtMs.length };
}

function failure(outcome: ChatOutcome): string {
  return outcome.kind === 'failed' ? `${outcome.code}: ${outcome.message}` : 'answered';
}

await t.test('an answer is collected with its tokens, usage and finish reason', async (t) => {
  const text = token('Hel') + token('lo 🚀') + token('') + finish('length') + usage(5, 3) + DONE;
  t.same(answered(await ask(t, streams(text))), {
    text: 'Hello 🚀',
    finishReason: 'length',
    moderation: null,
    usage: { inputTokens: 5, outputTokens: 3 },
    tokenEnds: [3, 8],
    tokens: 2,
  });
});

await t.test('the request is what an OpenAI-compatible server expects', async (t) => {
  const seen: (string | undefined)[] = [];
  const { url, requests } = await scriptedModel(t, (response, _body, request) => {
    seen.push(request.method, request.url, request.headers.authorization);
    streams(finish('stop') + DONE)(response, {}, request);
  });
  const client = new ModelClient(1, systemClock);
  t.after(() => client.close());
  const model = { name: 'tiny', url, apiKey: 'sk-1', servedAs: 'org/Tiny-1B' };
  await client.ask(model, dispatch, new AbortController().signal);
  t.same(seen, ['POST', '/v1/chat/completions', 'Bearer sk-1']);
  t.same(requests[0], {
    model: 'org/Tiny-1B',
    messages: [{ role: 'user', content: 'secret-prompt' }],
    temperature: 0.5,
    stop: ['x'],
    max_tokens: 7,
    stream: true,
    stream_options: { include_usage: true },
  });
});

await t.test('a base URL is taken with and without its path', async (t) => {
  for (const base of ['http://h:1', 'http://h:1/', 'http://h:1/v1', 'http://h:1/v1/'])
    t.equal(completionsUrl(base).href, 'http://h:1/v1/chat/completions');
  t.equal(completionsUrl('https://h/openai/v1').href, 'https://h/openai/v1/chat/completions');
});

await t.test('tokens are timed as they come', async (t) => {
  const outcome = await ask(t, (response) => {
    beginStream(response);
    response.write(token('a'));
    setTimeout(() => response.end(token('b') + finish('stop') + DONE), 40);
  });
  if (outcome.kind === 'failed') throw new Error(outcome.message);
  const [first = -1, second = -1] = outcome.answer.tokenAtMs;
  t.equal(outcome.firstTokenMs, first);
  t.ok(second - first >= 30 && outcome.totalMs >= second, `${first}, ${second}, ${outcome.totalMs}`);
});

await t.test('a stream with CRLF, comments and bytes in any pieces is the same', async (t) => {
  const text = `: ping\r\n\r\n${token('é').replaceAll('\n', '\r\n')}${finish('stop')}${DONE}`;
  const outcome = await ask(t, (response) => {
    beginStream(response);
    const bytes = [...Buffer.from(text)];
    const writeNext = () => {
      const byte = bytes.shift();
      if (byte === undefined) response.end();
      else response.write(Buffer.of(byte), () => setImmediate(writeNext));
    };
    writeNext();
  });
  t.match(answered(outcome), { text: 'é', finishReason: 'stop', usage: null });
});

await t.test('a stream that ends after its last chunk without [DONE] is whole', async (t) => {
  t.match(answered(await ask(t, streams(token('a') + finish('stop')))), { text: 'a' });
  t.match(
    answered(
      await ask(t, (response) => {
        beginStream(response);
        response.write(token('a') + finish('stop'), () => response.destroy());
      }),
    ),
    { text: 'a' },
  );
});

await t.test('nobody waits for what follows [DONE]', async (t) => {
  const outcome = await ask(t, (response) => {
    beginStream(response);
    response.write(token('a') + finish('stop') + DONE + token('never seen'));
  });
  t.match(answered(outcome), { text: 'a' });
});

await t.test("a stop by the server's moderation is kept", async (t) => {
  const outcome = await ask(t, streams(token('a') + finish('content_filter') + DONE));
  t.match(answered(outcome), { finishReason: 'stop', moderation: 'content_filter' });
});

await t.test('a usage that makes no sense is none', async (t) => {
  for (const [input, output] of [
    [-1, 1],
    [1.5, 1],
    [1, 1e12],
  ] as const)
    t.match(answered(await ask(t, streams(token('a') + finish('stop') + usage(input, output) + DONE))), {
      usage: null,
    });
});

await t.test('half a character at the end becomes one, and no offset moves', async (t) => {
  const outcome = await ask(t, streams(token('a\ud83d') + token('\ude80\ud800') + finish('stop') + DONE));
  t.match(answered(outcome), { text: 'a🚀\ufffd', tokenEnds: [2, 4] });
});

const errorBody = (type: string) =>
  JSON.stringify({ error: { message: 'you said secret-prompt', type, code: null } });

const answersWith =
  (status: number, body: string, type = 'application/json') =>
  (response: ServerResponse) => {
    response.writeHead(status, { 'content-type': type });
    response.end(body);
  };

await t.test('whatever else a server does is a failure with a code, and no word of the prompt', async (t) => {
  const cases: [string, Script, RegExp][] = [
    ['500', answersWith(500, errorBody('overloaded')), /^model_error: .* 500 \(overloaded\)$/],
    ['400', answersWith(400, errorBody('bad_request')), /^invalid_request: .* 400 \(bad_request\)$/],
    ['500 with a page', answersWith(500, '<html>secret-prompt'), /^model_error: .* 500$/],
    ['a type that is prose', answersWith(500, errorBody('secret-prompt is bad')), /^model_error: .* 500$/],
    ['a long error', answersWith(500, 'x'.repeat(1_000_000)), /^model_error: .* 500$/],
    ['no stream', answersWith(200, '{}'), /^model_error: .* event stream$/],
    ['no JSON', streams('data: {\n\n'), /^model_error: .* not JSON$/],
    ['an error event', streams(`${token('a')}data: ${errorBody('oom')}\n\n`), /^model_error: .* \(oom\)$/],
    ['an empty stream', streams(''), /^stream_broken: /],
    ['a stream without end', streams(token('a')), /^stream_broken: /],
    [
      'a cut connection',
      (response) => {
        beginStream(response);
        response.write(token('a'), () => response.destroy());
      },
      /^stream_broken: /,
    ],
    [
      'a connection cut before the answer',
      (response) => response.destroy(),
      /^model_unreachable: .*ECONNRESET$/,
    ],
    ['an endless event', streams(`data: ${'x'.repeat(1_100_000)}`), /^model_error: .* longer than/],
    ['an endless answer', streams(token('x'.repeat(700_000)).repeat(2)), /^output_too_large: /],
  ];
  for (const [name, script, expected] of cases) {
    const said = failure(await ask(t, script));
    t.match(said, expected, name);
    t.notMatch(said, 'secret', name);
  }
});

await t.test('events of any shape do not throw', async (t) => {
  const odd = [
    'null',
    '1',
    '"x"',
    '[]',
    '{}',
    '{"choices":null}',
    '{"choices":[null]}',
    '{"choices":[{"delta":1}]}',
  ];
  const text = odd.map((data) => `data: ${data}\n\n`).join('');
  t.match(answered(await ask(t, streams(text + token('a') + finish('stop') + DONE))), { text: 'a' });
});

await t.test('a server that is not there is unreachable', async (t) => {
  const outcome = await ask(t, streams(''), { model: { url: 'http://127.0.0.1:1/v1' } });
  t.match(failure(outcome), /^model_unreachable: .*ECONNREFUSED$/);
});

/** A server that never answers, and one that begins to. */
const silent: Script = () => {};
const begun: Script = (response) => {
  beginStream(response);
  response.write(token('a'));
};

await t.test('an abort ends the wait and the stream, and says why', async (t) => {
  for (const script of [silent, begun]) {
    t.match(failure(await ask(t, script, { signal: AbortSignal.timeout(30) })), /^deadline: /);
    const stop = new AbortController();
    setTimeout(() => stop.abort('worker_stopped'), 30);
    t.match(failure(await ask(t, script, { signal: stop.signal })), /^worker_stopped: /);
  }
});

await t.test('a kept connection that the server closed meanwhile is replaced by a fresh one', async (t) => {
  let connections = 0;
  const answersOnce: Script = (response, _body, { socket }) => {
    if (!seen.has(socket)) {
      seen.add(socket);
      connections++;
      streams(finish('stop') + DONE)(response, {}, response.req);
    } else socket.resetAndDestroy();
  };
  const seen = new WeakSet<object>();
  const { url } = await scriptedModel(t, answersOnce);
  // One connection at most: the second request waits until the first has given it back.
  const client = new ModelClient(1, systemClock);
  t.after(() => client.close());
  for (let i = 0; i < 2; i++) {
    const outcome = await client.ask({ name: 'tiny', url }, dispatch, new AbortController().signal);
    t.equal(failure(outcome), 'answered');
  }
  t.equal(connections, 2);
});
