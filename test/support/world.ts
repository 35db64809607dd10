import { type Channel, connect } from 'amqplib';
import { Redis } from 'ioredis';
import { AmqpBroker } from '../../src/broker/connection.ts';
import { Management } from '../../src/broker/management.ts';
import { nodePermissions, publisherPermissions } from '../../src/broker/permissions.ts';
import type { OutMessage, PublishOutcome } from '../../src/broker/types.ts';
import { systemClock } from '../../src/clock.ts';
import { loadConfig } from '../../src/config.ts';
import type { Config } from '../../src/config-schema.ts';
import type { Decorate } from '../../src/daemon/base.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { nodeUser, publisherUser } from '../../src/contracts/names.ts';
import type { ReplyMessage } from '../../src/contracts/reply.ts';
import { ModelServer } from '../../src/demo/model-server.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { Accounts } from '../../src/ledger/accounts.ts';
import { type Daemon, runDaemon } from '../../src/main.ts';
import { Models } from '../../src/network/models.ts';
import { Nodes } from '../../src/network/nodes.ts';
import { Database } from '../../src/postgres/database.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { ensureCollections } from '../../src/traces/collections.ts';
import { WorkerAgent, type WorkerSignals } from '../../src/workers/agent/agent.ts';
import { generateNodeKey, rawPublicKey } from '../../src/workers/agent/keys.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisFleetRegistry } from '../../src/workers/registry.ts';
import { RedisSlotLeases } from '../../src/workers/slot-leases.ts';
import type { LiveLease } from '../../src/workers/types.ts';
import { Books, metric } from './books.ts';
import { ChildDaemon } from './child-daemon.ts';
import { TestClient } from './client.ts';
import { HandWorker, type HandWorkerOptions } from './hand-worker.ts';
import { databaseOptions, quietLog, roleUrls } from './ledger.ts';
import { isolatedServers, type Teardown, type TestServers } from './servers.ts';
import { until } from './until.ts';

/** How the daemon reaches its servers. */
export type DaemonUrls = Readonly<
  Record<
    'postgresUrl' | 'postgresSettlerUrl' | 'postgresMaintainerUrl' | 'redisUrl' | 'amqpUrl' | 'mongoUrl',
    string
  >
>;

/** What a world may be told to do otherwise. */
export interface WorldOptions {
  /** Configuration besides the servers, by path: `{ 'fleet.lostAfterMs': 900 }`. */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** Replaces server URLs of the daemon, e.g. by those of a proxy. */
  readonly through?: (servers: TestServers, urls: DaemonUrls) => Promise<Partial<DaemonUrls>>;
  /** Servers of the test's own instead of fresh places on the shared ones. */
  readonly servers?: TestServers;
  /** Workers of node `n1`, `n2`, …; default one with 4 slots. */
  readonly workers?: number;
  readonly slots?: number;
  readonly model?: { readonly tokensPerSecond?: number; readonly firstTokenMs?: number };
  readonly isDaemonStarted?: boolean;
}

/** Prices and limits of every model of the tests: 1 micro-credit for a token in, 2 for one out. */
const MODEL = {
  inputPriceMicro: 1_000_000n,
  outputPriceMicro: 2_000_000n,
  inputTokensMax: 4_000,
  outputTokensMax: 1_000,
  timeoutMsMax: 60_000,
};

/**
 * A Tollgate on real servers in one test process: account `acme` (1,000 credits), publisher `web`, model `small`, workers,
 * clients, and the means to look.
 */
export class World {
  readonly servers: TestServers;
  /** The daemon's settings, as a command line gives them. */
  readonly flags: Readonly<Record<string, string>>;
  readonly config: Config;
  readonly admin: Database;
  readonly accounts: Accounts;
  readonly models: Models;
  readonly management: Management;
  readonly books: Books;
  /** The live fleet as Redis has it, read on a connection of the test's own. */
  readonly fleet: RedisFleetRegistry;
  readonly workers: WorkerAgent[] = [];
  /** The daemon in this process, or the one that a test runs as a process of its own. */
  daemon: Pick<Daemon, 'httpUrl' | 'stop'> | ChildDaemon | null = null;
  readonly #redis: FleetRedis;
  #client: TestClient | null = null;
  #model: ModelServer | null = null;
  readonly #keys = new Map<string, ReturnType<typeof generateNodeKey>>();
  readonly #closing: (() => Promise<unknown>)[] = [];

