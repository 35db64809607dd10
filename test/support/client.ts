import type { AmqpBroker } from '../../src/broker/connection.ts';
import type { OutMessage, PublishOutcome } from '../../src/broker/types.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { EXCHANGE, jobKey, poolOfJob } from '../../src/contracts/names.ts';
import type { ReplyMessage } from '../../src/contracts/reply.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { until } from './until.ts';

/** A reply as it came: `queue` is where. */
export interface ReceivedReply {
  readonly message: ReplyMessage;
  readonly messageId: string | null;
  readonly correlationId: string | null;
  readonly queue: string;
}

/** The broker deletes a test's reply queue when nobody has used it for so long. */
const UNUSED_MS = 600_000;
const PREFETCH = 500;

/** A publisher: sends jobs the way `docs/messages.md` says, and keeps what is answered. */
export class TestClient {
  /** Its broker user, `p-<name>`. */
  readonly user: string;
  readonly broker: AmqpBroker;
  readonly replies: ReceivedReply[] = [];

  constructor(user: string, broker: AmqpBroker) {
    this.user = user;
    this.broker = broker;
  }

  /** Where it listens unless told otherwise. */
  get replyQueue(): string {
    return `reply.${this.user}`;
  }

  /** Declares a reply queue of its own and reads it, also after the broker was away. */
  async listen(queue = this.replyQueue): Promise<void> {
    await this.broker.topology.declareReplyQueue(queue, UNUSED_MS);
    const channel = await this.broker.openChannel(() => this.#listenAgain(queue));
    await channel.consume(queue, PREFETCH, (delivery) => {
      const message: ReplyMessage = JSON.parse(delivery.body.toString());
      const { messageId, correlationId } = delivery;
      this.replies.push({ message, messageId, correlationId, queue });
      delivery.acknowledge();
    });
  }

  /** Publishes a job, or any bytes to the queue of model `small`; `change` spoils the envelope. */
  send(job: JobMessage | Buffer, change: Partial<OutMessage> = {}): Promise<PublishOutcome> {
    const isBytes = Buffer.isBuffer(job);
    return this.broker.publisher.publish({
      exchange: EXCHANGE.jobs,
      routingKey: isBytes ? 'small.interactive' : jobKey(poolOfJob(job), job.priority),
      body: isBytes ? job : Buffer.from(JSON.stringify(job)),
      messageId: isBytes ? newUuidV7() : job.id,
      correlationId: isBytes ? undefined : job.id,
      replyTo: this.replyQueue,
      expirationMs: isBytes ? 20_000 : job.limits.wait_ms,
      mandatory: true,
      ...change,
    });
  }

  /** All replies about `id` so far: by the job's id, or by the correlation id where no job could be read. */
  repliesTo(id: string): ReceivedReply[] {
    return this.replies.filter((reply) => reply.message.job === id || reply.correlationId === id);
  }

  /** Waits for the first reply about `id`. */
  async reply(id: string, timeoutMs = 20_000): Promise<ReplyMessage> {
    const first = await until(() => this.repliesTo(id)[0], `a reply for ${id}`, { timeoutMs });
    return first.message;
  }

  async run(job: JobMessage): Promise<ReplyMessage> {
    await this.send(job);
    return this.reply(job.id);
  }

  #listenAgain(queue: string): void {
    const end = this.broker.onChange((isUp) => {
      if (!isUp) return;
      end();
      this.listen(queue).catch(() => this.#listenAgain(queue));
    });
  }
}
