import type {
  Broker,
  ConsumerChannel,
  Consumption,
  Delivery,
  OutMessage,
  Publisher,
  PublishOutcome,
} from '../src/broker/types.ts';
import { EXCHANGE, QUEUE, SENDER_HEADER } from '../src/contracts/names.ts';
import { StoreError } from '../src/errors.ts';
import type { Faults } from './faults.ts';
import type { Timeline } from './timeline.ts';

/** A message inside the broker. `place` keeps the queue's order: what comes back stands where it stood. */
interface Message {
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
  readonly messageId: string;
  readonly userId: string | null;
  readonly correlationId: string | null;
  readonly replyTo: string | null;
  readonly expiration: string | null;
  readonly expiresMs: number;
  readonly death: { readonly reason: string; readonly key: string; readonly exchange: string } | null;
  readonly place: number;
  /** Of which life of the broker; null where it is kept on disk. */
  readonly life: number | null;
  redelivered: boolean;
}

interface Consumer {
  readonly connection: Connection;
  readonly queue: Queue;
  readonly prefetch: number;
  /** Delivered and not answered. */
  readonly open: Set<Message>;
  readonly channel: object;
  readonly deliver: (message: Message) => void;
  isActive: boolean;
}

interface Queue {
  readonly name: string;
  readonly ready: Message[];
  readonly consumers: Consumer[];
  readonly lengthMax: number;
}

/** A RabbitMQ in memory: routes, keeps order, expires at the head, dead-letters, delivers again what was not answered. */
export class SimBroker {
  readonly timeline: Timeline;
  readonly faults: Faults;
  readonly connections = new Set<Connection>();
  /** Bodies that were dead-lettered by a coordinator, with their reason. */
  readonly buried: { readonly reason: string; readonly body: string }[] = [];
  /** Told of every reply that reached its queue. */
  onReply: (queue: string, body: Buffer, messageId: string) => void = () => undefined;
  /** Told of every dispatch that a node's queue took. */
  onDispatch: (body: Buffer) => void = () => undefined;
  /** Told of every message that was turned away for want of room. */
  onNack: (messageId: string) => void = () => undefined;
  isUp = true;
  readonly #queues = new Map<string, Queue>();
  #place = 0;
  /** Counts restarts, which forget what was not kept. */
  #life = 0;

  constructor(timeline: Timeline, faults: Faults) {
    this.timeline = timeline;
    this.faults = faults;
    for (const name of Object.values(QUEUE)) this.declare(name);
  }

