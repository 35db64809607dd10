import type { Broker, Publisher } from '../broker/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import type { ControlMessage } from '../contracts/dispatch.ts';
import { EXCHANGE } from '../contracts/names.ts';
import { StoreError } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';
import { recordFault } from '../network/fitting.ts';
import { admissionOf } from '../network/standing.ts';
import type { Directory } from '../network/types.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { TraceSink } from '../traces/types.ts';
import { FleetIntake, type FleetRefusal, type RegisteredNode } from '../workers/fleet-intake.ts';
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
  readonly health: Pick<Config['health'], 'trickleMs'>;
  readonly traces: TraceSink;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Brings the workers' words from this coordinator's own queue to Redis, and tells a worker whose session was replaced to stop. */
export class FleetConsumer implements Service {
  readonly #deps: FleetConsumerDeps;
  readonly #consumer: QueueConsumer;
  /** Open pools whose workers were told of them; pools come and do not go. */
  #poolsGreeted = 0;
  #endSubscription: () => void = () => undefined;

  constructor(deps: FleetConsumerDeps) {
    this.#deps = deps;
    const { registry, metrics } = deps;
    const intake = new FleetIntake((id) => registeredNode(deps, id), registry, metrics, {
      onRefused: (refused) => this.#record(refused),
      onOldSession: (node, session) => this.#tell(node, { v: 1, kind: 'superseded', session }),
    });
    this.#consumer = new QueueConsumer(deps.broker, deps.clock, deps.log, {
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
    const { directory } = this.#deps;
    this.#poolsGreeted = directory.pools().length;
    this.#endSubscription = directory.onChange(() => void this.#greetNewPools());
    return this.#consumer.start();
  }

  stop(): Promise<void> {
    this.#endSubscription();
    return this.#consumer.stop();
  }

  /** A pool that was opened gets its workers at once and not only with their next heartbeat: each is asked to speak now. */
  async #greetNewPools(): Promise<void> {
    const { directory, registry, log } = this.#deps;
    const fresh = directory.pools().slice(this.#poolsGreeted);
    if (fresh.length === 0) return;
    this.#poolsGreeted += fresh.length;
    try {
      for (const { node: id, session } of await registry.list()) {
        const node = directory.node(id);
        if (node && fresh.some((pool) => recordFault(node, pool) === null))
          this.#tell(id, { v: 1, kind: 'hello_again', session });
      }
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      log.debug({ reason: error.message }, 'new pools wait for the next heartbeats');
    }
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

  #tell(node: string, message: ControlMessage): void {
    void this.#deps.publisher.publish({
      exchange: EXCHANGE.control,
      routingKey: node,
      body: Buffer.from(JSON.stringify(message)),
      messageId: newUuidV7(),
      mandatory: false,
    });
  }
}

/** A node as its record has it now. What the record says is looked up with each message, so a change reaches Redis with the next. */
function registeredNode(
  { directory, clock, health }: Pick<FleetConsumerDeps, 'directory' | 'clock' | 'health'>,
  id: string,
): RegisteredNode | undefined {
  const node = directory.node(id);
  if (node === undefined) return undefined;
  const poolsOf = (model: string): string[] => [
    model,
    ...directory
      .pools(model)
      .filter((pool) => recordFault(node, pool) === null)
      .map(({ name }) => name),
  ];
  const { publicKey, models, lifecycle } = node;
  const admission = admissionOf(node, clock.monotonicMs(), health.trickleMs);
  return { publicKey, models, lifecycle, admission, poolsOf };
}
