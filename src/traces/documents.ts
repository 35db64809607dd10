import { Binary, UUID } from 'mongodb';
import { DIGEST_BYTES } from '../contracts/signed-bytes.ts';
import { isUuidV7, uuidBytes } from '../ids.ts';
import { packIntegers, unpackIntegers } from './packed-integers.ts';
import type {
  AttemptBson,
  EventBson,
  JobKey,
  RequestBson,
  RouteBson,
  RoutingBson,
  TraceBson,
} from './stored.ts';
import type {
  AttemptDocument,
  EventDocument,
  RequestDocument,
  RouteDocument,
  RoutingEntry,
  Trace,
} from './types.ts';

/** One collection each; also the kinds of spool messages, by their place here: new ones go to the end. */
export const SECTIONS = ['requests', 'attempts', 'events', 'routes'] as const;
export type Section = (typeof SECTIONS)[number];

/** What is known of each section by its type here. */
export interface SectionDocuments {
  readonly requests: RequestDocument;
  readonly attempts: AttemptDocument;
  readonly events: EventDocument;
  readonly routes: RouteDocument;
}

/** How each section is stored. */
export interface SectionBson {
  readonly requests: RequestBson;
  readonly attempts: AttemptBson;
  readonly events: EventBson;
  readonly routes: RouteBson;
}

/** OpenTelemetry's word for a kind of job, where it has one of its own. */
const OPERATION_OF_KIND: Readonly<Record<string, string>> = {
  completion: 'text_completion',
  embedding: 'embeddings',
};
const KIND_OF_OPERATION: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(OPERATION_OF_KIND).map(([kind, operation]) => [operation, kind]),
);

/** How a job's id is stored: 16 bytes instead of 36 in each document and three indexes. */
export function jobKeyOf(job: string): Binary | string {
  return isUuidV7(job) ? new Binary(uuidBytes(job), Binary.SUBTYPE_UUID) : job;
}

/** The id that `jobKeyOf` stored. */
export function jobOf(key: JobKey): string {
  return typeof key === 'string' ? key : new UUID(key.value()).toHexString();
}

function hexBytes(hex: string): Binary {
  return new Binary(Buffer.from(hex, 'hex'));
}

function dateOrNull(ms: number | null): Date | null {
  return ms === null ? null : new Date(ms);
}

/** The bytes of a binary value, as a Buffer of its own view. */
export function bytesOf(binary: Binary): Buffer {
  return Buffer.from(binary.buffer.buffer, binary.buffer.byteOffset, binary.position);
}

/** How each section's documents are written. `_id` comes from the content, so that a repeat is a duplicate key. */
export const ENCODERS: {
  readonly [S in Section]: (document: SectionDocuments[S]) => SectionBson[S];
} = {
  requests: encodeRequest,
  attempts: encodeAttempt,
  events: encodeEvent,
  routes: encodeRoute,
};

function encodeRequest(request: RequestDocument): RequestBson {
  return {
    _id: jobKeyOf(request.job),
    account: request.account,
    namespace: request.namespace,
    publisher: request.publisher,
    at: new Date(request.receivedAtMs),
    gen_ai: {
      operation: { name: OPERATION_OF_KIND[request.kind] ?? request.kind },
      request: { model: request.model },
    },
    model_version: request.modelVersion,
    priority: request.priority,
    traceparent: request.traceparent,
    routing: request.routing && encodeRouting(request.routing),
    body: new Binary(request.body),
  };
}

function encodeRouting(routing: RoutingEntry): RoutingBson {
  return {
    attempt: routing.attempt,
    node: routing.node,
    session: routing.session,
    is_warm: routing.isWarm,
    slots_free: routing.slotsFree,
    workers_free: routing.workersFree,
    received_at: new Date(routing.receivedAtMs),
    locked_at: new Date(routing.lockedAtMs),
    dispatched_at: dateOrNull(routing.dispatchedAtMs),
    dispatch_ms: routing.dispatchMs,
  };
}

function encodeRoute(route: RouteDocument): RouteBson {
  return {
    _id: attemptKey(route.job, route.routing.attempt),
    job: jobKeyOf(route.job),
    namespace: route.namespace,
    gen_ai: { request: { model: route.model } },
    model_version: route.modelVersion,
    reason: route.reason && {
      class: route.reason.class,
      code: route.reason.code,
      node: route.reason.node,
    },
    routing: encodeRouting(route.routing),
  };
}

function encodeAttempt(attempt: AttemptDocument): AttemptBson {
  return {
    _id: attemptKey(attempt.job, attempt.attempt),
    job: jobKeyOf(attempt.job),
    namespace: attempt.namespace,
    attempt: attempt.attempt,
    node: attempt.node,
    session: attempt.session,
    outcome: attempt.outcome,
    code: attempt.code,
    decision: attempt.decision && {
      class: attempt.decision.class,
      action: attempt.decision.action,
      is_counted: attempt.decision.isCounted,
      delay_ms: attempt.decision.delayMs,
    },
    at: new Date(attempt.endedAtMs),
    charged_micro: attempt.chargedMicro,
    locked_micro: attempt.lockedMicro,
    result: attempt.result && encodeResult(attempt.result),
  };
}

