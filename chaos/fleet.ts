import { createPrivateKey } from 'node:crypto';
import { AmqpBroker } from '../src/broker/connection.ts';
import { systemClock } from '../src/clock.ts';
import type { Config } from '../src/config-schema.ts';
import { nodeUser } from '../src/contracts/names.ts';
import { ModelServer } from '../src/demo/model-server.ts';
import { createLog } from '../src/ops/log.ts';
import type { Log } from '../src/ops/types.ts';
import { WorkerAgent } from '../src/workers/agent/agent.ts';
import { inputOf } from './child.ts';
import { RogueWorker, type Vice } from './rogue.ts';

/** One node as it runs here; with a vice it is played by `RogueWorker`. */
export interface FleetNode {
  readonly id: string;
  /** Its own RabbitMQ login. */
  readonly amqpUrl: string;
  /** Ed25519, PKCS #8 PEM. */
  readonly privateKey: string;
  readonly slots: number;
  readonly models: readonly string[];
  readonly vice: Vice | null;
  /** What it ran, one line each: evidence that no coordinator writes. */
  readonly logFile: string;
}

/** What a fleet's process is given. It has no database and no coordinator's rights. */
export interface FleetInput {
  readonly nodes: readonly FleetNode[];
  readonly tokensPerSecond: number;
  readonly broker: Config['broker'];
  readonly servers: Pick<Config['servers'], 'connectTimeoutMs' | 'reconnectDelayMsMax'>;
  readonly heartbeatMs: number;
}

interface Running {
  stop(): Promise<void>;
}

async function startNode(node: FleetNode, modelUrl: string, input: FleetInput, log: Log): Promise<Running> {
  const { id, slots, models, logFile, vice } = node;
  const broker = new AmqpBroker({
    ...input.broker,
    ...input.servers,
    url: node.amqpUrl,
    name: `chaos worker ${id}`,
    userId: nodeUser(id),
    // The broker may be the one that is down just now.
    initialTriesMax: 1_000,
    bounds: input.broker,
    log,
    clock: systemClock,
  });
  await broker.start();
  const { heartbeatMs } = input;
  const worker =
    vice === null
      ? new WorkerAgent(
          {
            node: id,
            privateKey: node.privateKey,
            slots,
            models: models.map((name) => ({ name, url: modelUrl })),
            heartbeatMs,
            logFile,
            drainMs: 5_000,
          },
          systemClock,
          log,
          broker,
        )
      : new RogueWorker(
          { node: id, slots, models, heartbeatMs, logFile, vice },
          createPrivateKey(node.privateKey),
          broker,
          log,
        );
  // It serves when the broker lets it; others need not wait.
  void worker.start();
  return {
    stop: async () => {
      await worker.stop();
      await broker.stop();
    },
  };
}

/** Some nodes of the fleet in one process, honest and others, with a model server of their own. */
const input = await inputOf<FleetInput>();
const log = createLog({ level: 'warn' });
const served = [...new Set(input.nodes.flatMap(({ models }) => models))];
const model = new ModelServer({ models: served, tokensPerSecond: input.tokensPerSecond });
await model.start();
process.send?.({ kind: 'ready' });
const running = await Promise.all(input.nodes.map((node) => startNode(node, model.url, input, log)));
process.once('SIGTERM', () => {
  void Promise.all(running.map((worker) => worker.stop()))
    .then(() => model.stop())
    .finally(() => process.exit(0));
});
