import type { OutMessage } from '../../src/broker/types.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { EXCHANGE, jobKey } from '../../src/contracts/names.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { ACCOUNTS, FLOOD_REPLY_QUEUE, FLOODER, MODEL, REPLY_QUEUE } from './names.ts';

/** Of a job's body; the prompt is filled up to it. */
const BODY_BYTES = 1_024;
/** Longer than any run: no job of a backlog may expire. */
const WAIT_MS = 600_000;

const FILLER =
  'The harbour was quiet before the first boats came in, and the lamps along the quay were still lit. '.repeat(
    12,
  );

/** Jobs as a client publishes them (docs/messages.md), of about 1 KB each, one account after the other. */
export function makeJobs(count: number): OutMessage[] {
  return Array.from({ length: count }, (_, i) => jobMessage(ACCOUNTS[i % ACCOUNTS.length] ?? ''));
}

/** The same jobs, of the account that floods. */
export function makeFlood(count: number): OutMessage[] {
  return Array.from({ length: count }, () => ({ ...jobMessage(FLOODER), replyTo: FLOOD_REPLY_QUEUE }));
}

/** A job and its bytes. */
export interface MadeJob {
  readonly job: JobMessage;
  readonly body: Buffer;
}

/** The same jobs without an envelope, for who gets them by another way than the broker. */
export function makeJobMessages(count: number): MadeJob[] {
  return Array.from({ length: count }, (_, i) => madeJob(ACCOUNTS[i % ACCOUNTS.length] ?? ''));
}

function jobMessage(account: string): OutMessage {
  const { job, body } = madeJob(account);
  return {
    exchange: EXCHANGE.jobs,
    routingKey: jobKey(job.model, job.priority),
    body,
    messageId: job.id,
    correlationId: job.id,
    replyTo: REPLY_QUEUE,
    expirationMs: WAIT_MS,
    mandatory: true,
  };
}

function madeJob(account: string): MadeJob {
  const empty: JobMessage = {
    v: 1,
    id: newUuidV7(),
    account,
    namespace: `${account}/prod`,
    model: MODEL,
    kind: 'chat',
    input: { messages: [{ role: 'user', content: '' }] },
    limits: {
      input_tokens_max: 400,
      output_tokens_max: 256,
      timeout_ms: 60_000,
      wait_ms: WAIT_MS,
      attempts_max: 3,
    },
    constraints: { subcloud: null, region: null, vram_gb_min: null },
    priority: 'interactive',
    stream: false,
  };
  const room = BODY_BYTES - Buffer.byteLength(JSON.stringify(empty));
  const content = FILLER.slice(0, room);
  const job = { ...empty, input: { messages: [{ role: 'user', content }] } };
  return { job, body: Buffer.from(JSON.stringify(job)) };
}
