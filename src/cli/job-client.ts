import type { AmqpBroker } from '../broker/connection.ts';
import type { Config } from '../config-schema.ts';
import type { JobMessage } from '../contracts/job.ts';
import { EXCHANGE, jobKey, poolOfJob } from '../contracts/names.ts';
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

/**
 * Publishes one job as publisher `user` and waits for its answer on a reply queue of its own. Idempotent by the job's id: the
 * same job sent again is answered again and not charged again. Throws StoreError when the broker is away, does not take the
 * job, or nobody answers in time.
 */
export async function sendJob(
  config: Config,
  url: string,
  user: string,
  job: JobMessage,
  log: Log,
): Promise<ReplyMessage> {
  const queue = `reply.${user}.${newUuidV7()}`;
  const broker = clientBroker(config, {
    url,
    name: 'tollgate submit',
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
        new StoreError('rabbitmq', `the connection was lost; send the same job again: --id ${job.id}`),
      ),
    );
    await channel.consume(queue, 1, (delivery) => {
      delivery.acknowledge();
      const reply: unknown = JSON.parse(delivery.body.toString());
      if (isReply(reply) && (reply.job === job.id || reply.job === null)) answer.resolve(reply);
    });
    await publish(broker, job, queue);
    return await within(answer.promise, job);
  } finally {
    await broker.stop();
  }
}

async function publish(broker: AmqpBroker, job: JobMessage, replyTo: string): Promise<void> {
  const outcome = await broker.publisher.publish({
    exchange: EXCHANGE.jobs,
    routingKey: jobKey(poolOfJob(job), job.priority),
    body: Buffer.from(JSON.stringify(job)),
    messageId: job.id,
    correlationId: job.id,
    replyTo,
    expirationMs: job.limits.wait_ms,
    mandatory: true,
  });
  if (outcome === 'confirmed') return;
  if (outcome === 'returned')
    throw new TollgateError(
      'TG_STORE_REJECTED',
      'rabbitmq: nothing takes jobs there; has a coordinator ever run?',
    );
  const why = outcome === 'nacked' ? 'the queue is full' : 'the broker did not confirm the job';
  throw new StoreError('rabbitmq', `${why}; send the same job again: --id ${job.id}`);
}

async function within(answer: Promise<ReplyMessage>, job: JobMessage): Promise<ReplyMessage> {
  const longestMs = job.limits.wait_ms + job.limits.timeout_ms + ANSWER_GRACE_MS;
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const hint = `is a coordinator running? Ask again with --id ${job.id}`;
    late.reject(new StoreError('rabbitmq', `no answer within ${longestMs} ms; ${hint}`));
  }, longestMs);
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
