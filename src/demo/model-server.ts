import { randomInt, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import pLimit, { type LimitFunction } from 'p-limit';
import { type Static, Type } from 'typebox';
import { type Clock, systemClock } from '../clock.ts';
import { BODY_BYTES_MAX, parserOf } from '../contracts/parse.ts';
import { invariant } from '../errors.ts';
import type { Service } from '../ops/types.ts';
import { type Finish, NgramModel, type Sampling, tokenize } from './ngram.ts';

/** A chat may be a little larger than the job it came in. */
const REQUEST_BYTES_MAX = 2 * BODY_BYTES_MAX;
const OUTPUT_TOKENS_MAX = 32_768;
const OUTPUT_TOKENS_DEFAULT = 128;
const OWNER = 'tollgate-demo-ngram';

const Stop = Type.String({ minLength: 1, maxLength: 64 });

/** Of OpenAI's request: what this server honours. Fields it does not know are ignored, as other servers do. */
const ChatRequest = Type.Object({
  model: Type.String(),
  messages: Type.Array(Type.Object({ role: Type.String(), content: Type.String() }), { minItems: 1 }),
  stream: Type.Optional(Type.Boolean()),
  stream_options: Type.Optional(Type.Object({ include_usage: Type.Optional(Type.Boolean()) })),
  max_tokens: Type.Optional(Type.Integer({ minimum: 1, maximum: OUTPUT_TOKENS_MAX })),
  temperature: Type.Optional(Type.Number({ minimum: 0, maximum: 2 })),
  top_p: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
  seed: Type.Optional(Type.Integer()),
  stop: Type.Optional(Type.Union([Stop, Type.Array(Stop, { minItems: 1, maxItems: 4 })])),
  n: Type.Optional(Type.Literal(1)),
});
type ChatRequest = Static<typeof ChatRequest>;

const parseChat = parserOf(ChatRequest, REQUEST_BYTES_MAX);

/** How the server behaves. */
export interface ModelServerOptions {
  /** Names it serves, all with the same model. */
  readonly models: readonly string[];
  /** 0, the default: as fast as it can. */
  readonly tokensPerSecond?: number;
  /** From the beginning of an answer to its first token, in milliseconds; default 0. */
  readonly firstTokenMs?: number;
  /** Answers made at a time; further requests wait. Default 64. */
  readonly concurrency?: number;
  /** On 127.0.0.1; 0, the default, takes a free one. */
  readonly port?: number;
}

/** What is the same in every chunk of one answer. */
interface Answer {
  readonly id: string;
  readonly model: string;
  readonly createdS: number;
  readonly inputTokens: number;
  readonly tokens: Generator<string, Finish>;
}

/**
 * The demo's model server: an OpenAI-compatible HTTP server (`POST /v1/chat/completions`, streamed and not, `GET /v1/models`,
 * `GET /health`) over an n-gram model that is trained on a public-domain text when it starts. It is no language model to
 * use for anything: answers are labelled with `owned_by` and the header `x-demo-model`. Listens on 127.0.0.1 only, without
 * authentication. Source: the OpenAI API reference, "Create chat completion".
 */
export class ModelServer implements Service {
  readonly #options: Required<ModelServerOptions>;
  readonly #clock: Clock;
  readonly #model: NgramModel;
  readonly #server: Server;
  readonly #limit: LimitFunction;
  #url = '';

  constructor(options: ModelServerOptions, clock: Clock = systemClock) {
    this.#options = { tokensPerSecond: 0, firstTokenMs: 0, concurrency: 64, port: 0, ...options };
    this.#clock = clock;
    this.#model = new NgramModel(
      readFileSync(new URL('./corpus/opticks-queries.txt', import.meta.url), 'utf8'),
    );
    this.#limit = pLimit(this.#options.concurrency);
    this.#server = createServer((request, response) => {
      // Only a client that went away ends here.
      this.#route(request, response).catch(() => response.destroy());
    });
  }

  /** `http://127.0.0.1:<port>/v1`, known once `start` has resolved. */
  get url(): string {
    return this.#url;
  }

  async start(): Promise<void> {
    if (this.#server.listening) return;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#options.port, '127.0.0.1', resolve);
    });
    const address = this.#server.address();
    invariant(typeof address === 'object' && address !== null, 'a TCP server that listens has an address');
    this.#url = `http://127.0.0.1:${address.port}/v1`;
  }

  /** Answers under way are cut off. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('x-demo-model', 'n-gram trained on a public-domain text');
    const path = request.url?.split('?', 1)[0];
    if (path === '/health' && request.method === 'GET') return sendJson(response, 200, { status: 'ok' });
    if (path === '/v1/models' && request.method === 'GET') {
      const data = this.#options.models.map((id) => ({ id, object: 'model', created: 0, owned_by: OWNER }));
      return sendJson(response, 200, { object: 'list', data });
    }
    if (path !== '/v1/chat/completions') return sendError(response, 404, `no such path: ${path}`, null);
    if (request.method !== 'POST') return sendError(response, 405, 'use POST', null);
    return this.#chat(request, response);
  }

  async #chat(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(request);
    if (body === null) return sendError(response, 413, 'the request is too large', null);
    const parsed = parseChat(body);
    if (!parsed.ok) return sendError(response, 400, parsed.fault.message, parsed.fault.field);
    const chat = parsed.value;
    if (!this.#options.models.includes(chat.model))
      return sendError(response, 404, 'the model does not exist', 'model');
    await this.#limit(async () => {
      if (response.destroyed) return;
      const answer = this.#begin(chat);
      await (chat.stream ? this.#stream(answer, chat, response) : this.#whole(answer, response));
    });
  }

  #begin(chat: ChatRequest): Answer {
    const prompt = chat.messages.map((message) => message.content).join('\n');
    const sampling: Sampling = {
      tokensMax: chat.max_tokens ?? OUTPUT_TOKENS_DEFAULT,
      temperature: chat.temperature ?? 1,
      topP: chat.top_p ?? 1,
      seed: chat.seed ?? randomInt(2 ** 32),
      stop: typeof chat.stop === 'string' ? [chat.stop] : (chat.stop ?? []),
    };
    return {
      id: `chatcmpl-${randomUUID()}`,
      model: chat.model,
      createdS: Math.floor(this.#clock.nowMs() / 1_000),
      inputTokens: tokenize(prompt).length,
      tokens: this.#model.answer(prompt, sampling),
    };
  }

  async #whole(answer: Answer, response: ServerResponse): Promise<void> {
    let content = '';
    const { finish, outputTokens } = await this.#pace(answer, response, (tokens) => {
      content += tokens.join('');
    });
    sendJson(response, 200, {
      id: answer.id,
      object: 'chat.completion',
      created: answer.createdS,
      model: answer.model,
      choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: finish }],
      usage: usageOf(answer, outputTokens),
    });
  }

  async #stream(answer: Answer, chat: ChatRequest, response: ServerResponse): Promise<void> {
    const envelope = { id: answer.id, object: 'chat.completion.chunk', created: answer.createdS };
    const event = (fields: object) =>
      `data: ${JSON.stringify({ ...envelope, model: answer.model, ...fields })}\n\n`;
    const choice = (delta: object, finish: Finish | null) =>
      event({ choices: [{ index: 0, delta, finish_reason: finish }] });

    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    let pending = choice({ role: 'assistant', content: '' }, null);
    const send = () => {
      response.write(pending);
      pending = '';
    };
    // At full speed the whole answer is one write, and this begins it.
    if (this.#options.firstTokenMs > 0 || this.#options.tokensPerSecond > 0) send();
    const { finish, outputTokens } = await this.#pace(answer, response, (tokens, isLast) => {
      for (const content of tokens) pending += choice({ content }, null);
      if (!isLast) send();
    });
    pending += choice({}, finish);
    if (chat.stream_options?.include_usage)
      pending += event({ choices: [], usage: usageOf(answer, outputTokens) });
    response.end(`${pending}data: [DONE]\n\n`);
  }

  /** Makes the answer at the set speed and hands over the tokens that are due together; ends early if nobody listens. */
  async #pace(
    answer: Answer,
    response: ServerResponse,
    take: (tokens: string[], isLast: boolean) => void,
  ): Promise<{ finish: Finish; outputTokens: number }> {
    const { tokensPerSecond, firstTokenMs } = this.#options;
    const tokenMs = tokensPerSecond > 0 ? 1_000 / tokensPerSecond : 0;
    const startMs = this.#clock.monotonicMs();
    let outputTokens = 0;
    const dueInMs = () => startMs + firstTokenMs + outputTokens * tokenMs - this.#clock.monotonicMs();
    for (;;) {
      await sleepUnlessClosed(dueInMs(), response);
      const tokens: string[] = [];
      do {
        const next = answer.tokens.next();
        if (next.done || response.destroyed) {
          take(tokens, true);
          return { finish: next.done ? next.value : 'stop', outputTokens };
        }
        tokens.push(next.value);
        outputTokens++;
      } while (dueInMs() <= 0);
      take(tokens, false);
    }
  }
}

function usageOf(answer: Answer, outputTokens: number): object {
  return {
    prompt_tokens: answer.inputTokens,
    completion_tokens: outputTokens,
    total_tokens: answer.inputTokens + outputTokens,
  };
}

/** Null if it is too large; the rest is then read and thrown away, so that the answer arrives. */
async function bodyOf(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length <= REQUEST_BYTES_MAX) chunks.push(chunk);
  }
  return length <= REQUEST_BYTES_MAX ? Buffer.concat(chunks) : null;
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** In OpenAI's form; `param` names the field. */
function sendError(response: ServerResponse, status: number, message: string, param: string | null): void {
  sendJson(response, status, { error: { message, type: 'invalid_request_error', param, code: null } });
}

function sleepUnlessClosed(ms: number, response: ServerResponse): Promise<void> {
  if (ms <= 0 || response.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      response.off('close', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    response.once('close', end);
  });
}
