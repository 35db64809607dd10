import { type ConfirmChannel, connect, type Options } from 'amqplib';
import type { ReplyMessage } from '../../src/contracts/reply.ts';
import type { TestClient } from '../support/client.ts';
import { passwordOf, type World } from '../support/world.ts';
import type { Input } from './input.ts';

const EXCHANGES = { job: 'jobs', cancel: 'jobs', result: 'results', fleet: 'fleet' } as const;
/** Broker users of the world, by the kind of message that they may send; the first is who sends without saying who it is. */
const SENDERS = {
  job: ['p-web', 'p-idle', 'p-rival', 'p-ghost'],
  cancel: ['p-web', 'p-idle', 'p-rival', 'p-ghost'],
  result: ['n-n2', 'n-n1'],
  fleet: ['n-n2', 'n-n1'],
} as const;
/** AMQP carries no longer text in a property. */
const PROPERTY_BYTES_MAX = 255;
const UNCONFIRMED_MAX = 200;

/** Sends inputs to the broker as its users, with whatever envelope they have, and keeps what is answered. */
export class Strangers {
  readonly #world: World;
  readonly #channels = new Map<string, Promise<ConfirmChannel>>();
  readonly #replies = new Map<string, ReplyMessage[]>();
  readonly #clients: readonly TestClient[];
  readonly #indexed = new Map<TestClient, number>();
  #unconfirmed = 0;
  #failure: Error | null = null;

  /** `clients`: who reads the reply queues. */
  constructor(tollgate: World, clients: readonly TestClient[]) {
    this.#world = tollgate;
    this.#clients = clients;
  }

  /** False for what RabbitMQ itself turns away: another's user_id, an expiration that is no number, a reply_to with a meaning of its own. */
  canSend({ kind, source, envelope, routingKey }: Input): boolean {
    const { userId, expiration, replyTo } = envelope;
    const users: readonly string[] = SENDERS[kind];
    const texts = [routingKey, ...Object.values(envelope).filter((value) => typeof value === 'string')];
    return (
      source !== 'expired' &&
      (userId === undefined || users.includes(userId)) &&
      (expiration === undefined || (/^\d+$/.test(expiration) && Number(expiration) >= 1_000)) &&
      replyTo !== 'amq.rabbitmq.reply-to' &&
      texts.every((text) => Buffer.byteLength(text) <= PROPERTY_BYTES_MAX)
    );
  }

  /** Publishes it. Waits while too much is unconfirmed. Throws if the broker closed a channel over an earlier one. */
  async send({ kind, envelope, routingKey, body }: Input): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    if (this.#unconfirmed >= UNCONFIRMED_MAX) await this.allConfirmed();
    const channel = await this.#channelOf(envelope.userId ?? SENDERS[kind][0]);
    this.#unconfirmed += 1;
    const options: Options.Publish = { persistent: true };
    for (const [name, value] of Object.entries(envelope))
      if (value !== undefined) Reflect.set(options, name, value);
    channel.publish(EXCHANGES[kind], routingKey, body, options, (error: unknown) => {
      this.#unconfirmed -= 1;
      if (error) this.#failure = new Error('the broker did not take an input', { cause: error });
    });
  }

  async allConfirmed(): Promise<void> {
    for (const channel of this.#channels.values()) await (await channel).waitForConfirms();
    if (this.#failure !== null) throw this.#failure;
  }

  /** All replies with this correlation id, or else about this job. */
  repliesTo(correlationId: string, job: string): readonly ReplyMessage[] {
    this.#index();
    return this.#replies.get(`c ${correlationId}`) ?? this.#replies.get(`j ${job}`) ?? [];
  }

  /** Files the replies that came since the last time. */
  #index(): void {
    for (const client of this.#clients) {
      const from = this.#indexed.get(client) ?? 0;
      for (const { message, correlationId } of client.replies.slice(from)) {
        if (correlationId !== null) this.#keep(`c ${correlationId}`, message);
        if (message.job !== null) this.#keep(`j ${message.job}`, message);
      }
      this.#indexed.set(client, client.replies.length);
    }
  }

  #keep(key: string, reply: ReplyMessage): void {
    this.#replies.set(key, [...(this.#replies.get(key) ?? []), reply]);
  }

  #channelOf(user: string): Promise<ConfirmChannel> {
    const channel = this.#channels.get(user) ?? this.#open(user);
    this.#channels.set(user, channel);
    return channel;
  }

  async #open(user: string): Promise<ConfirmChannel> {
    const url = new URL(this.#world.servers.amqpUrl);
    url.username = user;
    url.password = passwordOf(user);
    const connection = await connect(url.href);
    this.#world.onClose(() => connection.close().catch(() => undefined));
    const channel = await connection.createConfirmChannel();
    for (const one of [connection, channel])
      one.on('error', (cause: unknown) => {
        this.#failure = new Error(`the broker closed the channel of ${user}`, { cause });
      });
    return channel;
  }
}
