import type { OutMessage } from '../../src/broker/types.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { EXCHANGE, jobKey } from '../../src/contracts/names.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { ACCOUNTS, FLOOD_REPLY_QUEUE, FLOODER, MODEL, REPLY_QUEUE } from './names.ts';
import { proseOf } from './prose.ts';

/** What jobs a run is made of. */
export interface JobMix {
  /** Jobs ask for one after the other. */
  readonly models: readonly string[];
  /** One after the other pays. */
  readonly accounts: readonly string[];
  /** Share of all jobs that the first account pays besides, from 0 to below 1. */
  readonly hotShare: number;
  /** Of a job's body; the prompt is filled up to it. */
  readonly bodyBytes: number;
}

/** Jobs of about 1 KB for one model, spread evenly over the accounts. */
export const USUAL_MIX: JobMix = { models: [MODEL], accounts: ACCOUNTS, hotShare: 0, bodyBytes: 1_024 };

/** What the models of a world take: the largest job of a bench, and no less than any chat needs. */
export const INPUT_TOKENS_MAX = 131_072;
const INPUT_TOKENS_MIN = 400;
/** Roughly, of English prose. */
export const BYTES_PER_TOKEN = 4;
/** Longer than any run: no job of a backlog may expire. */
const WAIT_MS = 600_000;

/** Jobs as a client publishes them (docs/messages.md); `first` counts on from those made before. */
export function makeJobs(count: number, mix: Partial<JobMix> = {}, first = 0): OutMessage[] {
  const { models, bodyBytes, ...payers } = { ...USUAL_MIX, ...mix };
  return Array.from({ length: count }, (_, i) =>
    jobMessage(payerOf(first + i, payers), models[(first + i) % models.length] ?? '', bodyBytes),
  );
}

/** A job with a body of `bodyBytes`, or as few as it can have. */
export function makeJob(bodyBytes: number): OutMessage {
  const [account = ''] = ACCOUNTS;
  return jobMessage(account, MODEL, bodyBytes);
}

/** The account that pays job `n`: every so many is the first one's besides. */
export function payerOf(n: number, { accounts, hotShare }: Pick<JobMix, 'accounts' | 'hotShare'>): string {
  const isHot = Math.floor((n + 1) * hotShare) > Math.floor(n * hotShare);
  // Of the others every one has its turn, however many hot ones are between them.
  const turn = n - Math.floor(n * hotShare);
  return accounts[isHot ? 0 : turn % accounts.length] ?? '';
}

/** The same jobs, of the account that floods. */
export function makeFlood(count: number): OutMessage[] {
  return Array.from({ length: count }, () => ({
    ...jobMessage(FLOODER, MODEL, USUAL_MIX.bodyBytes),
    replyTo: FLOOD_REPLY_QUEUE,
  }));
}

/** A job and its bytes. */
interface MadeJob {
  readonly job: JobMessage;
  readonly body: Buffer;
}

/** The usual jobs without an envelope, for who gets them by another way than the broker. */
export function makeJobMessages(count: number): MadeJob[] {
  const { bodyBytes, ...payers } = USUAL_MIX;
  return Array.from({ length: count }, (_, i) => madeJob(payerOf(i, payers), MODEL, bodyBytes));
}

function jobMessage(account: string, model: string, bodyBytes: number): OutMessage {
  const { job, body } = madeJob(account, model, bodyBytes);
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

function madeJob(account: string, model: string, bodyBytes: number): MadeJob {
  const empty: JobMessage = {
    v: 1,
    id: newUuidV7(),
    account,
    namespace: `${account}/prod`,
    model,
    kind: 'chat',
    input: { messages: [{ role: 'user', content: '' }] },
    limits: {
      input_tokens_max: inputTokensOf(bodyBytes),
      output_tokens_max: 256,
      timeout_ms: 60_000,
      wait_ms: WAIT_MS,
      attempts_max: 3,
    },
    constraints: { subcloud: null, region: null, vram_gb_min: null },
    priority: 'interactive',
    stream: false,
  };
  const room = Math.max(1, bodyBytes - Buffer.byteLength(JSON.stringify(empty)));
  const job = { ...empty, input: { messages: [{ role: 'user', content: proseOf(room) }] } };
  return { job, body: Buffer.from(JSON.stringify(job)) };
}

function inputTokensOf(bodyBytes: number): number {
  return Math.min(INPUT_TOKENS_MAX, Math.max(INPUT_TOKENS_MIN, Math.ceil(bodyBytes / BYTES_PER_TOKEN)));
}
