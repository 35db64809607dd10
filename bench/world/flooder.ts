import { type Channel, connect } from 'amqplib';
import { AmqpBroker } from '../../src/broker/connection.ts';
import { systemClock } from '../../src/clock.ts';
import type { Config } from '../../src/config-schema.ts';
import { publisherUser } from '../../src/contracts/names.ts';
import { quietLog } from '../../test/support/ledger.ts';
import { serveParent } from '../process/child.ts';
import { machineMs } from '../measure/clock.ts';
import { makeFlood } from './jobs.ts';
import { FLOODER, FLOOD_REPLY_QUEUE } from './names.ts';

/**
 * The flooder of a bench, in a process of its own: it sends jobs at a rate whatever becomes of them and counts the answers. The
 * control sends the same bytes to a quorum queue beside Tollgate's and acknowledges them: what a flood does by being on the same
 * broker and the same cores, whoever refuses it.
 */

/** How often it looks at the clock. */
const TICK_MS = 5;
const REPLY_PREFETCH = 2_000;

/** What a flood came to. `answeredMs`: from the first answer to the last one. */
export interface Flood {
  readonly sent: number;
  readonly answered: number;
  readonly rateLimited: number;
  readonly answeredMs: number;
}

let broker: AmqpBroker | null = null;
/** An administrator's channel, for the control. */
let control: Channel | null = null;
let isFlooding = false;
let ended: Promise<void> = Promise.resolve();
const counts = { sent: 0, answered: 0, rateLimited: 0, firstMs: 0, lastMs: 0 };

function connected(): AmqpBroker {
  if (broker === null) throw new Error('the flooder is not connected');
  return broker;
}

const CONTROL_QUEUE = 'bench.flood-control';

function sendControl(count: number): void {
  counts.sent += count;
  for (const { body, messageId } of makeFlood(count))
    control?.sendToQueue(CONTROL_QUEUE, body, { persistent: true, messageId });
}

async function send(count: number): Promise<void> {
  counts.sent += count;
  const outcomes = await connected().publisher.publishBatch(makeFlood(count));
  if (outcomes.some((outcome) => outcome !== 'confirmed')) throw new Error('the flood was not taken');
}

/** Sends until it is told to stop; what is late is sent at once. */
function pace(perSecond: number, isControl: boolean): Promise<void> {
  const startMs = machineMs();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let sent = 0;
  const tick = (): void => {
    const due = Math.floor(((machineMs() - startMs) * perSecond) / 1_000);
    if (due > sent && isControl) sendControl(due - sent);
    else if (due > sent) send(due - sent).catch(reject);
    sent = Math.max(sent, due);
    if (isFlooding) setTimeout(tick, TICK_MS);
    else resolve();
  };
  tick();
  return promise;
}

async function connectControl(url: string): Promise<void> {
  const model = await connect(url);
  model.on('error', () => undefined);
  const channel = await model.createChannel();
  await channel.assertQueue(CONTROL_QUEUE, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await channel.prefetch(REPLY_PREFETCH);
  await channel.consume(CONTROL_QUEUE, (message) => {
    if (message === null) return;
    channel.ack(message);
    counts.answered += 1;
  });
  control = channel;
}

/** What the bench may ask of this process. */
const methods = {
  async connect({ url, adminUrl, config }: { url: string; adminUrl: string; config: Config }): Promise<void> {
    await connectControl(adminUrl);
    const user = publisherUser(FLOODER);
    broker = new AmqpBroker({
      ...config.broker,
      ...config.servers,
      url,
      name: 'bench flooder',
      bounds: config.broker,
      userId: user,
      log: quietLog,
      clock: systemClock,
    });
    await broker.start();
    const channel = await broker.openChannel(() => undefined);
    await channel.consume(FLOOD_REPLY_QUEUE, REPLY_PREFETCH, (delivery) => {
      delivery.acknowledge();
      if (counts.answered === 0) counts.firstMs = machineMs();
      counts.lastMs = machineMs();
      counts.answered += 1;
      if (delivery.body.includes('TG_RATE_LIMITED')) counts.rateLimited += 1;
    });
  },
  /** Begins to send `perSecond` jobs a second. */
  begin({ perSecond, isControl }: { perSecond: number; isControl: boolean }): void {
    Object.assign(counts, { sent: 0, answered: 0, rateLimited: 0 });
    isFlooding = perSecond > 0;
    ended = isFlooding ? pace(perSecond, isControl) : Promise.resolve();
  },
  /** Sends as many as it can at once. */
  async burst(jobs: number): Promise<void> {
    Object.assign(counts, { sent: 0, answered: 0, rateLimited: 0 });
    await send(jobs);
  },
  /** Stops sending. */
  async end(): Promise<void> {
    isFlooding = false;
    await ended;
  },
  /** What became of the flood so far. */
  flood: (): Flood => {
    const { sent, answered, rateLimited, firstMs, lastMs } = counts;
    return { sent, answered, rateLimited, answeredMs: lastMs - firstMs };
  },
};

/** The flooder's methods, for `Child`. */
export type FlooderMethods = typeof methods;

serveParent(methods);
