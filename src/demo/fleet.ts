import { AmqpBroker } from '../broker/connection.ts';
import { systemClock } from '../clock.ts';
import { nodeUser } from '../contracts/names.ts';
import { createLog } from '../ops/log.ts';
import type { Log } from '../ops/types.ts';
import { WorkerAgent } from '../workers/agent/agent.ts';
import { serveDemo } from './child.ts';
import type { FleetInput, FleetNode } from './programs.ts';

/** The workers of the demo, one agent per node, each with its own key and RabbitMQ user, in one process. */
await serveDemo<'fleet.ts'>(async (input) => {
  const log = createLog({ level: 'warn' });
  const workers = await Promise.all(input.nodes.map((node) => startWorker(node, input, log)));
  const stop = async () => void (await Promise.all(workers.map((worker) => worker.stop())));
  return { answer: { workers: workers.length }, stop };
});

async function startWorker(
  node: FleetNode,
  input: FleetInput,
  log: Log,
): Promise<{ stop: () => Promise<void> }> {
  const { id, amqpUrl, privateKey, slots, models, logFile } = node;
  const broker = new AmqpBroker({
    ...input.broker,
    url: amqpUrl,
    name: `demo worker ${id}`,
    connectTimeoutMs: input.connectTimeoutMs,
    reconnectDelayMsMax: input.reconnectDelayMsMax,
    userId: nodeUser(id),
    bounds: input.broker,
    log,
    clock: systemClock,
  });
  await broker.start();
  const { heartbeatMs } = input;
  const agent = new WorkerAgent(
    { node: id, privateKey, slots, models, heartbeatMs, logFile, gpu: null },
    systemClock,
    log,
    broker,
  );
  await agent.start();
  return {
    stop: async () => {
      await agent.stop();
      await broker.stop();
    },
  };
}
