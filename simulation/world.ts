import type { Broker, Publisher } from '../src/broker/types.ts';
import { loadConfig } from '../src/config.ts';
import type { Config } from '../src/config-schema.ts';
import {
  CANCEL_KEY,
  controlQueue,
  EXCHANGE,
  jobKey,
  jobQueue,
  nodeQueue,
  PRIORITIES,
} from '../src/contracts/names.ts';
import type { Attempts, Cancellations, CreditLocks, Settlements, Sweeps } from '../src/ledger/types.ts';
import { misfitOf } from '../src/network/fitting.ts';
import type { Account, Directory, ModelVersion, Node } from '../src/network/types.ts';
import { Connection, SimBroker } from './broker.ts';
import { SimCoordinator } from './coordinator.ts';
import { Faults } from './faults.ts';
import { SimFleet } from './fleet.ts';
import { Judge } from './judge.ts';
import { SimLedger } from './ledger.ts';
import { SimServer, SimTraces, short } from './servers.ts';
import { EPOCH_MS, Timeline } from './timeline.ts';
import { type Manner, SimWorker } from './worker.ts';

/** The ledger as a coordinator has it in its hands. */
export type Ledger = CreditLocks & Attempts & Settlements & Sweeps & Cancellations;

/** Where a broken variant takes hold of a coordinator. */
export interface SimSeams {
  ledger(ledger: Ledger, world: World): Ledger;
  broker(broker: Broker, world: World): Broker;
}

/** A node of the directory and what it is like. */
interface SimNode {
  readonly id: string;
  readonly slots: number;
  readonly manner: Manner;
}

/** What one seed plays. */
export interface WorldOptions {
  readonly seed: number;
  readonly jobs: number;
  readonly seams: SimSeams;
}

const DEFAULTS: Config = loadConfig({ env: {}, needs: [], flags: { 'results.verifySampleShare': '0' } });

const SMALL: ModelVersion = {
  id: 7,
  model: 'small',
  version: 2,
  inputPriceMicro: 1_000_000n,
  outputPriceMicro: 2_000_000n,
  inputTokensMax: 1_000,
  outputTokensMax: 500,
  timeoutMsMax: 60_000,
};
const MODELS: readonly ModelVersion[] = [
  SMALL,
  { ...SMALL, id: 8, model: 'large', inputPriceMicro: 900_000n },
];
/** Those of the configuration. */
const NO_LIMITS = { jobsPerSecond: null, burstJobs: null, openLocksMax: null, queuedMax: null } as const;
const ACCOUNTS: readonly Account[] = [
  { id: 1, name: 'acme', namespaces: new Map([['acme/prod', 3]]), limits: NO_LIMITS },
  { id: 2, name: 'poor', namespaces: new Map([['poor/prod', 4]]), limits: NO_LIMITS },
];
/** The one publisher, whom nobody has cut off. */
const WEB = { id: 5, name: 'web', bannedUntilMs: Number.NEGATIVE_INFINITY } as const;
const REPLY_TO = 'reply.p-web';
/** How long load and faults last, in virtual milliseconds. */
const FAULTY_MS = 20_000;
/** Then everything has this long to reach its end; the longest life is a wait, a start window, a timeout and a lease. */
const QUIESCE_MS_MAX = 400_000;
/** The books are looked at after so many events. */
const CHECK_EVERY = 100;

/** One seed's servers, processes and clients, and what happens to them. */
export class World {
  readonly timeline: Timeline;
  readonly faults: Faults;
  readonly broker: SimBroker;
  readonly ledger: SimLedger;
  readonly fleet: SimFleet;
  readonly traces: SimTraces;
  readonly judge: Judge;
  readonly servers: Readonly<Record<'postgres' | 'redis' | 'mongodb', SimServer>>;
  readonly suspectCounts = new Map<string, number>();
  readonly config = DEFAULTS;
  readonly directory: Directory;
  readonly seams: SimSeams;
  readonly #jobs: number;
  readonly #nodes: readonly SimNode[];
  readonly #coordinators: SimCoordinator[] = [];
  readonly #workers = new Map<string, SimWorker>();
  readonly #client: Connection;
  #births = 0;
  #ids = 0;
  #isLoaded = false;

