import { type KeyObject, sign } from 'node:crypto';
import type { Broker, PublishOutcome } from '../../broker/types.ts';
import type { FleetMessage } from '../../contracts/fleet.ts';
import { EXCHANGE, type FleetKey } from '../../contracts/names.ts';
import { helloBytes } from '../../contracts/signed-bytes.ts';

/** What a worker always says of itself. */
export type FleetIdentity = Pick<FleetMessage, 'node' | 'session' | 'slots_total' | 'pools' | 'gpu'>;

/** What it holds at the moment. */
export type FleetState = Pick<FleetMessage, 'slots_in_use' | 'leases'>;

/** Only one configuration exists so far; coordinators push no other. */
const CONFIG_VERSION = 0;

/**
 * Speaks for a worker on exchange `fleet`. After `start` it says something every `heartbeatMs`: hello until one was
 * confirmed, then heartbeat; drain instead of either once it drains, so that a lost word is healed by the next.
 */
export class FleetVoice {
  readonly #identity: FleetIdentity;
  readonly #privateKey: KeyObject;
  readonly #broker: Broker;
  readonly #state: () => FleetState;
  #seq = 0;
  #isHelloOwed = true;
  #isDraining = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(identity: FleetIdentity, privateKey: KeyObject, broker: Broker, state: () => FleetState) {
    this.#identity = identity;
    this.#privateKey = privateKey;
    this.#broker = broker;
    this.#state = state;
  }

  start(heartbeatMs: number): void {
    this.#timer ??= setInterval(() => void this.#beat(), heartbeatMs);
  }

  /** Ends the heartbeats; anything may still be said. */
  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** Says one thing now. While the broker is away nothing is said, and the outcome is `unknown`. */
  async say(kind: FleetKey): Promise<PublishOutcome> {
    if (kind === 'drain') this.#isDraining = true;
    if (!this.#broker.isUp) return 'unknown';
    const message = this.#message(kind);
    const outcome = await this.#broker.publisher.publish({
      exchange: EXCHANGE.fleet,
      routingKey: kind,
      body: Buffer.from(JSON.stringify(message)),
      messageId: `${message.session}.${message.seq}`,
      mandatory: true,
      // The queue's TTL is shorter than any restart of the broker.
      transient: true,
    });
    if (kind === 'hello') this.#isHelloOwed = outcome !== 'confirmed';
    return outcome;
  }

  #beat(): Promise<PublishOutcome> {
    const word = this.#isHelloOwed ? 'hello' : 'heartbeat';
    return this.say(this.#isDraining ? 'drain' : word);
  }

  #message(kind: FleetKey): FleetMessage {
    const { pools } = this.#identity;
    const signed = () => sign(null, helloBytes(this.#identity), this.#privateKey).toString('base64');
    return {
      v: 1,
      kind,
      ...this.#identity,
      seq: ++this.#seq,
      ...this.#state(),
      // A model server loads what it serves when it starts.
      warm_models: pools,
      config_version: CONFIG_VERSION,
      signature: kind === 'hello' ? signed() : null,
    };
  }
}
