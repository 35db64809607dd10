import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { Delivery } from '../broker/types.ts';
import { FleetMessage } from '../contracts/fleet.ts';
import { nodeUser } from '../contracts/names.ts';
import { parserOf } from '../contracts/parse.ts';
import { helloBytes, signatureBytes } from '../contracts/signed-bytes.ts';
import { type Refusal, refusal, StoreError } from '../errors.ts';
import type { Metrics } from '../ops/types.ts';
import type { FleetRegistry } from './types.ts';

/** What PostgreSQL knows of a node, as far as its worker's word depends on it. `publicKey`: raw 32 bytes of Ed25519. */
export interface RegisteredNode {
  readonly publicKey: Buffer;
  readonly models: ReadonlySet<string>;
  readonly lifecycle: 'probation' | 'active' | 'retired';
  /** The pools of one of its models that its record lets it serve: the model's own and those whose constraint it meets. */
  readonly poolsOf: (model: string) => readonly string[];
  /** New jobs for it now: as it likes, one at a time, or none. What it runs goes on. */
  readonly admission: 'open' | 'trickle' | 'closed';
}

/** A fleet message that was refused: `node` as it says (null if it cannot be read), `userId` as the broker proved. */
export interface FleetRefusal extends Refusal {
  readonly node: string | null;
  readonly userId: string | null;
}

/** How a fleet message ended; a label value. `away`: Redis did not answer, the next heartbeat heals it. */
export type FleetIntakeOutcome =
  | 'applied'
  | 'ignored'
  | 'superseded'
  | 'stale_session'
  | 'invalid'
  | 'sender'
  | 'signature'
  | 'away';

/** What the intake tells others; each is called at most once per message. */
export interface FleetListeners {
  /** A message was refused: leave an event. */
  readonly onRefused: (refused: FleetRefusal) => void;
  /** A session of `node` below a newer one was found alive or replaced: tell that worker to stop. */
  readonly onOldSession: (node: string, session: number) => void;
}

/** How a message is turned away, before Redis is asked. */
interface TurnedAway {
  readonly outcome: 'invalid' | 'sender' | 'signature';
  readonly fault: Refusal;
  readonly node: string | null;
}

/** Slots that count of a node whose trust comes back. */
const TRICKLE_SLOTS = 1;

const parse = parserOf(FleetMessage);
/** What precedes the raw key in its DER form. Source: RFC 8410. */
const ED25519_DER_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

/**
 * Turns what a coordinator hears on exchange `fleet` into the live fleet. What authenticates a message is the broker: `user_id` must be the node's
 * own user. The signature of a hello is evidence that the process holds the node's key, and is checked whenever it comes;
 * the other kinds carry none. A heartbeat of a session whose hello nobody here remembers is taken all the same, because
 * each message carries the whole state and an emptied Redis has forgotten every hello. Source: design [14], [21].
 */
export class FleetIntake {
  readonly #nodeOf: (id: string) => RegisteredNode | undefined;
  readonly #registry: FleetRegistry;
  readonly #metrics: Pick<Metrics, 'fleetMessage' | 'fleetRefused'>;
  readonly #listeners: FleetListeners;

  /** `nodeOf` looks a node up in memory. */
  constructor(
    nodeOf: (id: string) => RegisteredNode | undefined,
    registry: FleetRegistry,
    metrics: Pick<Metrics, 'fleetMessage' | 'fleetRefused'>,
    listeners: FleetListeners,
  ) {
    this.#nodeOf = nodeOf;
    this.#registry = registry;
    this.#metrics = metrics;
    this.#listeners = listeners;
  }

  /**
   * Takes one message in and acknowledges it whatever comes of it: it is a sign of life, and the next one says it all again.
   * Idempotent by (session, seq). Throws only InvariantError.
   */
  async take(delivery: Delivery): Promise<FleetIntakeOutcome> {
    const outcome = await this.#decide(delivery);
    this.#metrics.fleetMessage(outcome);
    delivery.acknowledge();
    return outcome;
  }

  async #decide(delivery: Delivery): Promise<FleetIntakeOutcome> {
    const read = this.#read(delivery);
    if ('fault' in read) {
      this.#refuse({ ...read.fault, node: read.node, userId: delivery.userId });
      return read.outcome;
    }
    try {
      return await this.#apply(read.message, read.pools, delivery.userId);
    } catch (error) {
      if (error instanceof StoreError) return 'away';
      throw error;
    }
  }

  #refuse(refused: FleetRefusal): void {
    this.#metrics.fleetRefused(refused.code);
    this.#listeners.onRefused(refused);
  }

  #read(delivery: Delivery): TurnedAway | { message: FleetMessage; pools: string[] } {
    const parsed = parse(delivery.body);
    if (!parsed.ok) {
      const { field, message } = parsed.fault;
      return { outcome: 'invalid', fault: refusal('TG_FLEET_INVALID', field, message), node: null };
    }
    const message = parsed.value;
    const { node } = message;
    if (delivery.userId !== nodeUser(node)) {
      return { outcome: 'sender', fault: refusal('TG_FLEET_SENDER', 'node'), node };
    }
    const registered = this.#nodeOf(node);
    if (registered === undefined || registered.lifecycle === 'retired') {
      const detail = registered === undefined ? 'the node is not registered' : 'the node is retired';
      return { outcome: 'sender', fault: refusal('TG_FLEET_SENDER', 'node', detail), node };
    }
    if (message.kind === 'hello' && !isSigned(message, registered.publicKey)) {
      return { outcome: 'signature', fault: refusal('TG_FLEET_SIGNATURE', 'signature'), node };
    }
    const models = message.pools.filter((model) => registered.models.has(model));
    // The rest of the message holds: it is served by what it is registered for, and by nothing else.
    if (models.length < message.pools.length)
      this.#refuse({ ...refusal('TG_FLEET_MODEL', 'pools'), node, userId: delivery.userId });
    if (registered.admission === 'closed') return { message, pools: [] };
    const pools = models.flatMap((model) => registered.poolsOf(model));
    if (registered.admission === 'open') return { message, pools };
    return { message: { ...message, slots_total: Math.min(message.slots_total, TRICKLE_SLOTS) }, pools };
  }

  async #apply(message: FleetMessage, pools: string[], userId: string | null): Promise<FleetIntakeOutcome> {
    const { node, session } = message;
    const outcome = await this.#registry.apply(message, pools);
    if (outcome.kind === 'refused') {
      this.#listeners.onOldSession(node, session);
      this.#refuse({ ...refusal(outcome.code, 'session'), node, userId });
      return 'stale_session';
    }
    if (outcome.kind === 'superseded') this.#listeners.onOldSession(node, outcome.oldSession);
    return outcome.kind;
  }
}

function isSigned(hello: FleetMessage, publicKey: Buffer): boolean {
  const signature = signatureBytes(hello.signature ?? '');
  return signature !== null && verify(null, helloBytes(hello), ed25519Key(publicKey), signature);
}

function ed25519Key(raw: Buffer): KeyObject {
  return createPublicKey({ key: Buffer.concat([ED25519_DER_HEAD, raw]), format: 'der', type: 'spki' });
}