function encodeResult(result: NonNullable<AttemptDocument['result']>): AttemptBson['result'] {
  return {
    text: result.text,
    gen_ai: {
      response: {
        finish_reasons: result.finishReason === null ? [] : [result.finishReason],
        time_to_first_chunk: result.firstTokenMs === null ? null : result.firstTokenMs / 1_000,
      },
      usage: { input_tokens: result.inputTokens, output_tokens: result.outputTokens },
    },
    queued_ms: result.queuedMs,
    total_ms: result.totalMs,
    tokens: {
      ends: new Binary(packIntegers(result.tokenEnds)),
      at_ms: new Binary(packIntegers(result.tokenAtMs)),
    },
    gpu: result.gpu && { name: result.gpu.name, vram_gb: result.gpu.vramGb },
    evaluation: result.evaluation && {
      low_confidence: result.evaluation.lowConfidence,
      moderation: result.evaluation.moderation,
    },
    error: result.error && { code: result.error.code, message: result.error.message },
    digest: hexBytes(result.digest),
    flush_digests: hexBytes(result.flushDigests.join('')),
    signature: result.signature,
  };
}

function encodeEvent(event: EventDocument): EventBson {
  return {
    _id: event.key,
    job: event.job === null ? null : jobKeyOf(event.job),
    namespace: event.namespace,
    kind: event.kind,
    code: event.code,
    field: event.field,
    message: event.message,
    sender: event.sender,
    at: new Date(event.atMs),
  };
}

/** `_id` of an attempt's document. */
export function attemptKey(job: string, attempt: number): string {
  return `${job}.${attempt}`;
}

/** The joined document as its reader sees it; attempts and events in the order in which the view gives them. */
export function decodeTrace(trace: TraceBson): Trace {
  const request = decodeRequest(trace);
  return {
    job: request.job,
    request,
    routes: trace.routes.map(decodeRoute),
    attempts: trace.attempts.map(decodeAttempt),
    events: trace.events.map(decodeEvent),
  };
}

function decodeRequest(request: RequestBson): RequestDocument {
  const { _id: key } = request;
  const operation = request.gen_ai.operation.name;
  return {
    job: jobOf(key),
    account: request.account,
    namespace: request.namespace,
    publisher: request.publisher,
    model: request.gen_ai.request.model,
    modelVersion: request.model_version,
    kind: KIND_OF_OPERATION[operation] ?? operation,
    priority: request.priority,
    receivedAtMs: request.at.getTime(),
    body: bytesOf(request.body),
    routing: request.routing && decodeRouting(request.routing),
    traceparent: request.traceparent,
  };
}

function decodeRoute(route: RouteBson): RouteDocument {
  return {
    job: jobOf(route.job),
    namespace: route.namespace,
    model: route.gen_ai.request.model,
    modelVersion: route.model_version,
    reason: route.reason,
    routing: decodeRouting(route.routing),
  };
}

function decodeRouting(routing: RoutingBson): RoutingEntry {
  return {
    attempt: routing.attempt,
    node: routing.node,
    session: routing.session,
    isWarm: routing.is_warm,
    slotsFree: routing.slots_free,
    workersFree: routing.workers_free,
    receivedAtMs: routing.received_at.getTime(),
    lockedAtMs: routing.locked_at.getTime(),
    dispatchedAtMs: routing.dispatched_at?.getTime() ?? null,
    dispatchMs: routing.dispatch_ms,
  };
}

function decodeAttempt(attempt: AttemptBson): AttemptDocument {
  return {
    job: jobOf(attempt.job),
    attempt: attempt.attempt,
    namespace: attempt.namespace,
    node: attempt.node,
    session: attempt.session,
    outcome: attempt.outcome,
    code: attempt.code,
    decision: attempt.decision && {
      class: attempt.decision.class,
      action: attempt.decision.action,
      isCounted: attempt.decision.is_counted,
      delayMs: attempt.decision.delay_ms,
    },
    endedAtMs: attempt.at.getTime(),
    chargedMicro: attempt.charged_micro,
    lockedMicro: attempt.locked_micro,
    result: attempt.result && decodeResult(attempt.result),
  };
}

function decodeResult(result: NonNullable<AttemptBson['result']>): NonNullable<AttemptDocument['result']> {
  const firstTokenS = result.gen_ai.response.time_to_first_chunk;
  const digests = bytesOf(result.flush_digests);
  return {
    text: result.text,
    finishReason: result.gen_ai.response.finish_reasons[0] ?? null,
    inputTokens: result.gen_ai.usage.input_tokens,
    outputTokens: result.gen_ai.usage.output_tokens,
    queuedMs: result.queued_ms,
    // Rounded to a microsecond, or the way through seconds would turn 29 ms into 28.999999999999996.
    firstTokenMs: firstTokenS === null ? null : Math.round(firstTokenS * 1e6) / 1e3,
    totalMs: result.total_ms,
    tokenEnds: unpackIntegers(bytesOf(result.tokens.ends)),
    tokenAtMs: unpackIntegers(bytesOf(result.tokens.at_ms)),
    gpu: result.gpu && { name: result.gpu.name, vramGb: result.gpu.vram_gb },
    evaluation: result.evaluation && {
      lowConfidence: result.evaluation.low_confidence,
      moderation: result.evaluation.moderation,
    },
    error: result.error && { code: result.error.code, message: result.error.message },
    digest: bytesOf(result.digest).toString('hex'),
    flushDigests: Array.from({ length: digests.length / DIGEST_BYTES }, (_, i) =>
      digests.toString('hex', i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES),
    ),
    signature: result.signature,
  };
}

/** An event as its reader sees it. */
export function decodeEvent(event: EventBson): EventDocument {
  const { _id: key } = event;
  return {
    key,
    kind: event.kind,
    code: event.code,
    field: event.field,
    message: event.message,
    job: event.job === null ? null : jobOf(event.job),
    namespace: event.namespace,
    sender: event.sender,
    atMs: event.at.getTime(),
  };
}
