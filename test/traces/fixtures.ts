import type { AmqpBroker } from '../../src/broker/connection.ts';
import { connectBroker } from '../../src/broker/connection.ts';
import { systemClock } from '../../src/clock.ts';
import type { Config } from '../../src/config-schema.ts';
import { newUuidV7 } from '../../src/ids.ts';
import type { Log } from '../../src/ops/types.ts';
import { ensureCollections } from '../../src/traces/collections.ts';
import { MongoConnection, type MongoServers } from '../../src/traces/mongo.ts';
import type { AttemptDocument, EventDocument, RequestDocument } from '../../src/traces/types.ts';
import type { Teardown } from '../support/servers.ts';

/** Two characters outside the basic plane, a combining accent and a right-to-left word: what a model may answer. */
export const NON_BMP_TEXT = 'πρ🦊 e\u0301 שלום 𝒳';

/** In every prompt and answer of these tests; no log line may hold it. */
export const CONTENT_MARKER = 'CANARY-7f3a';

/** A log that keeps its lines as text. */
export function recordingLog(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  const note = (fields: object, message: string) => {
    const error = 'error' in fields && fields.error instanceof Error ? fields.error : null;
    lines.push(
      `${message} ${JSON.stringify(fields)} ${error?.stack ?? ''} ${JSON.stringify(error?.cause ?? '')}`,
    );
  };
  const log: Log = { debug: note, info: note, warn: note, error: note, child: () => log };
  return { log, lines };
}

/** The traces section with short limits. */
export function tracesConfig(overrides: Partial<Config['traces']> = {}): Config['traces'] {
  return {
    writeMsMax: 1_500,
    spoolDrainMs: 100,
    awayAfterFailures: 1,
    connectionsMax: 4,
    spoolMessageBytesMax: 524_288,
    spoolPrefetch: 8,
    ...overrides,
  };
}

/** What the room needs of the servers section. */
export function serversConfig(mongoUrl: string): MongoServers {
  return { mongoUrl, connectTimeoutMs: 2_000 };
}

/** A started connection; with `isEnsured` the collections exist as well. */
export async function connectMongo(
  t: Teardown,
  mongoUrl: string,
  { traces = {}, log = recordingLog().log, isEnsured = true }: ConnectOptions = {},
): Promise<MongoConnection> {
  const servers = serversConfig(mongoUrl);
  if (isEnsured) await ensureCollections(servers);
  const mongo = new MongoConnection({ servers, traces: tracesConfig(traces) }, log);
  t.after(() => mongo.stop());
  await mongo.start();
  return mongo;
}

interface ConnectOptions {
  readonly traces?: Partial<Config['traces']>;
  readonly log?: Log;
  readonly isEnsured?: boolean;
}

/** A broker with the core topology, whose spool holds about `spoolBytesMax`. */
export async function startBroker(
  t: Teardown,
  amqpUrl: string,
  spoolBytesMax = 67_108_864,
): Promise<AmqpBroker> {
  const broker = await connectBroker({
    url: amqpUrl,
    name: 'traces test',
    heartbeatS: 10,
    connectTimeoutMs: 5_000,
    reconnectDelayMsMax: 200,
    unconfirmedMax: 1_024,
    confirmMsMax: 10_000,
    bounds: {
      poolQueueBytesMax: 1_048_576,
      nodeQueueLengthMax: 100,
      spoolBytesMax,
      deadBytesMax: 1_048_576,
    },
    setup: (topology) => topology.declareCore(),
    log: recordingLog().log,
    clock: systemClock,
  });
  t.after(() => broker.stop());
  return broker;
}

/** A request with everything set; `overrides` win. */
export function request(overrides: Partial<RequestDocument> = {}): RequestDocument {
  return {
    job: newUuidV7(),
    account: 'acme',
    namespace: 'acme/prod',
    publisher: 'web',
    model: 'llama-3.1-8b-instruct',
    modelVersion: 3,
    kind: 'chat',
    priority: 'interactive',
    receivedAtMs: 1_763_719_200_123,
    body: Buffer.from(JSON.stringify({ prompt: `${CONTENT_MARKER} ${NON_BMP_TEXT}` })),
    routing: {
      attempt: 1,
      node: 'gpu-7',
      session: 1_763_719_100_000,
      isWarm: true,
      slotsFree: 3,
      workersFree: 5,
      receivedAtMs: 1_763_719_200_123,
      lockedAtMs: 1_763_719_200_131,
      dispatchedAtMs: 1_763_719_200_134,
      dispatchMs: 10.625,
    },
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    ...overrides,
  };
}

/** The completed attempt of `of`, with `tokens` tokens. */
export function attempt(
  of: RequestDocument,
  overrides: Partial<AttemptDocument> = {},
  tokens = 200,
): AttemptDocument {
  const pieces = Array.from({ length: tokens }, (_, i) => `${NON_BMP_TEXT}${i} `);
  let end = 0;
  const digests = Array.from({ length: 16 }, (_, i) => i.toString(16).repeat(64));
  return {
    job: of.job,
    attempt: 1,
    namespace: of.namespace,
    node: 'gpu-7',
    session: 1_763_719_100_000,
    outcome: 'completed',
    code: null,
    decision: null,
    endedAtMs: 1_763_719_203_000,
    chargedMicro: 412n,
    lockedMicro: 9_007_199_254_740_993n,
    result: {
      text: CONTENT_MARKER + pieces.join(''),
      finishReason: 'stop',
      inputTokens: 12,
      outputTokens: tokens,
      queuedMs: 3,
      firstTokenMs: 29,
      totalMs: 2_811,
      tokenEnds: pieces.map((piece) => {
        end += piece.length;
        return end;
      }),
      tokenAtMs: pieces.map((_, i) => 29 + i * 14),
      gpu: { name: 'NVIDIA L4', vramGb: 24 },
      evaluation: { lowConfidence: false, moderation: null },
      error: null,
      digest: digests[5] ?? '',
      flushDigests: digests,
      signature: Buffer.alloc(64, 7).toString('base64'),
    },
    ...overrides,
  };
}

/** An anomaly that names the job. */
export function event(of: RequestDocument, overrides: Partial<EventDocument> = {}): EventDocument {
  return {
    key: `late:${of.job}.1`,
    kind: 'anomaly',
    code: 'TG_RESULT_LATE',
    field: null,
    message: 'the job had already ended',
    job: of.job,
    namespace: of.namespace,
    sender: 'n-gpu-7',
    atMs: 1_763_719_204_000,
    ...overrides,
  };
}
