import type { KeyObject } from 'node:crypto';
import type { AmqpBroker } from '../../src/broker/connection.ts';
import type { Delivery, PublishOutcome } from '../../src/broker/types.ts';
import { systemClock } from '../../src/clock.ts';
import type { DispatchMessage } from '../../src/contracts/dispatch.ts';
import { EXCHANGE, nodeQueue, RESULT_KEY } from '../../src/contracts/names.ts';
import type { ResultMessage } from '../../src/contracts/result.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { FleetVoice } from '../../src/workers/agent/fleet-voice.ts';
import { signResults, type UnsignedResult } from '../../src/workers/agent/result.ts';
import { type UntilOptions, until } from './until.ts';

/** A dispatch in the hands of a test. */
export interface HeldDispatch {
  readonly message: DispatchMessage;
  readonly delivery: Delivery;
}

/** How a worker that is played by hand presents itself. */
export interface HandWorkerOptions {
  readonly node: string;
  readonly slots: number;
  readonly models: readonly string[];
  readonly heartbeatMs: number;
  /** False: it takes nothing from its queue before `read`. Default true. */
  readonly isReading?: boolean;
}

/**
 * A worker played by hand: it says hello and heartbeats like any other and takes what is dispatched, but what it answers, and
 * whether, is up to the test. Results are signed with the node's real key unless they are spoilt.
 */
export class HandWorker {
  readonly session: number;
  readonly held: HeldDispatch[] = [];
  readonly #options: HandWorkerOptions;
  readonly #privateKey: KeyObject;
  readonly #broker: AmqpBroker;
  readonly #voice: FleetVoice;

  constructor(options: HandWorkerOptions, privateKey: KeyObject, broker: AmqpBroker) {
    this.#options = options;
    this.#privateKey = privateKey;
    this.#broker = broker;
    this.session = systemClock.nowMs();
    const { node, slots, models } = options;
    const identity = { node, session: this.session, slots_total: slots, pools: [...models], gpu: null };
    this.#voice = new FleetVoice(identity, privateKey, broker, () => {
      const leases = this.held.map(({ message: { job, attempt } }) => ({ job, attempt }));
      return { slots_in_use: leases.length, leases };
    });
  }

  /** Consumes its queue as soon as that is declared, then says hello. */
  async start(): Promise<void> {
    const { heartbeatMs, isReading = true } = this.#options;
    if (isReading) await this.read();
    await this.#voice.say('hello');
    this.#voice.start(heartbeatMs);
  }

  /** Begins to take what is in its queue. */
  async read(): Promise<void> {
    const { node, slots } = this.#options;
    await until(async () => {
      const channel = await this.#broker.openChannel(() => undefined);
      await channel.consume(nodeQueue(node), slots, (delivery) => {
        this.held.push({ message: JSON.parse(delivery.body.toString()), delivery });
      });
      return true;
    }, `the queue of ${node}`);
  }

  /** Publishes anything to the fleet as this node. */
  sayAsFleet(body: Buffer): Promise<PublishOutcome> {
    return this.#broker.publisher.publish({
      exchange: EXCHANGE.fleet,
      routingKey: 'heartbeat',
      body,
      messageId: newUuidV7(),
      mandatory: true,
    });
  }

  /** Falls silent without a word, as a machine does that lost its power. */
  fallSilent(): void {
    this.#voice.stop();
  }

  /** Waits until `job` has been dispatched here. */
  async dispatched(job: string, options: UntilOptions = {}): Promise<HeldDispatch> {
    return until(
      () => this.held.find(({ message }) => message.job === job),
      `the dispatch of ${job}`,
      options,
    );
  }

  /** A good result of a dispatch: 5 tokens in, 3 out; `change` comes before its digest and signature are made. */
  result(message: DispatchMessage, change: Partial<UnsignedResult> = {}): ResultMessage {
    const { job, attempt, node, session, model_version } = message;
    const unsigned: UnsignedResult = {
      v: 1,
      job,
      attempt,
      node,
      session,
      model_version,
      status: 'completed',
      output: { text: `an answer for ${job}`, finish_reason: 'stop' },
      usage: { input_tokens: 5, output_tokens: 3 },
      timing: { queued_ms: 1, first_token_ms: 2, total_ms: 5 },
      tokens: null,
      gpu: null,
      evaluation: null,
      error: null,
      ...change,
    };
    const [signed] = signResults([unsigned], this.#privateKey);
    if (signed === undefined) throw new Error('nothing was signed');
    return signed;
  }

  /** Publishes anything as a result. */
  publish(result: unknown, broker = this.#broker, messageId = newUuidV7()): Promise<PublishOutcome> {
    const body = Buffer.isBuffer(result) ? result : Buffer.from(JSON.stringify(result));
    return broker.publisher.publish({
      exchange: EXCHANGE.results,
      routingKey: RESULT_KEY,
      body,
      messageId,
      mandatory: true,
    });
  }

  /** Answers a dispatch as a good worker does, and forgets it. */
  async finish(one: HeldDispatch, change: Partial<UnsignedResult> = {}): Promise<ResultMessage> {
    const result = this.result(one.message, change);
    await this.publish(result, this.#broker, `${result.job}.${result.attempt}`);
    this.drop(one);
    return result;
  }

  /** Acknowledges dispatches that came again while it holds the attempt, as a worker does. */
  dropRepeats(): void {
    const seen = new Set<string>();
    for (const one of [...this.held].toReversed()) {
      if (seen.has(one.message.job)) this.drop(one);
      seen.add(one.message.job);
    }
  }

  /** Forgets a dispatch and acknowledges it. */
  drop(one: HeldDispatch): void {
    one.delivery.acknowledge();
    const at = this.held.indexOf(one);
    if (at >= 0) this.held.splice(at, 1);
  }
}
