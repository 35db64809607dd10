import type { Channel, ChannelModel } from 'amqplib';
import pLimit from 'p-limit';
import type { Config } from '../config-schema.ts';
import { WAIT_MS_MAX } from '../contracts/job.ts';
import {
  CANCEL_KEY,
  controlQueue,
  EXCHANGE,
  FLEET_KEYS,
  fleetQueue,
  jobKey,
  jobQueue,
  nodeQueue,
  PRIORITIES,
  type Priority,
  QUEUE,
  RESULT_KEY,
} from '../contracts/names.ts';
import { isRefusal, StoreError, type TollgateError } from '../errors.ts';
import { brokerError, lengthInstead } from './amqp-errors.ts';
import { countMessages } from './queue-depth.ts';

/** Bounds that become queue arguments: a queue that exists keeps its own, so a changed one holds for new queues only. */
export type QueueBounds = Pick<
  Config['broker'],
  'poolQueueBytesMax' | 'nodeQueueLengthMax' | 'spoolBytesMax' | 'deadBytesMax'
>;

interface QueueDeclaration {
  readonly queue: string;
  readonly arguments: Readonly<Record<string, string | number>>;
}

/** One thing to declare; all are durable, and declaring again what exists changes nothing. */
export type Declaration =
  | {
      readonly exchange: string;
      readonly type: 'direct' | 'fanout';
      readonly arguments: Readonly<Record<string, string>>;
    }
  | QueueDeclaration
  | { readonly bind: string; readonly to: string; readonly key: string };

/**
 * On 3.10 a quorum queue without a limit puts a requeued message at its tail, with one at its head. No message of ours
 * comes near this one; poison is decided by our own validator. Source: design [17].
 */
const DELIVERY_LIMIT = 1_000_000;

/** Of a queue in which a job's `wait_ms` may run out: its dead letters are kept until `jobs.expired` has them. */
const EXPIRING = {
  'x-delivery-limit': DELIVERY_LIMIT,
  'x-dead-letter-exchange': EXCHANGE.expired,
  'x-dead-letter-strategy': 'at-least-once',
} as const;

/** A heartbeat older than what makes a worker lost, by default, tells nothing. */
const FLEET_TTL_MS = 15_000;
const FLEET_LENGTH_MAX = 100_000;
/** A coordinator that is gone for so long comes back, if ever, as a new one with a queue of its own. */
const FLEET_UNUSED_MS = 60_000;

/** A control message is a hint to look at the records; a worker that was away asks anew. */
const CONTROL_TTL_MS = 60_000;
const CONTROL_LENGTH_MAX = 100;

/** Declarations under way at a time, each on a channel of its own. */
const CONCURRENT_MAX = 4;

function exchange(name: string, type: 'direct' | 'fanout', args: Record<string, string> = {}): Declaration {
  return { exchange: name, type, arguments: args };
}

function quorum(queue: string, args: Record<string, string | number>): Declaration {
  return { queue, arguments: { 'x-queue-type': 'quorum', ...args } };
}

/** Version 2 keeps persistent messages on disk; the type is named because a newer broker may have another default. */
function classic(queue: string, args: Record<string, string | number>): Declaration {
  return { queue, arguments: { 'x-queue-type': 'classic', 'x-queue-version': 2, ...args } };
}

function bind(queue: string, to: string, key: string): Declaration {
  return { bind: queue, to, key };
}

/** What exists once, targets of dead-lettering and alternate exchanges before those that name them. Source: design [17]–[20]. */
export function coreDeclarations(bounds: QueueBounds): Declaration[] {
  const bounded = { 'x-overflow': 'reject-publish', 'x-max-length-bytes': bounds.poolQueueBytesMax };
  return [
    exchange(EXCHANGE.expired, 'fanout'),
    quorum(QUEUE.expired, bounded),
    bind(QUEUE.expired, EXCHANGE.expired, ''),
    exchange(EXCHANGE.unroutable, 'fanout'),
    // A job's own expiration holds here, too: without a dead-letter exchange it would vanish unanswered.
    quorum(QUEUE.unroutable, { ...bounded, ...EXPIRING }),
    bind(QUEUE.unroutable, EXCHANGE.unroutable, ''),
    exchange(EXCHANGE.jobs, 'direct', { 'alternate-exchange': EXCHANGE.unroutable }),
    quorum(QUEUE.cancel, bounded),
    bind(QUEUE.cancel, EXCHANGE.jobs, CANCEL_KEY),
    exchange(EXCHANGE.retry, 'direct'),
    exchange(EXCHANGE.moved, 'direct'),
    exchange(EXCHANGE.dispatch, 'direct'),
    exchange(EXCHANGE.control, 'direct'),
    exchange(EXCHANGE.results, 'direct'),
    quorum(QUEUE.results, bounded),
    bind(QUEUE.results, EXCHANGE.results, RESULT_KEY),
    exchange(EXCHANGE.fleet, 'direct'),
    quorum(QUEUE.spool, { 'x-overflow': 'reject-publish', 'x-max-length-bytes': bounds.spoolBytesMax }),
    quorum(QUEUE.dead, { 'x-overflow': 'drop-head', 'x-max-length-bytes': bounds.deadBytesMax }),
  ];
}