  constructor(servers: TestServers, flags: Readonly<Record<string, string>>) {
    this.servers = servers;
    this.flags = flags;
    this.config = loadConfig({ flags, env: {} });
    this.admin = new Database(databaseOptions(servers.postgresAdminUrl, null), quietLog);
    this.accounts = new Accounts(this.admin);
    this.models = new Models(this.admin);
    this.management = new Management({
      url: servers.amqpAdminUrl,
      vhost: servers.vhost,
      requestMsMax: 5_000,
    });
    this.books = new Books(servers);
    this.#redis = new FleetRedis(
      { ...this.config.servers, redisUrl: servers.redisUrl },
      this.config.fleet,
      quietLog,
    );
    this.fleet = new RedisFleetRegistry(this.#redis, this.config.fleet, () => false);
    this.#closing.push(
      () => this.admin.close(),
      () => this.books.close(),
      () => this.#redis.stop(),
    );
  }

  /** Makes records, users, model server and client; then what `options` asks for. */
  async build(options: WorldOptions): Promise<void> {
    await migrate({ url: this.servers.postgresAdminUrl }, quietLog);
    await ensureCollections({ ...this.config.servers, mongoUrl: this.servers.mongoUrl });
    await this.#redis.start();
    await this.addPublisher('web');
    await this.addAccount('acme', ['web'], 1_000_000_000n);
    await this.models.add({ name: 'small', ...MODEL });
    this.#model = new ModelServer({ models: ['small'], ...options.model });
    await this.#model.start();
    this.#closing.push(async () => await this.#model?.stop());
    const count = options.workers ?? 1;
    for (let n = 1; n <= count; n++) await this.addNode(`n${n}`);
    if (options.isDaemonStarted !== false) await this.startDaemon();
    this.#client = await this.connectClient('web');
    for (let n = 1; n <= count; n++) await this.startWorker(`n${n}`, options.slots ?? 4);
  }

  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.stop()));
    await this.daemon?.stop();
    for (const close of this.#closing.toReversed()) await close();
  }

  /** Ends `work` when the world does, before the servers go. */
  onClose(work: () => Promise<unknown>): void {
    this.#closing.push(work);
  }

  /** `change` are settings besides the world's, by path. `decorate` wraps the seams of the daemon, to look at their calls. */
  async startDaemon(change: Readonly<Record<string, string>> = {}, decorate?: Decorate): Promise<void> {
    const config = loadConfig({ flags: { ...this.flags, ...change }, env: {} });
    this.daemon = await runDaemon(config, decorate === undefined ? {} : { decorate });
  }

  /** Starts the daemon as a process of its own; it is killed when `t` ends. */
  async startChildDaemon(t: Teardown): Promise<ChildDaemon> {
    const daemon = await ChildDaemon.start(t, this.flags);
    this.daemon = daemon;
    return daemon;
  }

  /** The process that `startChildDaemon` started last. */
  get childDaemon(): ChildDaemon {
    if (!(this.daemon instanceof ChildDaemon)) throw new Error('the daemon runs in this process');
    return this.daemon;
  }

  async stopDaemon(): Promise<void> {
    await this.daemon?.stop();
    this.daemon = null;
  }

  /** Publisher `web`. */
  get client(): TestClient {
    if (this.#client === null) throw new Error('the world is not built');
    return this.#client;
  }

  async addPublisher(name: string): Promise<void> {
    await this.accounts.addPublisher(name);
    await this.addBrokerUser(publisherUser(name));
  }

  /** A broker user with the rights of a node (`n-…`) or of a publisher; nothing else knows of it. */
  async addBrokerUser(user: string): Promise<void> {
    const permissions = user.startsWith(nodeUser(''))
      ? nodePermissions(user.slice(nodeUser('').length))
      : publisherPermissions(user);
    await this.management.createUser(user, passwordOf(user), permissions);
  }

  /** An account with namespace `<account>/prod`, for whom `publishers` may spend. */
  async addAccount(account: string, publishers: readonly string[], creditMicro: bigint): Promise<void> {
    await this.accounts.create(account);
    await this.accounts.addNamespace(`${account}/prod`);
    for (const publisher of publishers) await this.accounts.entitle(publisher, account);
    if (creditMicro > 0n) await this.accounts.topUp(newUuidV7(), account, creditMicro);
  }

  /** A model like `small`, `change` apart. */
  async addModel(name: string, change: Partial<Parameters<Models['add']>[0]> = {}): Promise<void> {
    await this.models.add({ ...MODEL, name, ...change });
  }

  async addNode(
    id: string,
    models: readonly string[] = ['small'],
    lifecycle: 'active' | 'probation' = 'active',
    place: { readonly region?: string; readonly vramGb?: number } = {},
  ): Promise<void> {
    const key = generateNodeKey();
    this.#keys.set(id, key);
    const publicKey = rawPublicKey(key);
    await new Nodes(this.admin).register({ id, owner: 'owner', publicKey, models, lifecycle, ...place });
    await this.addBrokerUser(nodeUser(id));
  }

  /**
   * A broker connection as `user`, past any proxy; sends `userId` as `user_id`, by default its own. RabbitMQ's users belong to
   * the whole broker and are shared by test files; their permissions are the vhost's.
   */
  async connectAs(user: string, userId: string | null = user): Promise<AmqpBroker> {
    const url = new URL(this.servers.amqpUrl);
    url.username = user;
    url.password = passwordOf(user);
    const broker = new AmqpBroker({
      ...this.config.broker,
      ...this.config.servers,
      url: url.href,
      name: `test ${user}`,
      bounds: this.config.broker,
      ...(userId === null ? {} : { userId }),
      log: quietLog,
      clock: systemClock,
    });
    await broker.start();
    this.#closing.push(() => broker.stop());
    return broker;
  }

  /** A client of publisher `name` that reads `reply.p-<name>`. */
  async connectClient(name: string): Promise<TestClient> {
    const user = publisherUser(name);
    const client = new TestClient(user, await this.connectAs(user));
    await client.listen();
    return client;
  }

  /** A broker user with a publisher's rights that Tollgate has no record of. */
  async connectStranger(user: string): Promise<TestClient> {
    await this.addBrokerUser(user);
    const client = new TestClient(user, await this.connectAs(user));
    await client.listen();
    return client;
  }

  #keyOf(node: string) {
    const key = this.#keys.get(node);
    if (key === undefined) throw new Error(`there is no node ${node}`);
    return key;
  }

  async startWorker(
    id: string,
    slots: number,
    change: { logFile?: string; signals?: WorkerSignals } = {},
  ): Promise<WorkerAgent> {
    const privateKey = this.#keyOf(id);
    const broker = await this.connectAs(nodeUser(id));
    const { logFile, signals = {} } = change;
    const options = {
      node: id,
      privateKey,
      slots,
      models: [{ name: 'small', url: this.#model?.url ?? '' }],
      heartbeatMs: this.config.fleet.heartbeatMs,
      ...(logFile === undefined ? {} : { logFile }),
    };
    const worker = new WorkerAgent(options, systemClock, quietLog, broker, signals);
    this.workers.push(worker);
    await worker.start();
    return worker;
  }

  /** A worker of node `id` that a test plays by hand. */
  async startHandWorker(
    id: string,
    slots: number,
    models: readonly string[] = ['small'],
    change: Pick<HandWorkerOptions, 'isReading'> = {},
  ): Promise<HandWorker> {
    const broker = await this.connectAs(nodeUser(id));
    const { heartbeatMs } = this.config.fleet;
    const options = { node: id, slots, models, heartbeatMs, ...change };
    const worker = new HandWorker(options, this.#keyOf(id), broker);
    this.#closing.push(async () => worker.fallSilent());
    await worker.start();
    return worker;
  }

  /** A job as account `acme` sends it to model `small`. */
  job(change: Partial<JobMessage> = {}): JobMessage {
    return {
      v: 1,
      id: newUuidV7(),
      account: 'acme',
      namespace: 'acme/prod',
      model: 'small',
      kind: 'chat',
      input: { messages: [{ role: 'user', content: 'Tell me about the sea.' }] },
      limits: {
        input_tokens_max: 100,
        output_tokens_max: 8,
        timeout_ms: 20_000,
        wait_ms: 20_000,
        attempts_max: 1,
      },
      constraints: { subcloud: null, region: null, vram_gb_min: null },
      priority: 'interactive',
      stream: false,
      ...change,
    };
  }

  send(job: JobMessage | Buffer, change: Partial<OutMessage> = {}): Promise<PublishOutcome> {
    return this.client.send(job, change);
  }

  reply(id: string, timeoutMs?: number): Promise<ReplyMessage> {
    return this.client.reply(id, timeoutMs);
  }

  run(job: JobMessage): Promise<ReplyMessage> {
    return this.client.run(job);
  }

  /** One number of the daemon's `/metrics`. */
  metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    if (this.daemon === null) throw new Error('the daemon is not started');
    return metric(this.daemon.httpUrl, name, labels);
  }

  /** An operator deletes a queue. */
  async deleteQueue(name: string): Promise<void> {
    await this.#onChannel((channel) => channel.deleteQueue(name));
  }

  /** What the broker itself counts at this moment: messages that are in nobody's hands, and consumers. */
  async queue(name: string): Promise<{ readonly messages: number; readonly consumers: number }> {
    const found = await this.#onChannel((channel) => channel.checkQueue(name));
    return { messages: found.messageCount, consumers: found.consumerCount };
  }

  /** Waits until no message of a queue is left. */
  async queueIsEmpty(name: string): Promise<void> {
    await until(async () => (await this.queue(name)).messages === 0, `${name} to be empty`);
  }

  /** An administrator's channel for one question. */
  async #onChannel<T>(ask: (channel: Channel) => Promise<T>): Promise<T> {
    const connection = await connect(this.servers.amqpUrl);
    try {
      const channel = await connection.createChannel();
      // A refusal closes the channel; it also rejects the call.
      channel.on('error', () => undefined);
      return await ask(channel);
    } finally {
      await connection.close();
    }
  }

  /** Redis loses everything, as one without persistence does when it is restarted. */
  async emptyRedis(): Promise<void> {
    const redis = new Redis(this.servers.redisUrl);
    await redis.flushdb();
    redis.disconnect();
  }

  /** Every lease that stands in Redis. */
  async leases(): Promise<LiveLease[]> {
    const leases: LiveLease[] = [];
    for await (const lease of new RedisSlotLeases(this.#redis).leases()) leases.push(lease);
    return leases;
  }

  /** Ends every lease that stands in Redis, whoever holds it. */
  async endLeases(): Promise<void> {
    await new RedisSlotLeases(this.#redis).releaseBatch(await this.leases());
  }

  /** Waits until no slot is in use and no lease stands in Redis: none has leaked. */
  async slotsAreFree(): Promise<void> {
    await until(async () => {
      for await (const worker of this.fleet.occupancy())
        if (worker.leases + worker.leasesFound + worker.unleased > 0) return false;
      return true;
    }, 'all slots to be free');
  }
}

/** The password of every broker user of the tests. */
export function passwordOf(user: string): string {
  return `test-${user}`;
}

/** Builds a world and takes it down when `t` ends. */
export async function world(t: Teardown, options: WorldOptions = {}): Promise<World> {
  const servers =
    options.servers ?? (await isolatedServers(t, { postgres: true, redis: true, amqp: true, mongo: true }));
  const direct = {
    ...roleUrls(servers.postgresAdminUrl),
    redisUrl: servers.redisUrl,
    amqpUrl: servers.amqpUrl,
    mongoUrl: servers.mongoUrl,
  };
  const urls = { ...direct, ...(await options.through?.(servers, direct)) };
  const flags: Record<string, string> = {
    'secrets.digestKey': 'a key for tests, long enough to be one',
    'http.port': '0',
    'log.level': process.env['TOLLGATE_TEST_LOG'] ?? 'silent',
    'fleet.keyPrefix': servers.keyPrefix,
    'fleet.heartbeatMs': '500',
    'fleet.lostAfterMs': '2000',
    'sweeps.everyMs': '200',
  };
  for (const [key, url] of Object.entries(urls)) flags[`servers.${key}`] = url;
  for (const [path, value] of Object.entries(options.settings ?? {})) flags[path] = String(value);
  const made = new World(servers, flags);
  t.after(() => made.close());
  await made.build(options);
  return made;
}