  constructor({ seed, jobs, seams }: WorldOptions) {
    this.timeline = new Timeline(seed);
    const { timeline } = this;
    const { random } = timeline;
    this.#jobs = jobs;
    this.seams = seams;
    this.faults = new Faults(timeline);
    this.broker = new SimBroker(timeline, this.faults);
    const nowMs = () => EPOCH_MS + timeline.nowMs;
    this.ledger = new SimLedger({
      nowMs,
      models: MODELS,
      namespaces: new Map(
        ACCOUNTS.flatMap(({ namespaces }) => [...namespaces].map(([name, id]) => [id, name])),
      ),
      credit: new Map([
        [1, 1_000_000_000n],
        [2, BigInt(random.between(0, 1_000))],
      ]),
      bounds: this.config.ledger,
    });
    this.fleet = new SimFleet({
      nowMs,
      bounds: this.config.fleet,
      onWake: (pool) => this.#wake(pool),
      onReleased: (lease, by) => this.judge.released(lease, by),
    });
    this.traces = new SimTraces(timeline, this.faults);
    this.servers = {
      postgres: new SimServer('postgres', timeline, this.faults),
      redis: new SimServer('redis', timeline, this.faults),
      mongodb: new SimServer('mongodb', timeline, this.faults),
    };
    const manners: readonly Manner[] = [
      'honest',
      'honest',
      'honest',
      'failing',
      'two_faced',
      'greedy',
      'silent',
      'slow',
    ];
    this.#nodes = Array.from({ length: random.between(1, 4) }, (_, i) => ({
      id: `n${i}`,
      slots: random.between(1, 4),
      manner: i === 0 ? 'honest' : random.pick(manners),
    }));
    this.directory = directoryOf(this.#nodes.map(({ id }) => id));
    this.judge = new Judge(this);
    this.broker.onDispatch = (body) => this.judge.dispatched(body);
    this.broker.onReply = (_, body, messageId) => this.judge.replied(body, messageId);
    this.broker.onNack = (messageId) => this.judge.nacked(messageId);
    this.#client = new Connection(this.broker, 'p-web', () => true);
  }

  /** Plays the seed to its end. The judge knows how it went. */
  async play(): Promise<void> {
    const { timeline, judge } = this;
    const { random } = timeline;
    for (let i = random.between(1, 2); i > 0; i--) this.#bear();
    for (const node of this.#nodes) timeline.at(random.share() * 1_000, () => this.#open(node));
    this.#load();
    this.#harm();
    const isBroken = () => {
      if (timeline.events % CHECK_EVERY === 0) judge.checkBooks();
      return judge.broken !== null;
    };
    await timeline.run(FAULTY_MS, isBroken);
    if (judge.broken !== null) return;
    this.faults.isOn = false;
    this.#isLoaded = true;
    timeline.note('faults are over');
    if (this.#coordinators.every(({ isAlive }) => !isAlive)) this.#bear();
    const isOver = () => isBroken() || (timeline.events % CHECK_EVERY === 0 && this.#isQuiet());
    await timeline.run(FAULTY_MS + QUIESCE_MS_MAX, isOver);
    if (judge.broken === null) judge.checkEnd();
  }

  modelsOf(_node: string): readonly string[] {
    return MODELS.map(({ model }) => model);
  }

  declareNode(node: string): void {
    this.broker.declare(nodeQueue(node), this.config.broker.nodeQueueLengthMax);
    this.broker.declare(controlQueue(node));
  }

  declarePool(pool: string): void {
    for (const priority of PRIORITIES) this.broker.declare(jobQueue(pool, priority));
  }

  /** Of a coordinator that lives. */
  anyPublisher(): Publisher | null {
    const live = this.#coordinators.filter(({ isAlive }) => isAlive);
    return live.length === 0 ? null : this.timeline.random.pick(live).connection.publisher;
  }

  #wake(pool: string): void {
    for (const coordinator of this.#coordinators)
      if (!this.faults.strikes('wake_lost'))
        this.timeline.at(this.faults.delayMs(), () => coordinator.wake(pool));
  }

  #bear(): void {
    const coordinator = new SimCoordinator(this, `c${this.#births++}`);
    this.#coordinators.push(coordinator);
    coordinator.start().catch((error: unknown) => this.judge.fail('start', String(error)));
  }

  #open({ id, slots, manner }: SimNode): void {
    this.timeline.note(`${id} opens, ${manner}, ${slots} slots`);
    this.#workers.set(id, new SimWorker(this, id, slots, manner));
  }

  #load(): void {
    const { random } = this.timeline;
    const isRush = random.share() < 0.3;
    for (let i = 0; i < this.#jobs; i++)
      this.timeline.at(random.share() * (isRush ? 500 : FAULTY_MS * 0.8), () => this.#submit());
  }

  #submit(): void {
    const { random } = this.timeline;
    const account = random.share() < 0.1 ? 'poor' : 'acme';
    const model = random.pick(MODELS).model;
    const priority = random.share() < 0.7 ? 'interactive' : 'batch';
    const id = this.#newId();
    const limits = {
      input_tokens_max: random.between(1, 500),
      output_tokens_max: random.between(1, 200),
      timeout_ms: random.between(20_000, 40_000),
      wait_ms: random.pick([500, 5_000, 60_000]),
      attempts_max: random.between(1, 3),
    };
    const job = {
      v: 1,
      id,
      account,
      namespace: `${account}/prod`,
      model,
      kind: 'chat',
      limits,
      priority,
      stream: false,
      input: { messages: [{ role: 'user', content: 'Tell me.' }] },
      constraints: { subcloud: null, region: null, vram_gb_min: null },
      ...(random.share() < 0.2
        ? { fallbacks: MODELS.map((one) => one.model).filter((name) => name !== model) }
        : {}),
    };
    const body = random.share() < 0.01 ? Buffer.from('{"v":') : Buffer.from(JSON.stringify(job));
    const isPoison = body.length < 10;
    const send = () => void this.#publish(jobKey(model, priority), id, body, limits.wait_ms, isPoison);
    send();
    if (random.share() < 0.1) this.timeline.at(random.share() * 15_000, send);
    if (random.share() < 0.1)
      this.timeline.at(random.share() * random.pick([5, 4_000]), () => {
        const cancel = { v: 1, id, account, namespace: `${account}/prod` };
        void this.#publish(CANCEL_KEY, `cancel-${id}`, Buffer.from(JSON.stringify(cancel)), undefined, true);
      });
  }

  async #publish(
    key: string,
    id: string,
    body: Buffer,
    waitMs: number | undefined,
    isNoJob: boolean,
  ): Promise<void> {
    this.timeline.note(`client sends ${isNoJob ? key : short(id)}`);
    const outcome = await this.#client.publisher.publish({
      exchange: EXCHANGE.jobs,
      routingKey: key === CANCEL_KEY ? CANCEL_KEY : key,
      body,
      messageId: id,
      replyTo: REPLY_TO,
      correlationId: 'c',
      expirationMs: waitMs,
      mandatory: true,
    });
    if (outcome === 'confirmed' && !isNoJob) this.judge.confirmed.add(id);
    this.timeline.note(`client hears ${outcome}`);
  }

  /** What strikes whole processes and servers, at moments of the seed's choice. */
  #harm(): void {
    const { random } = this.timeline;
    const blows: readonly (() => void)[] = [
      () => this.#kill(),
      () => this.#kill(),
      () => this.#kill(),
      () => random.pick([...this.broker.connections]).cut(),
      () => random.pick([...this.broker.connections]).cut(),
      () => this.broker.goAway(random.share() * 4_000),
      () => this.fleet.empty(),
      () => random.pick(Object.values(this.servers)).goAway(random.share() * 5_000),
      () => this.#killWorker(),
      () => this.#killWorker(),
    ];
    for (let i = random.pick([0, 1, 2, 4, 8]); i > 0; i--)
      this.timeline.at(200 + random.share() * FAULTY_MS * 0.9, () => {
        if (this.#isLoaded) return;
        const at = random.between(0, blows.length - 1);
        this.timeline.note(`blow ${at}`);
        blows[at]?.();
      });
  }

  #kill(): void {
    const live = this.#coordinators.filter(({ isAlive }) => isAlive);
    if (live.length === 0) return;
    const victim = this.timeline.random.pick(live);
    this.timeline.note(`${victim.name} dies`);
    victim.die();
    this.timeline.at(100 + this.timeline.random.share() * 4_000, () => this.#bear());
  }

  #killWorker(): void {
    const node = this.timeline.random.pick(this.#nodes);
    const worker = this.#workers.get(node.id);
    if (!worker?.isAlive) return;
    this.timeline.note(`${node.id} dies`);
    worker.die();
    this.timeline.at(this.timeline.random.share() * 30_000, () => this.#open(node));
  }

  #isQuiet(): boolean {
    const { ledger, fleet, broker, traces } = this;
    for (const row of ledger.jobs.values()) if (row.endedMs === null || row.isReplyOwed) return false;
    if (ledger.attempts.some(({ isOwed }) => isOwed) || traces.spooled > 0 || fleet.leases.size > 0)
      return false;
    if (broker.standing().some(({ ready, open }) => ready + open > 0)) return false;
    return this.#coordinators.every(({ isAlive, isIdle }) => !isAlive || isIdle);
  }

  #newId(): string {
    const nowHex = Math.floor(EPOCH_MS + this.timeline.nowMs)
      .toString(16)
      .padStart(12, '0');
    const number = (this.#ids++).toString(16).padStart(12, '0');
    return `${nowHex.slice(0, 8)}-${nowHex.slice(8)}-7000-8000-${number}`;
  }
}

