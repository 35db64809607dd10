import type { KeyObject } from 'node:crypto';
import type { Broker, OutMessage, PublishOutcome } from '../../broker/types.ts';
import { EXCHANGE, RESULT_KEY } from '../../contracts/names.ts';
import type { Log } from '../../ops/types.ts';
import { signResults, type UnsignedResult } from './result.ts';

/** What becomes of a result on its way out. */
export interface Fate {
  /** Asked before each new try: false drops it, because the broker will deliver its dispatch again anyway. */
  isWanted(): boolean;
  /** The broker has it, routed and confirmed; `body` is what was sent. Called once. */
  confirmed(body: Buffer): void;
}

interface Parcel {
  /** `<job>.<attempt>`. */
  readonly key: string;
  readonly body: Buffer;
  readonly fate: Fate;
}

const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 5_000;

/**
 * Sends results until the broker has confirmed them. Results that are added in one turn of the event loop are signed and
 * published together. What is nacked, returned or unknown is published again, the same bytes, with a growing pause while
 * the broker is there, and at once when it comes back. Bounded by its callers: each result stands for a held delivery.
 */
export class ResultOutbox {
  readonly #broker: Broker;
  readonly #privateKey: KeyObject;
  readonly #log: Log;
  readonly #onOutcome: (key: string, outcome: PublishOutcome) => void;
  #unsigned: { result: UnsignedResult; fate: Fate }[] = [];
  #waiting: Parcel[] = [];
  #publishing = 0;
  #retryMs = RETRY_MS_MIN;
  #timer: NodeJS.Timeout | null = null;
  readonly #endSubscription: () => void;

  constructor(
    privateKey: KeyObject,
    log: Log,
    broker: Broker,
    onOutcome: (key: string, outcome: PublishOutcome) => void,
  ) {
    this.#privateKey = privateKey;
    this.#log = log;
    this.#broker = broker;
    this.#onOutcome = onOutcome;
    this.#endSubscription = broker.onChange((isUp) => {
      if (isUp) this.#retry();
    });
  }

  /** True when nothing is on its way. */
  get isEmpty(): boolean {
    return this.#unsigned.length + this.#waiting.length + this.#publishing === 0;
  }

  /** Signs and sends a new result at the end of this turn. */
  add(result: UnsignedResult, fate: Fate): void {
    if (this.#unsigned.push({ result, fate }) === 1) setImmediate(() => this.#flush());
  }

  /** Sends again what was sent before. */
  resend(key: string, body: Buffer, fate: Fate): void {
    void this.#publish([{ key, body, fate }]);
  }

  /** Gives up what was not confirmed. */
  close(): void {
    this.#endSubscription();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#unsigned = [];
    this.#waiting = [];
  }

  #flush(): void {
    const unsigned = this.#unsigned;
    this.#unsigned = [];
    const signed = signResults(
      unsigned.map(({ result }) => result),
      this.#privateKey,
    );
    const parcels = unsigned.map(({ fate }, i): Parcel => {
      const result = signed[i];
      return {
        key: `${result?.job}.${result?.attempt}`,
        body: Buffer.from(JSON.stringify(result)),
        fate,
      };
    });
    void this.#publish(parcels);
  }

  async #publish(parcels: readonly Parcel[]): Promise<void> {
    this.#publishing += parcels.length;
    const outcomes = await this.#broker.publisher.publishBatch(parcels.map(messageOf));
    this.#publishing -= parcels.length;
    for (const [i, parcel] of parcels.entries()) this.#settle(parcel, outcomes[i] ?? 'unknown');
    if (this.#waiting.length > 0) this.#scheduleRetry();
  }

  #settle(parcel: Parcel, outcome: PublishOutcome): void {
    if (outcome === 'confirmed') {
      this.#retryMs = RETRY_MS_MIN;
      parcel.fate.confirmed(parcel.body);
    } else {
      this.#waiting.push(parcel);
      this.#log.warn({ attempt: parcel.key, outcome }, 'a result was not confirmed and is sent again');
    }
    this.#onOutcome(parcel.key, outcome);
  }

  #scheduleRetry(): void {
    if (this.#timer !== null || !this.#broker.isUp) return;
    this.#timer = setTimeout(() => this.#retry(), this.#retryMs * (0.5 + Math.random() / 2));
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
  }

  #retry(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const wanted = this.#waiting.filter(({ fate }) => fate.isWanted());
    this.#waiting = [];
    if (wanted.length > 0) void this.#publish(wanted);
  }
}

function messageOf({ key, body }: Parcel): OutMessage {
  return { exchange: EXCHANGE.results, routingKey: RESULT_KEY, body, messageId: key, mandatory: true };
}