/**
 * The ears of one coordinator. With one queue for all, the broker would deal the heartbeats out, and a coordinator that stands
 * still would keep its share until its connection is given up: live workers would pass for lost. Source: docs/decisions/0007.
 */
export function fleetDeclarations(coordinator: string): Declaration[] {
  const queue = fleetQueue(coordinator);
  return [
    classic(queue, {
      'x-message-ttl': FLEET_TTL_MS,
      'x-max-length': FLEET_LENGTH_MAX,
      'x-overflow': 'drop-head',
      'x-expires': FLEET_UNUSED_MS,
    }),
    ...FLEET_KEYS.map((key) => bind(queue, EXCHANGE.fleet, key)),
  ];
}

/** The waiting queues of one pool, one per priority. A message leaves for `jobs.expired` when its own or the queue's TTL ends. */
export function poolDeclarations(pool: string, bounds: QueueBounds): Declaration[] {
  const waiting = (priority: Priority) =>
    quorum(jobQueue(pool, priority), {
      ...EXPIRING,
      'x-overflow': 'reject-publish',
      'x-message-ttl': WAIT_MS_MAX[priority],
      'x-max-length-bytes': bounds.poolQueueBytesMax,
    });
  return PRIORITIES.flatMap((priority) => [
    waiting(priority),
    bind(jobQueue(pool, priority), EXCHANGE.jobs, jobKey(pool, priority)),
    bind(jobQueue(pool, priority), EXCHANGE.retry, jobKey(pool, priority)),
    bind(jobQueue(pool, priority), EXCHANGE.moved, jobKey(pool, priority)),
  ]);
}

/** The two queues of a node. A dispatch lost with its queue can be made again, so the cheap classic kind is enough. */
export function nodeDeclarations(node: string, bounds: QueueBounds): Declaration[] {
  return [
    classic(nodeQueue(node), {
      'x-max-length': bounds.nodeQueueLengthMax,
      'x-overflow': 'reject-publish',
    }),
    bind(nodeQueue(node), EXCHANGE.dispatch, node),
    classic(controlQueue(node), {
      'x-message-ttl': CONTROL_TTL_MS,
      'x-max-length': CONTROL_LENGTH_MAX,
      'x-overflow': 'drop-head',
    }),
    bind(controlQueue(node), EXCHANGE.control, node),
  ];
}

/** A publisher's reply queue; the broker deletes it when nobody has used it for `unusedMs`. */
export function replyDeclarations(queue: string, unusedMs: number): Declaration[] {
  return [classic(queue, { 'x-expires': unusedMs })];
}

async function declareOne(channel: Channel, declaration: Declaration): Promise<void> {
  if ('exchange' in declaration) {
    const { exchange: name, type, arguments: args } = declaration;
    await channel.assertExchange(name, type, { durable: true, arguments: args });
  } else if ('queue' in declaration) {
    await channel.assertQueue(declaration.queue, { durable: true, arguments: declaration.arguments });
  } else {
    await channel.bindQueue(declaration.bind, declaration.to, declaration.key);
  }
}

/** `declaration` with the length that its queue has, where that is all that the broker refuses; null: it is something else. */
function asItIs(declaration: Declaration, error: unknown): QueueDeclaration | null {
  const length = lengthInstead(error);
  if (length === null || !('queue' in declaration)) return null;
  const { queue, arguments: args } = declaration;
  return { queue, arguments: { ...args, [length.argument]: length.value } };
}

/** A queue that is not ours to use gets no messages either: what we send there it might drop. */
function isBindingOf(one: Declaration, refused: Declaration): boolean {
  return 'bind' in one && 'queue' in refused && one.bind === refused.queue;
}

/**
 * Declares exchanges and queues, each group at most once per connection, on short-lived channels, so that a refusal
 * (406: it exists with other arguments) closes nobody else's. What was declared once is declared again on each new
 * connection: a broker that came back empty gets its queues back. What the broker refused is not asked for again by itself.
 * RabbitMQ never changes a queue: one that only has another length, because the configuration was another when it was made, is used
 * as it is.
 */
export class Topology {
  readonly #bounds: QueueBounds;
  readonly #onOldLength: (queue: string, error: TollgateError) => void;
  readonly #limit = pLimit(CONCURRENT_MAX);
  /** Everything asked for since the start, by group name. */
  readonly #wanted = new Map<string, readonly Declaration[]>();
  /** Of this connection: declared or being declared. */
  #declared = new Map<string, Promise<void>>();
  #model: ChannelModel | null = null;

  /** `onOldLength` hears of a queue that keeps another length, each time it is declared. */
  constructor(
    bounds: QueueBounds,
    onOldLength: (queue: string, error: TollgateError) => void = () => undefined,
  ) {
    this.#bounds = bounds;
    this.#onOldLength = onOldLength;
  }

