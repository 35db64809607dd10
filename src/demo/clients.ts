import { AmqpBroker } from '../broker/connection.ts';
import type { OutMessage } from '../broker/types.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { EXCHANGE, publisherUser } from '../contracts/names.ts';
import type { ReplyMessage } from '../contracts/reply.ts';
import { invariant, StoreError } from '../errors.ts';
import type { Log } from '../ops/types.ts';
import type { Draft } from './flaws.ts';
import type { SeenReply } from './verdict.ts';
import type { World } from './world.ts';

/** The broker deletes a reply queue when nobody has used it for this long, in milliseconds. */
const REPLY_QUEUE_UNUSED_MS = 60_000;
const PREFETCH = 500;

/** A message that was not confirmed is published again, with the same id, so many times with this pause. */
const TRIES_MAX = 20;
const TRY_PAUSE_MS = 250;

/** What a reply says, and to which message: its correlation id is the message's `seq`. */
export type OnReply = (seq: number, reply: SeenReply) => void;

/** The publishers of the demo: for each a connection as its own RabbitMQ user and the queue that its replies come to. */
export class Clients {
  /** By the name that `clientOf` gives. */
  readonly #brokers = new Map<string, AmqpBroker>();
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** Connects all; `urls` has the login of every publisher and of the stranger, by name. */
  async start(config: Config, urls: ReadonlyMap<string, string>, onReply: OnReply, log: Log): Promise<void> {
    const { publishers, stranger } = this.#world;
    const connect = async (client: string, name: string, isNamed = true): Promise<void> => {
      const user = publisherUser(name);
      const broker = new AmqpBroker({
        ...config.broker,
        ...config.servers,
        url: urls.get(name) ?? '',
        name: `demo publisher ${name}`,
        bounds: config.broker,
        ...(isNamed ? { userId: user } : {}),
        setup: (topology) => topology.declareReplyQueue(replyQueueOf(name), REPLY_QUEUE_UNUSED_MS),
        log,
        clock: systemClock,
      });
      this.#brokers.set(client, broker);
      await broker.start();
      if (isNamed) await listen(broker, replyQueueOf(name), onReply);
    };
    const [first] = publishers;
    await Promise.all([
      ...publishers.map(({ name }) => connect(name, name)),
      connect('stranger', stranger),
      connect('anonymous', first?.name ?? '', false),
    ]);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#brokers.values()].map((broker) => broker.stop()));
  }

  /** The queue that a publisher's replies come to. */
  replyQueue(publisher: string, sender: Draft['sender']): string {
    return replyQueueOf(sender === 'stranger' ? this.#world.stranger : publisher);
  }

  /**
   * Publishes messages of one connection in their order, and again those the broker did not confirm: they keep their id.
   * Resolves when all are confirmed. Throws StoreError when it never does.
   */
  async publish(publisher: string, drafts: readonly (Draft & { readonly seq: number })[]): Promise<void> {
    const [first] = drafts;
    if (first === undefined) return;
    const client = clientOf(publisher, first);
    const broker = this.#brokers.get(client);
    invariant(broker !== undefined, `${client} is connected`);
    let left = drafts.map(toMessage);
    for (let tries = 0; left.length > 0; tries++) {
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, TRY_PAUSE_MS));
      if (tries === TRIES_MAX) throw new StoreError('rabbitmq', `${left.length} messages were not confirmed`);
      const outcomes = await broker.publisher.publishBatch(left);
      left = left.filter((_, i) => outcomes[i] !== 'confirmed');
    }
  }
}

/** Names the connection that a message goes out on: a publisher, or the sender that is none. */
export function clientOf(publisher: string, { sender }: Draft): string {
  return sender === 'publisher' ? publisher : sender;
}

function replyQueueOf(publisher: string): string {
  return `reply.${publisherUser(publisher)}`;
}

function toMessage(draft: Draft & { readonly seq: number }): OutMessage {
  const { body, routingKey, messageId, expirationMs, replyTo, seq } = draft;
  const correlationId = String(seq);
  return {
    exchange: EXCHANGE.jobs,
    routingKey,
    body,
    messageId,
    correlationId,
    replyTo,
    expirationMs,
    mandatory: true,
  };
}

async function listen(broker: AmqpBroker, queue: string, onReply: OnReply): Promise<void> {
  const channel = await broker.openChannel(() => undefined);
  await channel.consume(queue, PREFETCH, (delivery) => {
    const reply: ReplyMessage = JSON.parse(delivery.body.toString());
    delivery.acknowledge();
    onReply(Number(delivery.correlationId ?? Number.NaN), {
      state: reply.state,
      code: reply.error?.code ?? null,
      field: reply.error?.field ?? null,
      job: reply.job,
      chargedMicro: reply.charged_micro,
    });
  });
}
