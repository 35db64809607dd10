import { type Channel, connect } from 'amqplib';
import { AmqpBroker } from '../../src/broker/connection.ts';
import type { OutMessage } from '../../src/broker/types.ts';
import { systemClock } from '../../src/clock.ts';
import { publisherUser } from '../../src/contracts/names.ts';
import { quietLog } from '../../test/support/ledger.ts';
import type { Teardown } from '../../test/support/servers.ts';
import { machineMs } from '../measure/clock.ts';
import { PUBLISHER, REPLY_QUEUE } from './names.ts';
import { amqpUrlAs, type World } from './world.ts';

/** Messages of a backlog that are published at a time; the broker's flow control does the rest. */
const CHUNK = 2_000;
const REPLY_PREFETCH = 2_000;
/** How often the open loop looks at the clock. */
const TICK_MS = 1;

/** When a message was due, and when it really left, in milliseconds of the machine's clock. */
export interface Departure {
  readonly job: string;
  readonly dueMs: number;
  readonly sentMs: number;
}

/** The client of one world: publishes jobs as publisher `bench` and counts the replies. */
export class Client {
  readonly world: World;
  readonly #broker: AmqpBroker;
  readonly #counting: Channel;
  #repliesExpected = 0;
  #replies = 0;
  #refusals = 0;
  #done = Promise.withResolvers<number>();

  constructor(world: World, broker: AmqpBroker, counting: Channel) {
    this.world = world;
    this.#broker = broker;
    this.#counting = counting;
  }

  async start(): Promise<void> {
    const channel = await this.#broker.openChannel(() => undefined);
    await channel.consume(REPLY_QUEUE, REPLY_PREFETCH, (delivery) => {
      delivery.acknowledge();
      this.#replies += 1;
      if (!delivery.body.includes('"state":"succeeded"')) this.#refusals += 1;
      if (this.#replies === this.#repliesExpected) this.#done.resolve(machineMs());
    });
  }

  /** Publishes all; resolves when the broker has confirmed them, rejects if it did not. */
  async publish(messages: readonly OutMessage[]): Promise<void> {
    for (let from = 0; from < messages.length; from += CHUNK) {
      const outcomes = await this.#broker.publisher.publishBatch(messages.slice(from, from + CHUNK));
      const failure = outcomes.find((outcome) => outcome !== 'confirmed');
      if (failure !== undefined) throw new Error(`a job was ${failure}`);
    }
  }

  /**
   * Publishes at a fixed rate whatever becomes of them (open loop): message n is due n / rate after the first, and what is
   * late is sent at once. Latency is to be counted from `dueMs`, so that our own lateness is not hidden.
   */
  publishPaced(messages: readonly OutMessage[], perSecond: number): Promise<Departure[]> {
    return this.publishAt(messages.map((message, n) => ({ message, atMs: (n * 1_000) / perSecond })));
  }

  /** As `publishPaced`, each when it is due: `atMs` after the first, never before the one above. */
  async publishAt(
    timed: readonly { readonly message: OutMessage; readonly atMs: number }[],
  ): Promise<Departure[]> {
    const departures: Departure[] = [];
    const outcomes: Promise<void>[] = [];
    const startMs = machineMs();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const tick = (): void => {
      const sentMs = machineMs();
      const due: OutMessage[] = [];
      for (let next = timed[departures.length]; next !== undefined; next = timed[departures.length]) {
        const dueMs = startMs + next.atMs;
        if (dueMs > sentMs) break;
        due.push(next.message);
        departures.push({ job: next.message.messageId ?? '', dueMs, sentMs });
      }
      if (due.length > 0) outcomes.push(this.publish(due));
      if (departures.length === timed.length) resolve();
      else setTimeout(tick, TICK_MS);
    };
    tick();
    await ended;
    await Promise.all(outcomes);
    return departures;
  }

  /** From now on `count` replies are expected. */
  expectReplies(count: number): void {
    this.#repliesExpected = count;
    this.#replies = 0;
    this.#refusals = 0;
    this.#done = Promise.withResolvers();
  }

  /** Resolves with the machine's time of the last reply. Rejects where a job did not succeed. */
  async replied(): Promise<number> {
    const lastMs = await this.#done.promise;
    if (this.#refusals > 0) throw new Error(`${this.#refusals} jobs did not succeed`);
    return lastMs;
  }

  /** Replies since `expectReplies`, and how many of them told of no success. */
  get replies(): { readonly count: number; readonly refusals: number } {
    return { count: this.#replies, refusals: this.#refusals };
  }

  /** Drops every message that is ready. */
  async purge(queue: string): Promise<void> {
    await this.#counting.purgeQueue(queue);
  }

  /** Messages that are ready and consumers, as the queue itself has them now. */
  async count(queue: string): Promise<{ ready: number; consumers: number }> {
    const { messageCount, consumerCount } = await this.#counting.checkQueue(queue);
    return { ready: messageCount, consumers: consumerCount };
  }
}

/** Connects the client of a world; its connections close when `t` ends. */
export async function connectClient(t: Teardown, world: World): Promise<Client> {
  const { config, servers } = world;
  const user = publisherUser(PUBLISHER);
  const broker = new AmqpBroker({
    ...config.broker,
    ...config.servers,
    url: amqpUrlAs(world, user),
    name: `bench client ${world.name}`,
    bounds: config.broker,
    userId: user,
    log: quietLog,
    clock: systemClock,
  });
  await broker.start();
  t.after(() => broker.stop());
  const model = await connect(servers.amqpUrl);
  // A lost connection is told by the next call; without a listener it would end the process before that.
  model.on('error', () => undefined);
  t.after(() => model.close());
  const client = new Client(world, broker, await model.createChannel());
  await client.start();
  return client;
}
