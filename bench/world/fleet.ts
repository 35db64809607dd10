import { createPrivateKey, type KeyObject } from 'node:crypto';
import { AmqpBroker } from '../../src/broker/connection.ts';
import type { Delivery, OutMessage } from '../../src/broker/types.ts';
import { systemClock } from '../../src/clock.ts';
import type { Config } from '../../src/config-schema.ts';
import { EXCHANGE, nodeQueue, nodeUser, RESULT_KEY } from '../../src/contracts/names.ts';
import { FLUSH_RESULTS_MAX } from '../../src/contracts/result.ts';
import { FleetVoice } from '../../src/workers/agent/fleet-voice.ts';
import { signResults, type UnsignedResult } from '../../src/workers/agent/result.ts';
import { quietLog } from '../../test/support/ledger.ts';
import { serveParent } from '../process/child.ts';
import { machineMs } from '../measure/clock.ts';
import { SLOTS_PER_NODE } from './names.ts';
import type { BenchNode } from './world.ts';

/**
 * The workers of a bench, all in this one process: they say hello and heartbeat, consume their nodes' queues and answer with
 * valid, signed results, without running anything. The same for every subject, so what it costs is the same for all.
 *
 * It is simpler than a real worker in three ways: a heartbeat names no leases (a run is over long before one ends), what it
 * answers is the same text each time, and it runs an attempt as often as it comes (a second one is counted, and none may come).
 */

/** Unacknowledged dispatches per node; more than a batch, so that the queue never waits for us. */
const PREFETCH = 1_000;

/** 64 words of answer with the times of their tokens, as a small chat answer has them. */
const WORDS = Array.from({ length: 64 }, (_, i) => `${['north', 'tide', 'lamp', 'stone'][i % 4]}${i % 7}`);
const ANSWER = WORDS.join(' ');
const TOKENS = {
  ends: WORDS.map((_, i) => WORDS.slice(0, i + 1).join(' ').length),
  at_ms: WORDS.map((_, i) => 40 + i * 12),
};

/** What is counted until all have come. */
interface Expectation {
  readonly jobs: number;
  /** `at once`: each dispatch is answered as it comes. `later`: acknowledged and kept for `answerHeld`. */
  readonly answers: 'at once' | 'later';
  /** False: jobs are counted and not remembered, for runs of millions; then a duplicate counts as another job. Default true. */
  readonly keepsTimes?: boolean;
}

/** What came. `firstMs`, `lastMs`: when the first and the last one did, on the machine's clock. */
export interface Arrivals {
  readonly jobs: number;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly duplicates: number;
}

/** Answers that are sent at a time to dispatches that were held. */
const HELD_ANSWERS = 1_000;

class FleetNode {
  readonly id: string;
  readonly #broker: AmqpBroker;
  readonly #key: KeyObject;
  readonly #pools: readonly string[];
  readonly #take: (node: FleetNode, delivery: Delivery) => void;
  #voice: FleetVoice | null = null;
  #session = 1;
  #unanswered: { readonly key: string; readonly delivery: Delivery }[] = [];

  constructor(node: BenchNode, config: Config, take: (node: FleetNode, delivery: Delivery) => void) {
    this.id = node.id;
    this.#key = createPrivateKey(node.keyPem);
    this.#pools = node.pools;
    this.#take = take;
    this.#broker = new AmqpBroker({
      ...config.broker,
      ...config.servers,
      url: node.amqpUrl,
      name: `bench ${node.id}`,
      bounds: config.broker,
      userId: nodeUser(node.id),
      log: quietLog,
      clock: systemClock,
    });
  }

  async start(): Promise<void> {
    await this.#broker.start();
    const channel = await this.#broker.openChannel(() => {
      throw new Error(`${this.id} lost its channel`);
    });
    await channel.consume(nodeQueue(this.id), PREFETCH, (delivery) => this.#take(this, delivery));
  }

  async hello(heartbeatMs: number): Promise<void> {
    this.#session = Math.max(systemClock.nowMs(), this.#session + 1);
    const identity = {
      node: this.id,
      session: this.#session,
      slots_total: SLOTS_PER_NODE,
      pools: [...this.#pools],
      gpu: null,
    };
    this.#voice = new FleetVoice(identity, this.#key, this.#broker, () => ({ slots_in_use: 0, leases: [] }));
    this.#voice.start(heartbeatMs);
    await this.#say(this.#voice, 'hello');
  }

  async bye(): Promise<void> {
    const voice = this.#voice;
    this.#voice = null;
    voice?.stop();
    if (voice) await this.#say(voice, 'bye');
  }

  /** Answers at the end of this turn, together with what else the turn brought; the delivery is acknowledged after that. */
  answerSoon(key: string, delivery: Delivery): void {
    if (this.#unanswered.push({ key, delivery }) === 1) setImmediate(() => void this.#flush());
  }

  /** Signs and sends one result for each `job.attempt`; resolves when the broker has confirmed all. */
  async answer(attempts: readonly string[]): Promise<void> {
    const messages: OutMessage[] = [];
    for (let from = 0; from < attempts.length; from += FLUSH_RESULTS_MAX) {
      const flush = attempts.slice(from, from + FLUSH_RESULTS_MAX);
      const results = signResults(
        flush.map((key) => this.#result(key)),
        this.#key,
      );
      for (const result of results) {
        messages.push({
          exchange: EXCHANGE.results,
          routingKey: RESULT_KEY,
          body: Buffer.from(JSON.stringify(result)),
          messageId: `${result.job}.${result.attempt}`,
          mandatory: true,
        });
      }
    }
    const outcomes = await this.#broker.publisher.publishBatch(messages);
    const failure = outcomes.find((outcome) => outcome !== 'confirmed');
    if (failure !== undefined) throw new Error(`a result of ${this.id} was ${failure}`);
  }

  async #say(voice: FleetVoice, kind: 'hello' | 'bye'): Promise<void> {
    const outcome = await voice.say(kind);
    if (outcome !== 'confirmed') throw new Error(`${kind} of ${this.id} ${outcome}`);
  }

  async #flush(): Promise<void> {
    const answered = this.#unanswered;
    this.#unanswered = [];
    await this.answer(answered.map(({ key }) => key));
    for (const { delivery } of answered) delivery.acknowledge();
  }

  #result(key: string): UnsignedResult {
    const [job = '', attempt] = key.split('.');
    return {
      v: 1,
      job,
      attempt: Number(attempt),
      node: this.id,
      session: this.#session,
      model_version: 1,
      status: 'completed',
      output: { text: ANSWER, finish_reason: 'stop' },
      usage: { input_tokens: 180, output_tokens: WORDS.length },
      timing: { queued_ms: 1, first_token_ms: 40, total_ms: 800 },
      tokens: TOKENS,
      gpu: null,
      evaluation: null,
      error: null,
    };
  }
}