  /**
   * Takes a new connection and declares on it what was declared before; `onRefused` hears what exists in another shape by now, which
   * is no reason to do without all others. For the broker room only.
   */
  async attach(model: ChannelModel, onRefused: (error: TollgateError) => void): Promise<void> {
    this.#model = model;
    this.#declared = new Map();
    const again = [...this.#wanted].map(([group, declarations]) => this.#declare(group, declarations));
    const errors = (await Promise.allSettled(again)).flatMap((one) =>
      one.status === 'rejected' ? [one.reason as unknown] : [],
    );
    for (const error of errors.filter(isRefusal)) onRefused(error);
    for (const error of errors) if (!isRefusal(error)) throw error;
  }

  /** The connection is gone; declaring rejects with StoreError until the next. For the broker room only. */
  detach(): void {
    this.#model = null;
  }

  /** Everything that exists once. Rejects with `TG_STORE_REJECTED` where something exists with other arguments. */
  declareCore(): Promise<void> {
    return this.#declare('core', coreDeclarations(this.#bounds));
  }

  /** The queue in which coordinator `coordinator` hears the fleet. Idempotent and cheap when known; rejects as `declareCore`. */
  declareFleet(coordinator: string): Promise<void> {
    return this.#declare(`fleet ${coordinator}`, fleetDeclarations(coordinator));
  }

  /** The queues of `pool`, bound to `jobs`. Idempotent and cheap when known; rejects as `declareCore` does. */
  declarePool(pool: string): Promise<void> {
    return this.#declare(`pool ${pool}`, poolDeclarations(pool, this.#bounds));
  }

  /** The queues of node `node`, bound to `dispatch` and `control`. Idempotent and cheap when known; rejects as `declareCore`. */
  declareNode(node: string): Promise<void> {
    return this.#declare(`node ${node}`, nodeDeclarations(node, this.#bounds));
  }

  /** The queues of `pool` turned out to be gone: the next `declarePool` makes them again. */
  forgetPool(pool: string): void {
    this.#declared.delete(`pool ${pool}`);
  }

  /** The queues of `node` turned out to be gone: the next `declareNode` makes them again. */
  forgetNode(node: string): void {
    this.#declared.delete(`node ${node}`);
  }

  /** A publisher's own reply queue, deleted by the broker when unused for `unusedMs`. Idempotent; rejects as `declareCore`. */
  declareReplyQueue(queue: string, unusedMs: number): Promise<void> {
    return this.#declare(`reply ${queue}`, replyDeclarations(queue, unusedMs));
  }

  /**
   * How many messages wait in each of these queues, those in a consumer's hands not counted. A queue that does not exist is left
   * out. Rejects with StoreError while not connected.
   */
  async depths(queues: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const model = this.#model;
    if (model === null) throw new StoreError('rabbitmq', 'counting messages: not connected');
    return this.#limit(() => countMessages(model, queues));
  }

  #declare(group: string, declarations: readonly Declaration[]): Promise<void> {
    const known = this.#declared.get(group);
    if (known !== undefined) return known;
    this.#wanted.set(group, declarations);
    const declared = this.#declared;
    const work = this.#limit(() => this.#apply(group, declarations));
    declared.set(group, work);
    work.catch((error: unknown) => {
      // Unless it was forgotten meanwhile, and is asked for again.
      if (declared.get(group) !== work) return;
      declared.delete(group);
      if (isRefusal(error)) this.#wanted.delete(group);
    });
    return work;
  }

  /** Declares all that can be declared; rejects with the first refusal, or at once where the broker is away. */
  async #apply(group: string, declarations: readonly Declaration[]): Promise<void> {
    let left = [...declarations];
    const asTheyAre = new Set<Declaration>();
    let refused: TollgateError | null = null;
    while (left.length > 0) {
      const error = await this.#applyUntilRefused(group, left);
      const declaration = left.shift();
      if (error === null || declaration === undefined) break;
      const again = asTheyAre.has(declaration) ? null : asItIs(declaration, error);
      if (again === null) {
        refused ??= error;
        left = left.filter((one) => !isBindingOf(one, declaration));
      } else {
        this.#onOldLength(again.queue, error);
        asTheyAre.add(again);
        left.unshift(again);
      }
    }
    if (refused !== null) throw refused;
  }

  /** Takes from `left` what it could declare; the first that is left was refused, for the reason that is returned. */
  async #applyUntilRefused(group: string, left: Declaration[]): Promise<TollgateError | null> {
    if (this.#model === null) throw new StoreError('rabbitmq', `declaring ${group}: not connected`);
    try {
      const channel = await this.#model.createChannel();
      // A refusal closes the channel; it also rejects the call, which is where it is handled.
      channel.on('error', () => {});
      for (let [next] = left; next !== undefined; [next] = left) {
        await declareOne(channel, next);
        left.shift();
      }
      await channel.close();
      return null;
    } catch (error) {
      const ours = brokerError(error, `declaring ${group}`);
      if (isRefusal(ours)) return ours;
      throw ours;
    }
  }
}
