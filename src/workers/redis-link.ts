import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { Config } from '../config-schema.ts';
import type { Log } from '../ops/types.ts';
import { redisPlace } from '../redis-place.ts';

/** What a link must know. */
export interface RedisLinkOptions {
  readonly servers: Pick<Config['servers'], 'redisUrl' | 'connectTimeoutMs' | 'reconnectDelayMsMax'>;
  readonly commandMsMax: number;
  /** The channel that is listened to. */
  readonly channel: string;
  readonly log: Log;
}

/** What a link tells. */
export interface RedisLinkListeners {
  /** Whether scripts can be run now, at a cluster on one of its nodes at least; the same may be told twice. */
  readonly onChange: (isUp: boolean) => void;
  /** A message of the channel. */
  readonly onMessage: (message: string) => void;
}

/**
 * The way to Redis, one server or a cluster. It comes back by itself with a growing, jittered delay; a call while it is away fails
 * at once, none is kept for later, and none is sent twice.
 */
export interface RedisLink {
  /** Rejects when Redis does not answer in time; it is tried again all the same until `disconnect`. */
  connect(): Promise<void>;
  /** For good; calls under way fail. */
  disconnect(): void;
  /** Runs a script by its hash, on the node that has its key. Rejects with what Redis or the driver says. */
  evalsha(sha: string, keyAndArgs: readonly (string | number)[]): Promise<unknown>;
  /** Runs a script that is sent whole. */
  eval(lua: string, keyAndArgs: readonly (string | number)[]): Promise<unknown>;
}

/** The link that `servers.redisUrl` asks for; not yet connected. */
export function redisLink(options: RedisLinkOptions, listeners: RedisLinkListeners): RedisLink {
  const place = redisPlace(options.servers.redisUrl);
  return place.kind === 'server'
    ? new ServerLink(place.url, options, listeners)
    : new ClusterLink(place, options, listeners);
}

/** Longest silence of a connection that was asked something, in calls: then it is cut, because the other end may be gone. */
const SILENT_CALLS_MAX = 3;

/** What every connection is opened with. */
function connectionOptions({ servers, commandMsMax }: RedisLinkOptions) {
  return {
    connectTimeout: servers.connectTimeoutMs,
    commandTimeout: commandMsMax,
    socketTimeout: commandMsMax * SILENT_CALLS_MAX,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
  } satisfies RedisOptions;
}

/** One server: a connection for scripts, and one that listens. */
class ServerLink implements RedisLink {
  readonly #options: RedisLinkOptions;
  readonly #commands: Redis;
  readonly #wakeUps: Redis;

