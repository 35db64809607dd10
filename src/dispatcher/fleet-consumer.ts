import type { Broker, Publisher } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { ControlMessage } from '../contracts/dispatch.ts';
import { EXCHANGE } from '../contracts/names.ts';
import { StoreError } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';
import type { Directory } from '../network/types.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { TraceSink } from '../traces/types.ts';
import { FleetIntake, type FleetRefusal } from '../workers/fleet-intake.ts';
import type { FleetRegistry } from '../workers/types.ts';
import { QueueConsumer } from './queue-consumer.ts';
import { NO_DOCUMENTS, writeDocuments } from './trace.ts';

/** Heartbeats in our hands at a time; one of 5,000 workers comes every millisecond. */
const PREFETCH = 256;

interface FleetConsumerDeps {
  /** The queue in which this coordinator hears the fleet. */
  readonly queue: string;
  readonly broker: Broker;
  readonly publisher: Publisher;
  readonly registry: FleetRegistry;
  readonly directory: Directory;
  readonly traces: TraceSink;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Brings the workers' words from this coordinator's own queue to Redis, and tells a worker whose session was replaced to stop. */
export class FleetConsumer implements Service {
  readonly #deps: FleetConsumerDeps;
  readonly #consumer: QueueConsumer;

  constructor(deps: FleetConsumerDeps) {
    this.#deps = deps;
    const { directory, registry, metrics } = deps;
    const intake = new FleetIntake((id) => directory.node(id), registry, metrics, {
      onRefused: (refused) => this.#record(refused),
      onOldSession: (node, session) => this.#tellOld(node, session),
    });
    this.#consumer = new QueueConsumer(deps.broker, deps.log, {
      queue: deps.queue,
      prefetch: PREFETCH,
      onDelivery: (delivery) => void intake.take(delivery),
    });
  }

  /** True while heartbeats are heard: silence means something only then. */
  get isListening(): boolean {
    return this.#consumer.isConsuming;
  }

  start(): Promise<void> {
    return this.#consumer.start();
  }

  stop(): Promise<void> {
    return this.#consumer.stop();
  }

  #record({ code, field, message, node, userId }: FleetRefusal): void {
    const atMs = this.#deps.clock.nowMs();
    // One event per node, code and minute: a worker that is wrong is wrong with every heartbeat.
    const key = `${code}:${node ?? ''}:${userId ?? ''}:${Math.floor(atMs / 60_000)}`;
    const event = {
      key,
      kind: 'refusal' as const,
      code,
      field,
      message,
      job: null,
      namespace: null,
      sender: userId,
      atMs,
    };
    const { traces, log } = this.#deps;
    writeDocuments({ ...NO_DOCUMENTS, events: [event] }, traces, log).catch((error: unknown) => {
      if (!(error instanceof StoreError)) throw error;
      log.warn({ code, reason: error.message }, 'a fleet event was not written');
    });
  }

  #tellOld(node: string, session: number): void {
    const message: ControlMessage = { v: 1, kind: 'superseded', session };
    void this.#deps.publisher.publish({
      exchange: EXCHANGE.control,
      routingKey: node,
      body: Buffer.from(JSON.stringify(message)),
      messageId: newUuidV7(),
      mandatory: false,
    });
  }
}
