import { AmqpBroker } from '../../src/broker/connection.ts';
import { Management } from '../../src/broker/management.ts';
import { nodePermissions, type Permissions, publisherPermissions } from '../../src/broker/permissions.ts';
import type { OutMessage, PublishOutcome } from '../../src/broker/types.ts';
import { systemClock } from '../../src/clock.ts';
import { loadConfig } from '../../src/config.ts';
import type { Config } from '../../src/config-schema.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { EXCHANGE, jobKey, nodeUser, publisherUser } from '../../src/contracts/names.ts';
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
import { databaseOptions, quietLog } from './ledger.ts';
import { isolatedServers, type Teardown, type TestServers } from './servers.ts';
import { until } from './until.ts';

/** What a world may be told to do otherwise. */
export interface WorldOptions {
  /** Configuration besides the servers, by path: `{ 'fleet.lostAfterMs': 900 }`. */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** Replaces server URLs, e.g. by those of a proxy. */
  readonly through?: (servers: TestServers) => Promise<Partial<Record<keyof Config['servers'], string>>>;
  /** Workers of node `n1`, `n2`, …; default one with 4 slots. */
  readonly workers?: number;
  readonly slots?: number;
  readonly model?: { readonly tokensPerSecond?: number; readonly firstTokenMs?: number };
  readonly isDaemonStarted?: boolean;
}

/** A Tollgate on real servers: account `acme` (1,000 credits), publisher `web`, model `small`, workers, and the means to look. */
export class World {
  readonly servers: TestServers;
  readonly config: Config;
  readonly admin: Database;
  readonly management: Management;
  readonly replies: ReplyMessage[] = [];
  readonly workers: WorkerAgent[] = [];
  daemon: Daemon | null = null;
  #client!: AmqpBroker;
  #model!: ModelServer;
  readonly #closing: (() => Promise<unknown>)[] = [];

  constructor(servers: TestServers, config: Config) {
    this.servers = servers;
    this.config = config;
    this.admin = new Database(databaseOptions(servers.postgresAdminUrl, null), quietLog);
    this.management = new Management({
      url: servers.amqpAdminUrl,
      vhost: servers.vhost,
      requestMsMax: 5_000,
    });
    this.#closing.push(() => this.admin.close());
  }