/** The workers of one world, and what has come to them since `expect`. */
class Fleet {
  readonly #nodes: readonly FleetNode[];
  readonly #heartbeatMs: number;
  #expected: Expectation = { jobs: 0, answers: 'later' };
  #done = Promise.withResolvers<void>();
  #atMs = new Map<string, number>();
  #lastMs = Number.NaN;
  #held: { readonly node: FleetNode; readonly key: string }[] = [];
  #duplicates = 0;
  #count = 0;

  constructor(nodes: readonly BenchNode[], config: Config) {
    this.#heartbeatMs = config.fleet.heartbeatMs;
    this.#nodes = nodes.map(
      (node) => new FleetNode(node, config, (one, delivery) => this.#take(one, delivery)),
    );
  }

  async start(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.start()));
  }

  async hello(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.hello(this.#heartbeatMs)));
  }

  async bye(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.bye()));
  }

  expect(expected: Expectation): void {
    this.#expected = expected;
    this.#held = [];
    this.#done = Promise.withResolvers();
    this.#atMs = new Map();
    this.#duplicates = 0;
    this.#count = 0;
  }

  /** How many jobs have come so far. */
  count(): number {
    return this.#count;
  }

  async arrived(): Promise<Arrivals> {
    await this.#done.promise;
    const [firstMs = Number.NaN] = this.#atMs.values();
    return { jobs: this.#count, firstMs, lastMs: this.#lastMs, duplicates: this.#duplicates };
  }

  /** When each job came, by its id. */
  times(): Map<string, number> {
    return this.#atMs;
  }

  /** Answers what was held; resolves when all results are confirmed. */
  async answerHeld(): Promise<void> {
    const held = this.#held;
    this.#held = [];
    for (let from = 0; from < held.length; from += HELD_ANSWERS) {
      const byNode = Map.groupBy(held.slice(from, from + HELD_ANSWERS), ({ node }) => node);
      await Promise.all([...byNode].map(([node, own]) => node.answer(own.map(({ key }) => key))));
    }
  }

  #take(node: FleetNode, delivery: Delivery): void {
    const key = delivery.messageId ?? '';
    const job = key.slice(0, key.indexOf('.'));
    const { keepsTimes = true } = this.#expected;
    if (this.#atMs.has(job)) this.#duplicates += 1;
    else {
      this.#lastMs = machineMs();
      this.#count += 1;
      if (keepsTimes) this.#atMs.set(job, this.#lastMs);
    }
    if (this.#expected.answers === 'at once') node.answerSoon(key, delivery);
    else {
      this.#held.push({ node, key });
      delivery.acknowledge();
    }
    if (this.#count === this.#expected.jobs) this.#done.resolve();
  }
}

const fleets = new Map<string, Fleet>();

function fleetOf(world: string): Fleet {
  const fleet = fleets.get(world);
  if (fleet === undefined) throw new Error(`no fleet in ${world}`);
  return fleet;
}

/** What the bench may ask of the fleet process; `world` is a world's name. */
const methods = {
  async start({
    world,
    nodes,
    config,
  }: {
    world: string;
    nodes: readonly BenchNode[];
    config: Config;
  }): Promise<void> {
    const fleet = new Fleet(nodes, config);
    fleets.set(world, fleet);
    await fleet.start();
  },
  /** A new session of each worker; resolves when the broker has all hellos. */
  hello: (world: string): Promise<void> => fleetOf(world).hello(),
  bye: (world: string): Promise<void> => fleetOf(world).bye(),
  expect: ({ world, ...expected }: { world: string } & Expectation): void => fleetOf(world).expect(expected),
  /** Resolves when as many different jobs as expected have come. */
  arrived: (world: string): Promise<Arrivals> => fleetOf(world).arrived(),
  count: (world: string): number => fleetOf(world).count(),
  times: (world: string): Map<string, number> => fleetOf(world).times(),
  answerHeld: (world: string): Promise<void> => fleetOf(world).answerHeld(),
};

/** The fleet process's methods, for `Child`. */
export type FleetMethods = typeof methods;

serveParent(methods);
