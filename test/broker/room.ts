import { type Channel, type ChannelModel, connect } from 'amqplib';
import { AmqpBroker, type BrokerOptions } from '../../src/broker/connection.ts';
import { Management } from '../../src/broker/management.ts';
import type { Permissions } from '../../src/broker/permissions.ts';
import type { QueueBounds } from '../../src/broker/topology.ts';
import type { Delivery, OutMessage } from '../../src/broker/types.ts';
import { systemClock } from '../../src/clock.ts';
import type { Log } from '../../src/ops/types.ts';
import { isolatedServers, type Teardown, type TestServers } from '../support/servers.ts';
import { type TcpProxy, tcpProxy } from '../support/tcp-proxy.ts';

export const bounds: QueueBounds = {
  poolQueueBytesMax: 10_000_000,
  nodeQueueLengthMax: 1_000,
  spoolBytesMax: 1_000_000,
  deadBytesMax: 100_000,
};

const ANYTHING: Permissions = { configure: '.*', write: '.*', read: '.*' };
const PASSWORD = "a test's password";

/** Keeps what was logged, so that a test can look. */
export class MemoryLog implements Log {
  readonly lines: { level: string; text: string }[] = [];
  debug(_fields: object, text: string): void {
    this.lines.push({ level: 'debug', text });
  }
  info(_fields: object, text: string): void {
    this.lines.push({ level: 'info', text });
  }
  warn(_fields: object, text: string): void {
    this.lines.push({ level: 'warn', text });
  }
  error(_fields: object, text: string): void {
    this.lines.push({ level: 'error', text });
  }
  child(): Log {
    return this;
  }
}

/** A fresh vhost with what the tests of this room need around it. */
export interface BrokerRoom {
  readonly servers: TestServers;
  readonly management: Management;
  /** A plain amqplib channel of an administrator, for what a stranger's client would do. */
  readonly admin: Channel;
  /** A user of this test alone, with every permission in the vhost: its connections may be closed by force. */
  readonly user: string;
  /** The URL of `user`, or of another one made by `createUser`; through `port` when given. */
  urlOf(user: string, port?: number): string;
  /** A proxy in front of the broker. */
  proxy(): Promise<TcpProxy>;
  /** A broker connected as `user` unless `options` say otherwise; stopped when the test ends. */
  open(options?: Partial<BrokerOptions>): Promise<AmqpBroker>;
  /** A plain amqplib connection, closed when the test ends. */
  connectAs(user: string): Promise<ChannelModel>;
  /** Makes `user` in the vhost; removed when the test ends. */
  createUser(user: string, permissions?: Permissions): Promise<void>;
}

export async function brokerRoom(t: Teardown): Promise<BrokerRoom> {
  const servers = await isolatedServers(t, { amqp: true });
  const { vhost } = servers;
  const management = new Management({ url: servers.amqpAdminUrl, vhost, requestMsMax: 10_000 });
  const urlOf = (user: string, port?: number) => {
    const url = new URL(servers.amqpUrl);
    url.username = user;
    url.password = encodeURIComponent(PASSWORD);
    if (port !== undefined) url.port = String(port);
    return url.href;
  };
  const plain = async (url: string) => {
    const model = await connect(url, { noDelay: true });
    model.on('error', () => {});
    t.after(() => model.close().catch(() => {}));
    return model;
  };
  const createUser = async (user: string, permissions = ANYTHING) => {
    await management.createUser(user, PASSWORD, permissions);
    t.after(() => management.deleteUser(user));
  };
  const user = `test-${vhost}`;
  await createUser(user);
  const admin = await (await plain(servers.amqpUrl)).createChannel();
  const open = async (options: Partial<BrokerOptions> = {}) => {
    const broker = new AmqpBroker({
      url: urlOf(user),
      name: 'test',
      heartbeatS: 10,
      connectTimeoutMs: 5_000,
      reconnectDelayMsMax: 200,
      unconfirmedMax: 1_000,
      confirmMsMax: 5_000,
      bounds,
      log: new MemoryLog(),
      clock: systemClock,
      ...options,
    });
    t.after(() => broker.stop());
    await broker.start();
    return broker;
  };
  const { hostname, port } = new URL(servers.amqpUrl);
  const proxy = () => tcpProxy(t, hostname, Number(port));
  const connectAs = (name: string) => plain(urlOf(name));
  return { servers, management, admin, user, urlOf, proxy, open, connectAs, createUser };
}

let counter = 0;

/** A message to `routingKey`, which is the name of a queue unless an exchange is given. */
export function message(routingKey: string, fields: Partial<OutMessage> = {}): OutMessage {
  counter += 1;
  return {
    exchange: '',
    routingKey,
    body: Buffer.from(`message ${counter}`),
    messageId: `id-${counter}`,
    mandatory: true,
    ...fields,
  };
}

/** Messages 0 … `count - 1` to one queue; the body is the number. */
export function numbered(queue: string, count: number): OutMessage[] {
  return Array.from({ length: count }, (_, i) => message(queue, { body: Buffer.from(String(i)) }));
}

/** The numbers in the bodies of `numbered`. */
export function numbersOf(deliveries: readonly Delivery[]): number[] {
  return deliveries.map(({ body }) => Number(body.toString()));
}
