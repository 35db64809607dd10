import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Clock } from '../../clock.ts';
import type { DispatchMessage } from '../../contracts/dispatch.ts';
import { type AttemptFailureCode, ChatAnswer, errorKind, field, ModelFault } from './chat-answer.ts';
import { SseParser } from './sse.ts';

/** A model on this node: its pool, and the OpenAI-compatible server behind it. */
export interface ServedModel {
  /** The pool's name, as jobs name the model. */
  readonly name: string;
  /** Base URL of the API, as OpenAI clients take it: `http://127.0.0.1:8000/v1`; without a path `/v1` is meant. */
  readonly url: string;
  readonly apiKey?: string;
  /** What the server calls the model, if not `name`. */
  readonly servedAs?: string;
}

/** How asking a model ended. Times in whole milliseconds since it was asked. */
export type ChatOutcome = { readonly firstTokenMs: number | null; readonly totalMs: number } & (
  | { readonly kind: 'answered'; readonly answer: ChatAnswer }
  | { readonly kind: 'failed'; readonly code: AttemptFailureCode; readonly message: string }
);

/** Reasons of an abort; any other means that the job's time ran out. */
export const STOPS = {
  worker_stopped: 'the worker was stopped while the model was answering',
  first_token_deadline: 'the model gave no token in time',
  cancelled: 'nobody waits for the answer any more',
} as const satisfies Partial<Record<AttemptFailureCode, string>>;
/** Why a worker ends an attempt before its answer has come whole. */
export type StopReason = keyof typeof STOPS;

/** Status by which a model server says that the request itself is wrong: another server of the model would say the same. */
const INVALID_REQUEST: ReadonlySet<number> = new Set([400, 413, 422]);

/** Of an error answer, this much is read to find what kind of error it was. */
const ERROR_BYTES_MAX = 16_384;
/** After `[DONE]` a server has this long to end its answer; then the connection is closed instead of kept. */
const TAIL_MS = 1_000;

/** Asks chat models over kept connections. `close` ends idle ones; those in use end with their answer. */
export class ModelClient {
  readonly #clock: Clock;
  readonly #http: HttpAgent;
  readonly #https: HttpsAgent;

  /** At most `connectionsMax` connections to one server. */
  constructor(connectionsMax: number, clock: Clock) {
    this.#clock = clock;
    const options = { keepAlive: true, maxSockets: connectionsMax, maxFreeSockets: connectionsMax };
    this.#http = new HttpAgent(options);
    this.#https = new HttpsAgent(options);
  }

  close(): void {
    this.#http.destroy();
    this.#https.destroy();
  }

  /**
   * Streams one chat completion and times its tokens; `onTokens` hears how many there are. Ends early when `signal` is aborted: as
   * its reason says (`STOPS`), else `deadline`. Whatever the server does is a value, not a rejection. Source: the OpenAI API reference, "Create chat completion".
   */
  async ask(
    model: ServedModel,
    dispatch: Pick<DispatchMessage, 'input' | 'limits'>,
    signal: AbortSignal,
    onTokens: (tokens: number) => void = () => undefined,
  ): Promise<ChatOutcome> {
    const startMs = this.#clock.monotonicMs();
    const elapsedMs = () => Math.round(this.#clock.monotonicMs() - startMs);
    const answer = new ChatAnswer();
    const times = () => ({ firstTokenMs: answer.tokenAtMs[0] ?? null, totalMs: elapsedMs() });
    try {
      const response = await this.#post(model, requestBody(model, dispatch), signal);
      await expectStream(response);
      await readStream(response, answer, elapsedMs, onTokens);
      return { kind: 'answered', answer, ...times() };
    } catch (error) {
      const fault = signal.aborted ? stopped(signal) : error;
      if (!(fault instanceof ModelFault)) throw error;
      return { kind: 'failed', code: fault.code, message: fault.message, ...times() };
    }
  }

  /** A server may close a kept connection just as we use it; nothing was answered then, and a fresh one is tried once. */
  async #post(model: ServedModel, body: string, signal: AbortSignal): Promise<IncomingMessage> {
    const url = completionsUrl(model.url);
    const agent = url.protocol === 'https:' ? this.#https : this.#http;
    try {
      return await post(url, model, body, signal, agent);
    } catch (error) {
      if (!(error instanceof StaleConnection) || signal.aborted) throw error;
      return await post(url, model, body, signal, false);
    }
  }
}