  declare(name: string, lengthMax = Number.POSITIVE_INFINITY): void {
    if (!this.#queues.has(name)) this.#queues.set(name, { name, ready: [], consumers: [], lengthMax });
  }

  drop(name: string): void {
    this.#queues.delete(name);
  }

  queue(name: string): Queue | undefined {
    return this.#queues.get(name);
  }

  /** Messages that wait, by queue, and those that somebody holds unanswered. */
  standing(): { readonly queue: string; readonly ready: number; readonly open: number }[] {
    return [...this.#queues.values()].map(({ name, ready, consumers }) => ({
      queue: name,
      ready: ready.length,
      open: consumers.reduce((sum, { open }) => sum + open.size, 0),
    }));
  }

  /** Takes one message in, or has no room for it. */
  take(userId: string | null, message: OutMessage): Exclude<PublishOutcome, 'unknown'> {
    if (!this.faults.strikes('nack')) return this.publish(userId, message);
    this.onNack(message.messageId);
    return 'nacked';
  }

  /** Takes one message in. */
  publish(userId: string | null, message: OutMessage): Exclude<PublishOutcome, 'unknown'> {
    const names = this.#route(message);
    if (message.exchange === '' && message.routingKey.startsWith('reply.')) {
      this.onReply(message.routingKey, message.body, message.messageId);
      return 'confirmed';
    }
    const queues = names.map((name) => this.#queues.get(name)).filter((queue) => queue !== undefined);
    if (queues.length === 0) return message.mandatory ? 'returned' : 'confirmed';
    if (queues.some(({ ready, lengthMax }) => ready.length >= lengthMax)) return 'nacked';
    if (message.exchange === EXCHANGE.dispatch) this.onDispatch(message.body);
    for (const queue of queues) {
      const waits = message.expirationMs;
      const headers = message.headers ?? {};
      if (queue.name === QUEUE.dead)
        this.buried.push({ reason: String(headers['x-tollgate-reason']), body: message.body.toString() });
      else
        this.#append(queue, {
          exchange: message.exchange,
          routingKey: message.routingKey,
          body: message.body,
          messageId: message.messageId,
          userId: message.exchange === EXCHANGE.moved ? String(headers[SENDER_HEADER]) : userId,
          correlationId: message.correlationId ?? null,
          replyTo: message.replyTo ?? null,
          expiration: waits === undefined ? null : String(waits),
          expiresMs: waits === undefined ? Number.POSITIVE_INFINITY : this.timeline.nowMs + waits,
          death: null,
          place: this.#place++,
          life: message.transient ? this.#life : null,
          redelivered: false,
        });
    }
    return 'confirmed';
  }

  /** Gives `messages` back to the head of their queue. */
  giveBack(queue: Queue, messages: Iterable<Message>): void {
    for (const message of messages) {
      if (this.#isForgotten(message)) continue;
      message.redelivered = true;
      queue.ready.push(message);
    }
    queue.ready.sort((a, b) => a.place - b.place);
    this.#watchHead(queue);
    this.pump(queue);
  }

  /** Delivers what consumers have room for, in turn. */
  pump(queue: Queue): void {
    if (!this.isUp) return;
    for (;;) {
      this.#expire(queue);
      const consumer = queue.consumers.find((one) => one.isActive && one.open.size < one.prefetch);
      const message = queue.ready[0];
      if (consumer === undefined || message === undefined) return;
      queue.ready.shift();
      consumer.open.add(message);
      queue.consumers.push(...queue.consumers.splice(queue.consumers.indexOf(consumer), 1));
      consumer.deliver(message);
    }
  }

  /** Everybody is cut off for `forMs`, half of the times because the broker is restarted. */
  goAway(forMs: number): void {
    this.isUp = false;
    for (const connection of this.connections) connection.cut();
    if (this.timeline.random.share() < 0.5) this.#restart();
    this.timeline.at(forMs, () => {
      this.isUp = true;
    });
  }

  #restart(): void {
    this.#life += 1;
    for (const { ready } of this.#queues.values())
      ready.splice(0, ready.length, ...ready.filter((message) => !this.#isForgotten(message)));
  }

  #isForgotten({ life }: Message): boolean {
    return life !== null && life !== this.#life;
  }

  #route({ exchange, routingKey }: OutMessage): string[] {
    const pool = `jobs.${routingKey}`;
    switch (exchange) {
      case EXCHANGE.jobs:
        return [this.#queues.has(pool) ? pool : QUEUE.unroutable];
      case EXCHANGE.retry:
      case EXCHANGE.moved:
        return [pool];
      case EXCHANGE.dispatch:
        return [`node.${routingKey}`];
      case EXCHANGE.control:
        return [`node.${routingKey}.control`];
      case EXCHANGE.results:
        return [QUEUE.results];
      case EXCHANGE.fleet:
        return [...this.#queues.keys()].filter((name) => name.startsWith('fleet.'));
      default:
        return [routingKey];
    }
  }

  #append(queue: Queue, message: Message): void {
    queue.ready.push(message);
    if (queue.ready.length === 1) this.#watchHead(queue);
    this.pump(queue);
  }

  #watchHead(queue: Queue): void {
    const head = queue.ready[0];
    if (head === undefined || head.expiresMs === Number.POSITIVE_INFINITY) return;
    this.timeline.at(head.expiresMs - this.timeline.nowMs, () => {
      if (queue.ready[0] === head) this.#expire(queue);
    });
  }

  /** Expiry is judged at the head only; what dies in a pool's queue goes to `jobs.expired`. */
  #expire(queue: Queue): void {
    for (let head = queue.ready[0]; head && head.expiresMs <= this.timeline.nowMs; head = queue.ready[0]) {
      queue.ready.shift();
      const isPool = queue.name.startsWith('jobs.');
      const expired = this.#queues.get(QUEUE.expired);
      if (isPool && expired && queue !== expired) {
        const { exchange, routingKey: key } = head;
        const death = { reason: 'expired', key, exchange };
        this.#append(expired, {
          ...head,
          exchange: EXCHANGE.expired,
          expiresMs: Number.POSITIVE_INFINITY,
          death,
          place: this.#place++,
          redelivered: false,
        });
      }
      this.#watchHead(queue);
    }
  }
}