  constructor(url: string, options: RedisLinkOptions, listeners: RedisLinkListeners) {
    this.#options = options;
    const { reconnectDelayMsMax } = options.servers;
    const common = {
      ...connectionOptions(options),
      lazyConnect: true,
      enableOfflineQueue: false,
      retryStrategy: (tries: number) => backoffMs(tries, reconnectDelayMsMax),
      // A replica that was the primary before a failover: connect anew to find the one that is.
      reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
    };
    this.#commands = new Redis(url, { ...common, connectionName: 'tollgate' });
    this.#wakeUps = new Redis(url, { ...common, connectionName: 'tollgate-wake' });
    this.#commands.on('ready', () => listeners.onChange(true));
    this.#commands.on('close', () => listeners.onChange(false));
    this.#wakeUps.on('ready', () => void this.#subscribe());
    this.#wakeUps.on('message', (_channel, message) => listeners.onMessage(message));
    // Without a listener ioredis writes errors to the console; the state is told by `isUp`.
    for (const connection of [this.#commands, this.#wakeUps]) {
      connection.on('error', (error) => options.log.debug({ error: error.message }, 'redis connection'));
    }
  }

  async connect(): Promise<void> {
    await Promise.all([this.#commands.connect(), this.#wakeUps.connect()]);
  }

  disconnect(): void {
    this.#commands.disconnect();
    this.#wakeUps.disconnect();
  }

  evalsha(sha: string, keyAndArgs: readonly (string | number)[]): Promise<unknown> {
    return this.#commands.evalsha(sha, 1, ...keyAndArgs);
  }

  eval(lua: string, keyAndArgs: readonly (string | number)[]): Promise<unknown> {
    return this.#commands.eval(lua, 1, ...keyAndArgs);
  }

  async #subscribe(): Promise<void> {
    try {
      await this.#wakeUps.subscribe(this.#options.channel);
    } catch (error) {
      this.#options.log.warn({ error: String(error) }, NO_WAKE_UPS);
      this.#wakeUps.disconnect(true);
    }
  }
}

const NO_WAKE_UPS = 'no wake-ups until the next reconnect: paused pools poll';

/**
 * A Redis Cluster: a connection to each node, and one to any of them that listens, because a published message reaches all nodes.
 * Calls for the keys of a node that is away fail, the others go on. It follows a slot that moves to another node.
 */
class ClusterLink implements RedisLink {
  readonly #options: RedisLinkOptions;
  readonly #cluster: Cluster;

  constructor(
    { nodes, login }: Extract<ReturnType<typeof redisPlace>, { kind: 'cluster' }>,
    options: RedisLinkOptions,
    listeners: RedisLinkListeners,
  ) {
    this.#options = options;
    const { reconnectDelayMsMax } = options.servers;
    this.#cluster = new Cluster([...nodes], {
      lazyConnect: true,
      enableOfflineQueue: false,
      clusterRetryStrategy: (tries: number) => backoffMs(tries, reconnectDelayMsMax),
      slotsRefreshTimeout: options.servers.connectTimeoutMs,
      // None is sent twice: a node that is away or a cluster that is down fails the call.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      redisOptions: { ...connectionOptions(options), ...login, connectionName: 'tollgate' },
    });
    this.#cluster.on('ready', () => {
      void this.#openNodes().then(() => listeners.onChange(this.#cluster.status === 'ready'));
      void this.#subscribe();
    });
    this.#cluster.on('close', () => listeners.onChange(false));
    // A node that is found later is connected to before it is asked: a call must not wait for that in a queue.
    this.#cluster.on('+node', (node: Redis) => {
      if (this.#cluster.status === 'ready') void opened(node);
    });
    this.#cluster.on('message', (_channel: string, message: string) => listeners.onMessage(message));
    this.#cluster.on('error', (error: Error) => options.log.debug({ error: error.message }, 'redis cluster'));
    this.#cluster.on('node error', (error: Error, node: string) =>
      options.log.debug({ node, error: error.message }, 'redis cluster node'),
    );
  }

  async connect(): Promise<void> {
    await this.#cluster.connect();
    await this.#openNodes();
  }

  disconnect(): void {
    this.#cluster.disconnect();
  }

  evalsha(sha: string, keyAndArgs: readonly (string | number)[]): Promise<unknown> {
    return this.#cluster.evalsha(sha, 1, ...keyAndArgs);
  }

  eval(lua: string, keyAndArgs: readonly (string | number)[]): Promise<unknown> {
    return this.#cluster.eval(lua, 1, ...keyAndArgs);
  }

  /** Waits until each node is connected to, or cannot be. */
  async #openNodes(): Promise<void> {
    await Promise.all(this.#cluster.nodes('master').map(opened));
  }

  /** Once per connect: the driver itself takes the channel along when it listens at another node. */
  async #subscribe(): Promise<void> {
    try {
      await this.#cluster.subscribe(this.#options.channel);
    } catch (error) {
      if (this.#cluster.status !== 'ready') return;
      this.#options.log.warn({ error: String(error) }, NO_WAKE_UPS);
      this.#cluster.disconnect(true);
    }
  }
}

/** Connects to a node unless that is done or under way; never rejects. */
async function opened(node: Redis): Promise<void> {
  if (node.status === 'wait') await node.connect().catch(() => undefined);
  else if (node.status !== 'ready' && node.status !== 'end') {
    await new Promise<void>((resolve) => {
      for (const event of ['ready', 'end']) node.once(event, () => resolve());
    });
  }
}

/** Delay before reconnect number `tries`: doubles from 50 ms up to the cap, half of it random. */
function backoffMs(tries: number, delayMsMax: number): number {
  const ceiling = Math.min(delayMsMax, 50 * 2 ** Math.min(tries - 1, 10));
  return ceiling / 2 + Math.random() * (ceiling / 2);
}