  /** Makes records, users, model server and client; then what `options` asks for. */
  async build(options: WorldOptions): Promise<void> {
    await migrate({ url: this.servers.postgresAdminUrl }, quietLog);
    await ensureCollections(this.config.servers);
    await this.addAccount('acme', 'web', 1_000_000_000n);
    await new Models(this.admin).add({
      name: 'small',
      inputPriceMicro: 1_000_000n,
      outputPriceMicro: 2_000_000n,
      inputTokensMax: 4_000,
      outputTokensMax: 1_000,
      timeoutMsMax: 60_000,
    });
    this.#model = new ModelServer({ models: ['small'], ...options.model });
    await this.#model.start();
    this.#closing.push(() => this.#model.stop());
    const count = options.workers ?? 1;
    for (let n = 1; n <= count; n++) await this.addNode(`n${n}`);
    if (options.isDaemonStarted !== false) await this.startDaemon();
    this.#client = await this.connectAs(publisherUser('web'));
    await this.#client.topology.declareReplyQueue('reply.p-web', 600_000);
    const channel = await this.#client.openChannel(() => undefined);
    await channel.consume('reply.p-web', 100, (delivery) => {
      delivery.acknowledge();
      this.replies.push(JSON.parse(delivery.body.toString()));
    });
    for (let n = 1; n <= count; n++) await this.startWorker(`n${n}`, options.slots ?? 4);
  }

  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.stop()));
    await this.daemon?.stop();
    for (const close of this.#closing.toReversed()) await close();
  }

  async startDaemon(): Promise<void> {
    this.daemon = await runDaemon(this.config);
  }

  async stopDaemon(): Promise<void> {
    await this.daemon?.stop();
    this.daemon = null;
  }

  async addAccount(account: string, publisher: string, creditMicro: bigint): Promise<void> {
    const accounts = new Accounts(this.admin);
    await accounts.create(account);
    await accounts.addNamespace(`${account}/prod`);
    await accounts.addPublisher(publisher);
    await accounts.entitle(publisher, account);
    if (creditMicro > 0n) await accounts.topUp(newUuidV7(), account, creditMicro);
    await this.addUser(publisherUser(publisher), publisherPermissions(publisherUser(publisher)));
  }

  readonly #keys = new Map<string, ReturnType<typeof generateNodeKey>>();

  async addNode(id: string): Promise<void> {
    const key = generateNodeKey();
    this.#keys.set(id, key);
    const publicKey = rawPublicKey(key);
    await new Nodes(this.admin).register({
      id,
      owner: 'owner',
      publicKey,
      models: ['small'],
      lifecycle: 'active',
    });
    await this.addUser(nodeUser(id), nodePermissions(id));
  }

  /** RabbitMQ's users belong to the whole broker and are shared by test files; permissions are the vhost's. */
  async addUser(user: string, permissions: Permissions): Promise<void> {
    await this.management.createUser(user, passwordOf(user), permissions);
  }

  /** A broker connection as `user`, sending that as `user_id`. */
  async connectAs(user: string): Promise<AmqpBroker> {
    const url = new URL(this.servers.amqpUrl);
    url.username = user;
    url.password = passwordOf(user);
    const broker = new AmqpBroker({
      ...this.config.broker,
      ...this.config.servers,
      url: url.href,
      name: `test ${user}`,
      bounds: this.config.broker,
      userId: user,
      log: quietLog,
      clock: systemClock,
    });
    await broker.start();
    this.#closing.push(() => broker.stop());
    return broker;
  }

  async startWorker(id: string, slots: number, signals: WorkerSignals = {}): Promise<WorkerAgent> {
    const privateKey = this.#keys.get(id);
    if (!privateKey) throw new Error(`no node ${id}`);
    const broker = await this.connectAs(nodeUser(id));
    const heartbeatMs = this.config.fleet.heartbeatMs;
    const models = [{ name: 'small', url: this.#model.url }];
    const worker = new WorkerAgent(
      { node: id, privateKey, slots, models, heartbeatMs },
      systemClock,
      quietLog,
      broker,
      signals,
    );
    this.workers.push(worker);
    await worker.start();
    return worker;
  }

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

  /** Publishes as `p-web`, the way `docs/messages.md` says; `change` spoils the envelope. */
  async send(
    job: JobMessage | Buffer,
    change: Partial<OutMessage> = {},
    client = this.#client,
  ): Promise<PublishOutcome> {
    const isBytes = Buffer.isBuffer(job);
    return client.publisher.publish({
      exchange: EXCHANGE.jobs,
      routingKey: isBytes ? 'small.interactive' : jobKey(job.model, job.priority),
      body: isBytes ? job : Buffer.from(JSON.stringify(job)),
      messageId: isBytes ? newUuidV7() : job.id,
      correlationId: isBytes ? undefined : job.id,
      replyTo: 'reply.p-web',
      expirationMs: isBytes ? 1_000 : job.limits.wait_ms,
      mandatory: true,
      ...change,
    });
  }

  /** Waits for the first reply about `job`. */
  async reply(job: string, timeoutMs = 20_000): Promise<ReplyMessage> {
    const found = () => this.replies.find((reply) => reply.job === job);
    await until(() => found() !== undefined, `a reply for ${job}`, { timeoutMs });
    return found() as ReplyMessage;
  }

  async run(job: JobMessage): Promise<ReplyMessage> {
    await this.send(job);
    return this.reply(job.id);
  }
}

function passwordOf(user: string): string {
  return `test-${user}`;
}

/** Builds a world and takes it down when `t` ends. */
export async function world(t: Teardown, options: WorldOptions = {}): Promise<World> {
  const servers = await isolatedServers(t, { postgres: true, redis: true, amqp: true, mongo: true });
  const urls = {
    postgresUrl: databaseOptions(servers.postgresAdminUrl, 'tollgate_dispatcher').url,
    postgresSettlerUrl: databaseOptions(servers.postgresAdminUrl, 'tollgate_settler').url,
    redisUrl: servers.redisUrl,
    amqpUrl: servers.amqpUrl,
    mongoUrl: servers.mongoUrl,
    ...(await options.through?.(servers)),
  };
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
  const config = loadConfig({ flags, env: {} });
  const made = new World(servers, config);
  t.after(() => made.close());
  await made.build(options);
  return made;
}