/** One process's connection, which comes back by itself: as a coordinator, a worker or a client sees the broker. */
export class Connection implements Broker {
  readonly publisher: Publisher;
  readonly #broker: SimBroker;
  readonly #timeline: Timeline;
  readonly #userId: string | null;
  readonly #isAlive: () => boolean;
  readonly #listeners = new Set<(isUp: boolean) => void>();
  /** What must be told when the connection goes: channels and unanswered publishes. */
  readonly #goneCalls = new Set<() => void>();
  readonly #consumers = new Set<Consumer>();
  #isOpen: boolean;
  /** Counts connections, so that what was sent on an old one arrives nowhere. */
  #era = 0;
  #sentMs = 0;
  #receivedMs = 0;

  constructor(broker: SimBroker, userId: string | null, isAlive: () => boolean) {
    this.#broker = broker;
    this.#timeline = broker.timeline;
    this.#userId = userId;
    this.#isAlive = isAlive;
    broker.connections.add(this);
    this.#isOpen = broker.isUp;
    if (!this.#isOpen) this.#timeline.at(0, () => this.#reconnect());
    this.publisher = {
      publishBatch: (messages) => this.#publish(messages),
      publish: (message) => this.#publish([message]).then(([outcome]) => outcome ?? 'unknown'),
    };
  }

  get isUp(): boolean {
    return this.#isOpen;
  }

  onChange(listener: (isUp: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  openChannel(onGone: () => void): Promise<ConsumerChannel> {
    if (!this.#isOpen) return Promise.reject(new StoreError('rabbitmq', 'no connection'));
    return new Promise((resolve, reject) => {
      const done = this.onceGone(() => reject(new StoreError('rabbitmq', 'the connection went')));
      this.send(() =>
        this.receive(() => {
          done();
          resolve(new Channel(this, this.#broker, onGone));
        }),
      );
    });
  }

  /** The connection goes. The broker notices at once, or up to ten seconds later; a dead process is told nothing. */
  cut(): void {
    if (!this.#isOpen) return;
    const { random } = this.#timeline;
    this.#isOpen = false;
    this.#era += 1;
    const consumers = [...this.#consumers];
    this.#consumers.clear();
    for (const consumer of consumers) consumer.isActive = false;
    this.#timeline.at(random.share() < 0.8 ? random.share() * 5 : random.share() * 10_000, () => {
      for (const consumer of consumers) {
        const at = consumer.queue.consumers.indexOf(consumer);
        if (at >= 0) consumer.queue.consumers.splice(at, 1);
        const open = [...consumer.open];
        consumer.open.clear();
        this.#broker.giveBack(consumer.queue, open);
      }
    });
    const calls = [...this.#goneCalls];
    this.#goneCalls.clear();
    if (!this.#isAlive()) return void this.#broker.connections.delete(this);
    for (const listener of this.#listeners) listener(false);
    for (const call of calls) call();
    this.#timeline.at(20 + random.share() * 500, () => this.#reconnect());
  }

  #reconnect(): void {
    if (!this.#isAlive() || this.#isOpen) return;
    if (!this.#broker.isUp) return this.#timeline.at(250, () => this.#reconnect());
    this.#isOpen = true;
    for (const listener of this.#listeners) listener(true);
  }

  /** Runs `arrive` at the broker, in the order of sending. What the connection does not survive never arrives. */
  send(arrive: () => void): void {
    const era = this.#era;
    this.#sentMs = Math.max(this.#sentMs, this.#timeline.nowMs + this.#broker.faults.delayMs());
    this.#timeline.at(this.#sentMs - this.#timeline.nowMs, () => {
      if (this.#era === era && this.#isOpen) arrive();
    });
  }

  /** Runs `arrive` in the process, in the order of sending. */
  receive(arrive: () => void): void {
    const era = this.#era;
    this.#receivedMs = Math.max(this.#receivedMs, this.#timeline.nowMs + this.#broker.faults.delayMs());
    this.#timeline.at(this.#receivedMs - this.#timeline.nowMs, () => {
      if (this.#era === era && this.#isOpen && this.#isAlive()) arrive();
    });
  }

  addConsumer(consumer: Consumer): void {
    this.#consumers.add(consumer);
  }

  /** `call` is called once if the connection goes; the answer takes it back. */
  onceGone(call: () => void): () => void {
    this.#goneCalls.add(call);
    return () => void this.#goneCalls.delete(call);
  }

  #publish(messages: readonly OutMessage[]): Promise<PublishOutcome[]> {
    if (messages.length === 0) return Promise.resolve([]);
    if (!this.#isOpen) return Promise.resolve(messages.map(() => 'unknown'));
    const { faults } = this.#broker;
    return new Promise((resolve) => {
      const outcomes: PublishOutcome[] = messages.map(() => 'unknown');
      const done = this.onceGone(() => resolve(outcomes.map(() => 'unknown')));
      this.send(() => {
        for (const [i, message] of messages.entries()) {
          if (faults.strikes('cut_in_publish')) return this.cut();
          outcomes[i] = this.#broker.take(this.#userId, message);
        }
        if (faults.strikes('cut_after_publish')) return this.cut();
        this.receive(() => {
          done();
          resolve(outcomes);
        });
      });
    });
  }
}

/** One channel: its consumers, and the answers to their deliveries. */
class Channel implements ConsumerChannel {
  readonly #connection: Connection;
  readonly #broker: SimBroker;
  readonly #consumers: Consumer[] = [];
  readonly #forget: () => void;
  isLive = true;

  constructor(connection: Connection, broker: SimBroker, onGone: () => void) {
    this.#connection = connection;
    this.#broker = broker;
    this.#forget = connection.onceGone(() => {
      this.isLive = false;
      onGone();
    });
  }

  consume(queue: string, prefetch: number, onDelivery: (delivery: Delivery) => void): Promise<Consumption> {
    if (!this.isLive) return Promise.reject(new StoreError('rabbitmq', 'the channel is gone'));
    return new Promise((resolve, reject) => {
      const done = this.#connection.onceGone(() => reject(new StoreError('rabbitmq', 'the connection went')));
      this.#connection.send(() => {
        this.#broker.declare(queue);
        const found = this.#broker.queue(queue);
        if (found === undefined) return;
        const consumer: Consumer = {
          connection: this.#connection,
          queue: found,
          prefetch,
          open: new Set(),
          channel: this,
          deliver: (message) =>
            this.#connection.receive(() => onDelivery(this.#deliveryOf(consumer, message))),
          isActive: true,
        };
        this.#consumers.push(consumer);
        this.#connection.addConsumer(consumer);
        found.consumers.push(consumer);
        this.#connection.receive(() => {
          done();
          resolve({ queue, prefetch, cancel: () => this.#cancel(consumer) });
        });
        this.#broker.pump(found);
      });
    });
  }

  close(): Promise<void> {
    this.isLive = false;
    this.#forget();
    return new Promise((resolve) => {
      const done = this.#connection.onceGone(resolve);
      this.#connection.send(() => {
        for (const consumer of this.#consumers) {
          consumer.isActive = false;
          const open = [...consumer.open];
          consumer.open.clear();
          this.#broker.giveBack(consumer.queue, open);
        }
        this.#connection.receive(() => {
          done();
          resolve();
        });
      });
    });
  }

  #cancel(consumer: Consumer): Promise<void> {
    if (!this.isLive) return Promise.resolve();
    return new Promise((resolve) => {
      const done = this.#connection.onceGone(resolve);
      this.#connection.send(() => {
        consumer.isActive = false;
        this.#connection.receive(() => {
          done();
          resolve();
        });
      });
    });
  }

  #deliveryOf(consumer: Consumer, message: Message): Delivery {
    let isOpen = true;
    const answer = (how: () => void) => {
      if (!isOpen || !this.isLive) return;
      isOpen = false;
      this.#connection.send(() => {
        if (consumer.open.delete(message)) how();
        this.#broker.pump(consumer.queue);
      });
    };
    const isLive = () => this.isLive;
    const { death } = message;
    return {
      queue: consumer.queue.name,
      body: message.body,
      redelivered: message.redelivered,
      userId: message.userId,
      messageId: message.messageId,
      correlationId: message.correlationId,
      replyTo: message.replyTo,
      expiration: message.expiration,
      routingKey: message.routingKey,
      exchange: message.exchange,
      deathReason: death?.reason ?? null,
      deathRoutingKey: death?.key ?? null,
      deathExchange: death?.exchange ?? null,
      traceparent: null,
      receivedMs: this.#broker.timeline.nowMs,
      get isLive() {
        return isLive();
      },
      acknowledge: () => answer(() => undefined),
      requeue: () => answer(() => this.#broker.giveBack(consumer.queue, [message])),
    };
  }
}