function stopped(signal: AbortSignal): ModelFault {
  const reason: unknown = signal.reason;
  return isStop(reason)
    ? new ModelFault(reason, STOPS[reason])
    : new ModelFault('deadline', "the job's time ran out while the model was answering");
}

function isStop(reason: unknown): reason is StopReason {
  return typeof reason === 'string' && Object.hasOwn(STOPS, reason);
}

/** A kept connection ended before any answer came on it. */
class StaleConnection extends ModelFault {}

function post(
  url: URL,
  model: ServedModel,
  body: string,
  signal: AbortSignal,
  agent: HttpAgent | false,
): Promise<IncomingMessage> {
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const headers: Record<string, string | number> = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    accept: 'text/event-stream',
  };
  if (model.apiKey !== undefined) headers['authorization'] = `Bearer ${model.apiKey}`;
  return new Promise((resolve, reject) => {
    const request = send(url, { method: 'POST', agent, headers, signal });
    request.once('response', resolve);
    // For good: an abort after the answer began is reported here as well as on the answer.
    request.on('error', (error) => {
      const code = 'code' in error ? String(error.code) : error.name;
      const Fault = request.reusedSocket && code === 'ECONNRESET' ? StaleConnection : ModelFault;
      reject(new Fault('model_unreachable', `the model server cannot be reached: ${code}`));
    });
    request.end(body);
  });
}

/** Throws ModelFault unless the server answers 200 with an event stream. */
async function expectStream(response: IncomingMessage): Promise<void> {
  const status = response.statusCode ?? 0;
  const type = response.headers['content-type'] ?? '';
  if (status === 200 && type.startsWith('text/event-stream')) return;
  if (status === 200) {
    response.destroy();
    throw new ModelFault('model_error', 'the model server did not answer with an event stream');
  }
  const error = field(parseOrNull(await readStart(response)), 'error');
  const code = INVALID_REQUEST.has(status) ? 'invalid_request' : 'model_error';
  throw new ModelFault(code, `the model server answered ${status}${errorKind(error)}`);
}

/** Resolves when the answer has come whole. Throws ModelFault. */
function readStream(
  response: IncomingMessage,
  answer: ChatAnswer,
  elapsedMs: () => number,
  onTokens: (tokens: number) => void,
): Promise<void> {
  const parser = new SseParser();
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      reject(error instanceof RangeError ? new ModelFault('model_error', error.message) : error);
      response.destroy();
    };
    response.on('data', (chunk: Buffer) => {
      if (answer.isDone) return;
      try {
        for (const data of parser.push(chunk)) answer.take(data, elapsedMs());
        onTokens(answer.tokenEnds.length);
      } catch (error) {
        fail(error);
        return;
      }
      if (!answer.isDone) return;
      // The rest is read so that the connection can be kept, but nobody waits for it.
      resolve();
      const timer = setTimeout(() => response.destroy(), TAIL_MS);
      response.once('close', () => clearTimeout(timer));
    });
    response.once('close', () => {
      if (answer.isWhole) resolve();
      else reject(new ModelFault('stream_broken', 'the model server broke off its answer'));
    });
    // The reason is not needed: `close` follows, and says whether the answer was whole.
    response.on('error', () => {});
  });
}

/** The beginning of an error answer; reads no further. */
async function readStart(response: IncomingMessage): Promise<string> {
  let text = '';
  try {
    for await (const chunk of response.setEncoding('utf8')) {
      text += String(chunk);
      if (text.length > ERROR_BYTES_MAX) break;
    }
  } catch {
    // Broken off: what came will do, the status is known.
  }
  return text;
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Where to post, from a base URL with or without `/v1`. Throws TypeError if it is no URL. */
export function completionsUrl(base: string): URL {
  const url = new URL(base);
  const path = url.pathname.replace(/\/+$/, '');
  url.pathname = `${path === '' ? '/v1' : path}/chat/completions`;
  return url;
}

function requestBody(
  model: ServedModel,
  { input, limits }: Pick<DispatchMessage, 'input' | 'limits'>,
): string {
  return JSON.stringify({
    model: model.servedAs ?? model.name,
    ...input,
    max_tokens: limits.output_tokens_max,
    stream: true,
    stream_options: { include_usage: true },
  });
}
