import { type ChannelModel, connect, type ConsumeMessage } from 'amqplib';
import { gatherWrites } from '../../src/broker/amqplib-internals.ts';
import { EXCHANGE, jobQueue, QUEUE } from '../../src/contracts/names.ts';
import type { ReplyMessage } from '../../src/contracts/reply.ts';
import { serveParent } from '../process/child.ts';
import { REPLY_QUEUE } from '../world/names.ts';

/**
 * The bare relay: what moving these messages costs when nothing is done to them. It consumes quorum queues with prefetch
 * 500 each, publishes each message, persistent and mandatory, to the next hop with at most 2,000 unconfirmed, and acknowledges the
 * source, in multiples, when the broker has confirmed. As safe against a crash as the product; it looks at no message.
 *
 * It comes in two forms. Plain: amqplib as its documentation shows it. Tuned: with all that our broker room does to the
 * socket besides, and with dispatches that the broker need not keep, so that the difference to the product is what the product does to
 * the jobs, and nothing else. A relay that is to lose nothing cannot do the latter: it has no ledger to make a dispatch again from.
 */

const PREFETCH = 500;
const UNCONFIRMED_MAX = 2_000;
/** As in the broker room's link. */
const TUNED_BUFFER_BYTES = 1_048_576;

/** Where a message goes next; `n` counts from 0. */
interface Next {
  readonly exchange: string;
  readonly key: string;
  readonly messageId: string;
  readonly body: Buffer;
  readonly isTransient: boolean;
}

/** Relays from the queues `from`, all consumed on one channel, until the returned function is called. */
async function relay(
  source: ChannelModel,
  target: ChannelModel,
  from: readonly string[],
  next: (message: ConsumeMessage, n: number) => Next,
): Promise<() => Promise<void>> {
  const consuming = await source.createChannel();
  const publishing = await target.createConfirmChannel();
  const waiting: ConsumeMessage[] = [];
  // Consumed and not acknowledged, in order; a message is confirmed when it is in `confirmed`.
  let open: ConsumeMessage[] = [];
  const confirmed = new Set<ConsumeMessage>();
  let sent = 0;
  let isAckDue = false;

  const acknowledge = (): void => {
    isAckDue = false;
    let ready = 0;
    for (const message of open) {
      if (!confirmed.delete(message)) break;
      ready += 1;
    }
    const last = open[ready - 1];
    if (last === undefined) return;
    open = open.slice(ready);
    consuming.ack(last, true);
    publishWaiting();
  };
  const publishWaiting = (): void => {
    while (open.length < UNCONFIRMED_MAX) {
      const message = waiting.shift();
      if (message === undefined) return;
      open.push(message);
      const { exchange, key, messageId, body, isTransient } = next(message, sent++);
      const properties = { persistent: !isTransient, mandatory: true, messageId };
      publishing.publish(exchange, key, body, properties, (error) => {
        if (error) throw new Error(`the relay got a nack for ${key}`);
        confirmed.add(message);
        if (!isAckDue) setImmediate(acknowledge);
        isAckDue = true;
      });
    }
  };

  await consuming.prefetch(PREFETCH);
  const consumers = await Promise.all(
    from.map((queue) =>
      consuming.consume(queue, (message) => {
        if (message === null) throw new Error(`${queue} is gone`);
        waiting.push(message);
        publishWaiting();
      }),
    ),
  );
  return async () => {
    await Promise.all(consumers.map(({ consumerTag }) => consuming.cancel(consumerTag)));
    while (waiting.length + open.length > 0) await new Promise((resolve) => setImmediate(resolve));
    await Promise.all([consuming.close(), publishing.close()]);
  };
}

/** As long as a reply of the product; the relay makes none of its own. */
const REPLY: ReplyMessage = {
  v: 1,
  job: '00000000-0000-7000-8000-000000000000',
  state: 'succeeded',
  output: { text: 'x'.repeat(440), finish_reason: 'stop' },
  usage: { input_tokens: 180, output_tokens: 64 },
  charged_micro: 37_200,
  model_version: 1,
  error: null,
};
const REPLY_BODY = Buffer.from(JSON.stringify(REPLY));

/** To the nodes in turn. */
function toNodes(nodes: readonly string[], isTransient: boolean) {
  return ({ content, properties }: ConsumeMessage, n: number): Next => ({
    exchange: EXCHANGE.dispatch,
    key: nodes[n % nodes.length] ?? '',
    messageId: `${properties.messageId}.1`,
    body: content,
    isTransient,
  });
}

function toClient({ properties }: ConsumeMessage): Next {
  const [job] = String(properties.messageId).split('.');
  return { exchange: '', key: REPLY_QUEUE, messageId: `r-${job}`, body: REPLY_BODY, isTransient: false };
}

let connections: {
  readonly source: ChannelModel;
  readonly target: ChannelModel;
  readonly isTuned: boolean;
} | null = null;
let stops: (() => Promise<void>)[] = [];

/** What the bench may ask of the relay process. */
const methods = {
  async connect({ url, isTuned }: { url: string; isTuned: boolean }): Promise<void> {
    const options = isTuned
      ? { noDelay: true, writableHighWaterMark: TUNED_BUFFER_BYTES }
      : { noDelay: true };
    const [source, target] = await Promise.all([connect(url, options), connect(url, options)]);
    if (isTuned && !(gatherWrites(source) && gatherWrites(target)))
      throw new Error('the writes of this amqplib cannot be gathered');
    connections = { source, target, isTuned };
  },
  /** Takes jobs of these models, for these nodes, and results from now on. */
  async begin({ models, nodes }: { models: readonly string[]; nodes: readonly string[] }): Promise<void> {
    if (connections === null) throw new Error('not connected');
    const { source, target, isTuned } = connections;
    const queues = models.map((model) => jobQueue(model, 'interactive'));
    stops = await Promise.all([
      relay(source, target, queues, toNodes(nodes, isTuned)),
      relay(source, target, [QUEUE.results], toClient),
    ]);
  },
  async end(): Promise<void> {
    await Promise.all(stops.map((stop) => stop()));
    stops = [];
  },
};

/** The relay process's methods, for `Child`. */
export type RelayMethods = typeof methods;

serveParent(methods);
