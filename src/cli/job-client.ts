import type { AmqpBroker } from '../broker/connection.ts';
import type { Config } from '../config-schema.ts';
import type { CancelMessage } from '../contracts/cancel.ts';
import type { JobMessage } from '../contracts/job.ts';
import { CANCEL_KEY, EXCHANGE, jobKey, poolOfJob } from '../contracts/names.ts';
import type { ReplyMessage } from '../contracts/reply.ts';
import { StoreError, TollgateError } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';
import type { Log } from '../ops/types.ts';
import { clientBroker } from './client-broker.ts';

/** The broker deletes the reply queue when nobody has used it for this long, in milliseconds. */
const REPLY_QUEUE_UNUSED_MS = 60_000;
/** Beyond its own limits a job may take this long to be answered: start window, grace, sweep. In milliseconds. */
const ANSWER_GRACE_MS = 30_000;

function isReply(value: unknown): value is ReplyMessage {
  return (
    typeof value === 'object' && value !== null && 'job' in value && 'state' in value && 'error' in value
  );
}

/** What is published, and how long an answer may take. */
interface Question {
  readonly id: string;
  readonly routingKey: string;
  readonly body: unknown;
  readonly expirationMs: number;
  readonly answerMsMax: number;
  /** The answer among what comes to the reply queue. */
  readonly isAnswer: (reply: ReplyMessage, messageId: string | null) => boolean;
}

/** Who asks, and where. `user` is the publisher's broker user. */
export interface ClientLogin {
  readonly config: Config;
  readonly url: string;
  readonly user: string;
  readonly log: Log;
}

/**
 * Publishes one job as a publisher and waits for its answer on a reply queue of its own. Idempotent by the job's id: the same job
 * sent again is answered again and not charged again. Throws StoreError when the broker is away, does not take the job, or nobody
 * answers in time.
 */
export function sendJob(login: ClientLogin, job: JobMessage): Promise<ReplyMessage> {
  const { wait_ms: waitMs, timeout_ms: timeoutMs } = job.limits;
  return ask(login, {
    id: job.id,
    routingKey: jobKey(poolOfJob(job), job.priority),
    body: job,
    expirationMs: waitMs,
    answerMsMax: waitMs + timeoutMs + ANSWER_GRACE_MS,
    isAnswer: (reply) => reply.job === job.id || reply.job === null,
  });
}

/** Cancels a job as a publisher of its account and waits for what is said to that. Idempotent. Throws as `sendJob`. */
export function cancelJob(login: ClientLogin, cancel: CancelMessage): Promise<ReplyMessage> {
  return ask(login, {
    id: cancel.id,
    routingKey: CANCEL_KEY,
    body: cancel,
    expirationMs: ANSWER_GRACE_MS,
    answerMsMax: ANSWER_GRACE_MS,
    isAnswer: (_reply, messageId) => messageId?.startsWith('c-') ?? false,
  });
}

async function ask({ config, url, user, log }: ClientLogin, question: Question): Promise<ReplyMessage> {
  const queue = `reply.${user}.${newUuidV7()}`;
  const broker = clientBroker(config, {
    url,
    name: 'tollgate client',
    userId: user,
    setup: (topology) => topology.declareReplyQueue(queue, REPLY_QUEUE_UNUSED_MS),
    log,
  });
  await broker.start();
  try {
    const answer = Promise.withResolvers<ReplyMessage>();
    answer.promise.catch(() => undefined);
    const channel = await broker.openChannel(() =>
      answer.reject(
        new StoreError('rabbitmq', `the connection was lost; send the same again: --id ${question.id}`),
      ),
    );
    await channel.consume(queue, 1, (delivery) => {
      delivery.acknowledge();
      const reply: unknown = JSON.parse(delivery.body.toString());
      if (isReply(reply) && question.isAnswer(reply, delivery.messageId)) answer.resolve(reply);
    });
    await publish(broker, question, queue);
    return await within(answer.promise, question);
  } finally {
    await broker.stop();
  }
}

async function publish(broker: AmqpBroker, question: Question, replyTo: string): Promise<void> {
  const { id, routingKey, body, expirationMs } = question;
  const outcome = await broker.publisher.publish({
    exchange: EXCHANGE.jobs,
    routingKey,
    body: Buffer.from(JSON.stringify(body)),
    messageId: id,
    correlationId: id,
    replyTo,
    expirationMs,
    mandatory: true,
  });
  if (outcome === 'confirmed') return;
  if (outcome === 'returned')
    throw new TollgateError(
      'TG_STORE_REJECTED',
      'rabbitmq: nothing takes messages there; has a coordinator ever run?',
    );
  const why = outcome === 'nacked' ? 'the queue is full' : 'the broker did not confirm it';
  throw new StoreError('rabbitmq', `${why}; send the same again: --id ${id}`);
}

async function within(answer: Promise<ReplyMessage>, { id, answerMsMax }: Question): Promise<ReplyMessage> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const hint = `is a coordinator running? Ask again with --id ${id}`;
    late.reject(new StoreError('rabbitmq', `no answer within ${answerMsMax} ms; ${hint}`));
  }, answerMsMax);
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