/** A node that nobody drains and nothing excludes. */
const IN_SERVICE = { drainByMs: null, ineligibleUntilMs: null, ineligibleReason: null } as const;

function directoryOf(nodes: readonly string[]): Directory {
  const publicKey = Buffer.alloc(32);
  const models = new Set(MODELS.map(({ model }) => model));
  const all = nodes.map(
    (id): Node => ({
      id,
      owner: 'o',
      publicKey,
      models,
      lifecycle: 'active',
      region: null,
      vramGb: null,
      ...IN_SERVICE,
    }),
  );
  const accountIds = new Set(ACCOUNTS.map(({ id }) => id));
  return {
    version: 1,
    account: (name) => ACCOUNTS.find((one) => one.name === name),
    publisher: (name) => (name === WEB.name ? { ...WEB, accountIds } : undefined),
    publishers: () => [{ ...WEB, accountIds }],
    model: (name) => MODELS.find(({ model }) => model === name),
    modelVersion: (id) => MODELS.find((one) => one.id === id),
    node: (id) => all.find((one) => one.id === id),
    models: () => MODELS,
    nodes: () => all,
    pool: () => undefined,
    pools: () => [],
    misfit: (wanted) => misfitOf(all, wanted),
    refresh: () => Promise.resolve(),
    onChange: () => () => undefined,
  };
}
