import { randomBytes } from 'node:crypto';
import type { AmqpBroker } from '../../../src/broker/connection.ts';
import { nodePermissions } from '../../../src/broker/permissions.ts';
import type { Delivery, OutMessage, PublishOutcome } from '../../../src/broker/types.ts';
import { systemClock } from '../../../src/clock.ts';
import type { ControlMessage, DispatchMessage } from '../../../src/contracts/dispatch.ts';
import { FleetMessage } from '../../../src/contracts/fleet.ts';
import { EXCHANGE, fleetQueue, nodeQueue, nodeUser, QUEUE } from '../../../src/contracts/names.ts';
import { type Parser, parserOf } from '../../../src/contracts/parse.ts';
import { ResultMessage } from '../../../src/contracts/result.ts';
import { newUuidV7 } from '../../../src/ids.ts';
import type { Log } from '../../../src/ops/types.ts';
import { WorkerAgent } from '../../../src/workers/agent/agent.ts';
import { generateNodeKey } from '../../../src/workers/agent/keys.ts';
import type { ServedModel } from '../../../src/workers/agent/model-client.ts';
import type { WorkerAgentOptions } from '../../../src/workers/agent/options.ts';
import { type BrokerRoom, brokerRoom } from '../../broker/room.ts';
import type { Teardown } from '../../support/servers.ts';
import type { TcpProxy } from '../../support/tcp-proxy.ts';
import { until } from '../../support/until.ts';

/** Keeps every line with its fields, so that a test can search them for content. */
export class FieldLog implements Log {
  readonly lines: string[] = [];
  readonly #keep = (fields: object, message: string) => {
    const plain = Object.entries(fields).map(([name, value]) => [
      name,
      value instanceof Error ? value.message : value,
    ]);
    this.lines.push(`${message} ${JSON.stringify(Object.fromEntries(plain))}`);
  };
  readonly debug = this.#keep;
  readonly info = this.#keep;
  readonly warn = this.#keep;
  readonly error = this.#keep;
  child(): Log {
    return this;
  }
}

/** A message on its way back, with what the broker says of its sender. */
export interface Received<T> {
  readonly value: T;
  readonly body: Buffer;
  readonly userId: string | null;
  readonly messageId: string | null;
}

/** A worker on a real broker, and the coordinator's side of it in the hands of the test. */
export interface Rig {
  readonly room: BrokerRoom;
  readonly node: string;
  readonly privateKey: ReturnType<typeof generateNodeKey>;
  readonly log: FieldLog;
  readonly coordinator: AmqpBroker;
  readonly results: Received<ResultMessage>[];
  readonly fleet: Received<FleetMessage>[];
  /** `<job>.<attempt>` of every dispatch a worker of the rig has taken from the broker. */
  readonly seen: string[];
  readonly outcomes: PublishOutcome[];
  /** A worker on a connection of its own, started unless told otherwise; stopped with the test. */
  worker(options?: WorkerOptions): Promise<WorkerAgent>;
  dispatch(fields?: Partial<DispatchMessage>, message?: Partial<OutMessage>): Promise<DispatchMessage>;
  control(kind: ControlMessage['kind'], session: number): Promise<void>;
  /** Resolves when `count` results have come, with the newest. */
  result(count: number): Promise<ResultMessage>;
  /** Stops the workers; true if every dispatch was acknowledged. */
  queueEmpty(): Promise<boolean>;
}

export type WorkerOptions = Partial<WorkerAgentOptions> & {
  readonly proxy?: TcpProxy;
  readonly isStarted?: boolean;
};

/** The session of workers that do not ask for another. */
export const SESSION = 1_000;

function collect<T>(into: Received<T>[], parse: Parser<T>): (delivery: Delivery) => void {
  return (delivery) => {
    const parsed = parse(delivery.body);
    if (!parsed.ok) throw new Error(`${parsed.fault.field}: ${parsed.fault.message}`);
    const { body, userId, messageId } = delivery;
    into.push({ value: parsed.value, body, userId, messageId });
    delivery.acknowledge();
  };
}

