import type { Broker, ConsumerChannel, Delivery } from '../broker/types.ts';
import type { Config } from '../config-schema.ts';
import { QUEUE } from '../contracts/names.ts';
import type { Log, Service } from '../ops/types.ts';
import { SECTIONS, type Section } from './documents.ts';
import { type MongoConnection, RejectedDocumentsError } from './mongo.ts';
import { decodeSpooled, type Spooled } from './spool.ts';

/** Keeps a message that can't be written, with its reason, outside the spool. Resolves once it is durable there. */
export type BuryMessage = (body: Buffer, reason: string) => Promise<void>;

/** A spool message in our hands. */
interface Held extends Spooled {
  readonly delivery: Delivery;
}

/**
 * Moves what waits in the spool queue to MongoDB; every coordinator runs one.
 *
 *   detached ── MongoDB and RabbitMQ are up ──▶ attached (consuming)
 *   attached ── MongoDB is away, or a write failed ──▶ detached: closing the channel hands everything back to the queue
 *   attached ── the broker took the channel ──▶ detached
 *
 * A message is acknowledged after all of its documents are in MongoDB, where a second copy changes nothing. One that can't
 * be read, or that MongoDB refuses for good, is buried and then acknowledged. One turn runs at a time.
 */
export class SpoolDrain implements Service {
  readonly #config: Config['traces'];
  readonly #log: Log;
  readonly #mongo: MongoConnection;
  readonly #broker: Broker;
  readonly #bury: BuryMessage;
  readonly #unsubscribe: (() => void)[] = [];
  #channel: ConsumerChannel | null = null;
  #waiting: Delivery[] = [];
  #timer: NodeJS.Timeout | null = null;
  #turning: Promise<void> | null = null;
  #isAskedAgain = false;

  constructor(config: Config['traces'], log: Log, mongo: MongoConnection, broker: Broker, bury: BuryMessage) {
    this.#config = config;
    this.#log = log;
    this.#mongo = mongo;
    this.#broker = broker;
    this.#bury = bury;
  }

  async start(): Promise<void> {
    if (this.#timer !== null) return;
    this.#timer = setInterval(() => this.#ask(), this.#config.spoolDrainMs);
    this.#unsubscribe.push(
      this.#mongo.onChange(() => this.#ask()),
      this.#broker.onChange(() => this.#ask()),
    );
    this.#ask();
  }

  /** What is not written yet goes back to the queue. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    await this.#turning;
    await this.#detach();
  }

  /** Begins a turn, or has the one under way look again before it ends. */
  #ask(): void {
    if (this.#timer === null) return;
    this.#isAskedAgain = true;
    this.#turning ??= this.#turns();
  }

  async #turns(): Promise<void> {
    while (this.#isAskedAgain && this.#timer !== null) {
      this.#isAskedAgain = false;
      try {
        await this.#turn();
      } catch (error) {
        this.#log.warn({ error }, 'the trace spool waits');
        await this.#detach();
      }
    }
    this.#turning = null;
  }

  async #turn(): Promise<void> {
    if (!this.#mongo.isUp) return await this.#detach();
    if (this.#channel === null && this.#broker.isUp) await this.#attach();
    while (this.#waiting.length > 0) await this.#drain(this.#waiting.splice(0));
  }

  async #attach(): Promise<void> {
    const channel = await this.#broker.openChannel(() => {
      if (this.#channel === channel) this.#forget();
    });
    this.#channel = channel;
    await channel.consume(QUEUE.spool, this.#config.spoolPrefetch, (delivery) => {
      this.#waiting.push(delivery);
      this.#ask();
    });
  }

  #forget(): void {
    this.#channel = null;
    this.#waiting = [];
  }

  async #detach(): Promise<void> {
    const channel = this.#channel;
    this.#forget();
    await channel?.close();
  }

  async #drain(deliveries: readonly Delivery[]): Promise<void> {
    const held: Held[] = [];
    for (const delivery of deliveries) {
      const spooled = decodeSpooled(delivery.body);
      if (spooled === null) await this.#buryDelivery(delivery, 'not a spool message');
      else held.push({ delivery, ...spooled });
    }
    for (const section of SECTIONS) {
      const ofSection = held.filter((each) => each.section === section);
      if (ofSection.length > 0) await this.#write(section, ofSection);
    }
  }

  /** Throws StoreError when MongoDB does not take them; they are unacknowledged then. */
  async #write(section: Section, held: readonly Held[]): Promise<void> {
    try {
      await this.#mongo.insert(
        section,
        held.flatMap((each) => each.documents),
      );
    } catch (error) {
      if (!(error instanceof RejectedDocumentsError)) throw error;
      return await this.#writeApart(section, held, error);
    }
    for (const { delivery } of held) delivery.acknowledge();
  }

  /** MongoDB refused something for good: one message at a time finds out which of them holds it. */
  async #writeApart(section: Section, held: readonly Held[], error: RejectedDocumentsError): Promise<void> {
    const [first] = held;
    if (held.length === 1 && first !== undefined) {
      return await this.#buryDelivery(first.delivery, error.message);
    }
    for (const each of held) await this.#write(section, [each]);
  }

  async #buryDelivery(delivery: Delivery, reason: string): Promise<void> {
    this.#log.error(
      { bytes: delivery.body.length, reason },
      'a spool message cannot be written and is buried',
    );
    await this.#bury(delivery.body, reason);
    delivery.acknowledge();
  }
}
