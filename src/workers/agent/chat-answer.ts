import { BODY_BYTES_MAX } from '../../contracts/parse.ts';

/**
 * Why a worker could not complete an attempt; travels as `error.code` of a result, and decides there what follows. `deadline`:
 * `remaining_ms` ran out. `first_token_deadline`: `first_token_ms` did, without a token. `invalid_request`: the model server does not
 * take this input, and no other would. `worker_stopped`: the worker was stopped and its drain time ran out. `cancelled` is the one
 * that never travels: nobody waits for that attempt any more.
 */
export type AttemptFailureCode =
  | 'deadline'
  | 'first_token_deadline'
  | 'invalid_request'
  | 'cancelled'
  | 'model_not_served'
  | 'model_unreachable'
  | 'model_error'
  | 'stream_broken'
  | 'output_too_large'
  | 'worker_stopped';

/** Thrown while a model answers, and turned into a value in one place. Its message never quotes a prompt or an answer. */
export class ModelFault extends Error {
  override readonly name = 'ModelFault';
  readonly code: AttemptFailureCode;
  constructor(code: AttemptFailureCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Tokens in and out, as the model server counts them. */
interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** Most entries of `tokens` in a result; what comes after them is added to the last. */
const TOKENS_MAX = 200_000;
/** Most that a result may state; beyond it the server's count is nonsense. */
const COUNT_MAX = 100_000_000;

/** Collects a streamed chat completion, one event at a time. */
export class ChatAnswer {
  readonly tokenEnds: number[] = [];
  readonly tokenAtMs: number[] = [];
  #text = '';
  #finishReason: string | null = null;
  #usage: Usage | null = null;
  #isDone = false;

  /** True once the server said `[DONE]`: what follows is not read. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** True once the answer has come whole: some servers close the stream after the last chunk without `[DONE]`. */
  get isWhole(): boolean {
    return this.#isDone || this.#finishReason !== null;
  }

  /** Well-formed: half a character at the very end, or one that a server made up, becomes U+FFFD; no offset moves. */
  get text(): string {
    return this.#text.toWellFormed();
  }

  /** Everything that is not cut at the limit counts as a natural stop: the contract knows these two. */
  get finishReason(): 'stop' | 'length' {
    return this.#finishReason === 'length' ? 'length' : 'stop';
  }

  /** What the model server's own moderation said, or null. */
  get moderation(): string | null {
    return this.#finishReason === 'content_filter' ? 'content_filter' : null;
  }

  /** As counted by the server; null if it gave no usable count. */
  get usage(): Usage | null {
    return this.#usage;
  }

  /**
   * Takes the data of one event that came `atMs` after the model was asked. A chunk with text counts as one token: that is
   * what servers send, though the API does not promise it. Throws ModelFault.
   */
  take(data: string, atMs: number): void {
    if (this.#isDone) return;
    if (data === '[DONE]') {
      this.#isDone = true;
      return;
    }
    const event = parseEvent(data);
    const error = field(event, 'error');
    if (error !== undefined && error !== null)
      throw new ModelFault('model_error', `the model server sent an error${errorKind(error)}`);
    this.#usage = usageOf(field(event, 'usage')) ?? this.#usage;
    const choices = field(event, 'choices');
    const choice: unknown = Array.isArray(choices) ? choices[0] : undefined;
    const content = field(field(choice, 'delta'), 'content');
    if (typeof content === 'string' && content !== '') this.#takeToken(content, atMs);
    const finishReason = field(choice, 'finish_reason');
    if (typeof finishReason === 'string') this.#finishReason = finishReason;
  }

  #takeToken(content: string, atMs: number): void {
    this.#text += content;
    if (this.#text.length > BODY_BYTES_MAX)
      throw new ModelFault('output_too_large', `the answer is larger than ${BODY_BYTES_MAX} bytes`);
    if (this.tokenEnds.length === TOKENS_MAX) {
      this.tokenEnds.pop();
      this.tokenAtMs.pop();
    }
    this.tokenEnds.push(this.#text.length);
    this.tokenAtMs.push(atMs);
  }
}

/**
 * ` (<type or code>)` of an OpenAI error object, or nothing. Its `message` is left out: servers quote the prompt there, and a
 * result's error goes to places where no content may go.
 */
export function errorKind(error: unknown): string {
  for (const name of ['type', 'code']) {
    const kind = field(error, name);
    if (typeof kind === 'string' && /^[\w.-]{1,64}$/.test(kind)) return ` (${kind})`;
  }
  return '';
}

/** `value[name]` where `value` is an object, else undefined: for JSON of strangers. */
export function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
  return Reflect.get(value, name);
}

function parseEvent(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    throw new ModelFault('model_error', 'the model server sent an event that is not JSON');
  }
}

function usageOf(usage: unknown): Usage | null {
  const inputTokens = field(usage, 'prompt_tokens');
  const outputTokens = field(usage, 'completion_tokens');
  return isCount(inputTokens) && isCount(outputTokens) ? { inputTokens, outputTokens } : null;
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= COUNT_MAX;
}