export async function rig(
  t: Teardown,
  models: readonly ServedModel[],
  { declare = true }: { declare?: boolean } = {},
): Promise<Rig> {
  const room = await brokerRoom(t);
  const node = `node-${randomBytes(4).toString('hex')}`;
  await room.createUser(nodeUser(node), nodePermissions(node));
  const coordinator = await room.open({ url: room.servers.amqpUrl });
  await coordinator.topology.declareCore();
  await coordinator.topology.declareFleet('rig');
  if (declare) await coordinator.topology.declareNode(node);
  const [privateKey, log] = [generateNodeKey(), new FieldLog()];
  const [results, fleet]: [Rig['results'], Rig['fleet']] = [[], []];
  const [seen, outcomes]: [string[], PublishOutcome[]] = [[], []];
  const channel = await coordinator.openChannel(() => {});
  await channel.consume(QUEUE.results, 100, collect(results, parserOf(ResultMessage)));
  await channel.consume(fleetQueue('rig'), 100, collect(fleet, parserOf(FleetMessage)));

  const workers: WorkerAgent[] = [];
  const worker = async ({ proxy, isStarted = true, ...options }: WorkerOptions = {}) => {
    const user = nodeUser(node);
    const broker = await room.open({ url: room.urlOf(user, proxy?.port), userId: user, log });
    const usual = { node, session: SESSION, privateKey, slots: 4, models, heartbeatMs: 60_000 };
    const agent = new WorkerAgent({ ...usual, ...options }, systemClock, log, broker, {
      dispatchReceived: (key) => seen.push(key),
      resultPublished: (_key, outcome) => outcomes.push(outcome),
    });
    workers.push(agent);
    t.after(() => agent.stop());
    if (isStarted) await agent.start();
    return agent;
  };
  const send = async (message: Omit<OutMessage, 'mandatory'>) => {
    const outcome = await coordinator.publisher.publish({ ...message, mandatory: true });
    if (outcome !== 'confirmed') throw new Error(`${message.exchange}: ${outcome}`);
  };
  return {
    room,
    node,
    privateKey,
    log,
    coordinator,
    results,
    fleet,
    seen,
    outcomes,
    worker,
    dispatch: async (fields = {}, message = {}) => {
      const dispatch = dispatchOf(node, fields);
      await send({
        exchange: EXCHANGE.dispatch,
        routingKey: node,
        body: Buffer.from(JSON.stringify(dispatch)),
        messageId: `${dispatch.job}.${dispatch.attempt}`,
        ...message,
      });
      return dispatch;
    },
    control: (kind, session) => {
      const body = Buffer.from(JSON.stringify({ v: 1, kind, session }));
      return send({ exchange: EXCHANGE.control, routingKey: node, body, messageId: 'control' });
    },
    result: async (count) => {
      await until(() => results.length >= count, `${count} results`);
      const last = results[count - 1];
      if (last === undefined) throw new Error('no result');
      return last.value;
    },
    queueEmpty: async () => {
      // A channel's end puts back what it did not acknowledge; then the queue's own count is exact.
      await Promise.all(workers.map((agent) => agent.stop()));
      return (await room.admin.checkQueue(nodeQueue(node))).messageCount === 0;
    },
  };
}

function dispatchOf(node: string, fields: Partial<DispatchMessage>): DispatchMessage {
  return {
    v: 1,
    job: newUuidV7(),
    attempt: 1,
    node,
    session: SESSION,
    model: 'tiny',
    model_version: 3,
    kind: 'chat',
    input: { messages: [{ role: 'user', content: 'What is Light' }], seed: 1 },
    limits: { input_tokens_max: 100, output_tokens_max: 8 },
    start_ms: 10_000,
    remaining_ms: 10_000,
    first_token_ms: 60_000,
    ...fields,
  };
}
