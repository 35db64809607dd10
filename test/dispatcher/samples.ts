import type { Delivery } from '../../src/broker/types.ts';
import { poolOfJob } from '../../src/contracts/names.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import type { Arrival } from '../../src/dispatcher/types.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { misfitOf } from '../../src/network/fitting.ts';
import type { Directory, ModelVersion, Node, Pool, Publisher, Wanted } from '../../src/network/types.ts';

/** A node that neither a drain nor strikes keep from new jobs. */
export const GOOD_STANDING = { drainByMs: null, ineligibleUntilMs: null, ineligibleReason: null } as const;

/** A valid job; `change` replaces fields at the top. */
export function jobMessage(change: Record<string, unknown> = {}): JobMessage {
  return {
    v: 1,
    id: newUuidV7(),
    account: 'acme',
    namespace: 'acme/prod',
    model: 'small',
    kind: 'chat',
    input: { messages: [{ role: 'user', content: 'Tell me.' }] },
    limits: {
      input_tokens_max: 100,
      output_tokens_max: 50,
      timeout_ms: 10_000,
      wait_ms: 5_000,
      attempts_max: 1,
    },
    constraints: { subcloud: null, region: null, vram_gb_min: null },
    priority: 'interactive',
    stream: false,
    ...change,
  };
}

/** What the broker would hand over; answers are kept in `answers`. */
export class PaperDelivery implements Delivery {
  readonly queue = 'jobs.small.interactive';
  readonly body: Buffer;
  readonly redelivered: boolean = false;
  readonly userId: string | null = 'p-web';
  readonly messageId: string | null;
  readonly correlationId = 'c-1';
  readonly replyTo: string | null = 'reply.p-web';
  readonly expiration: string | null;
  readonly routingKey: string;
  readonly exchange = 'jobs';
  readonly deathReason: string | null = null;
  readonly deathRoutingKey: string | null = null;
  readonly deathExchange: string | null = null;
  readonly traceparent = null;
  readonly receivedMs = 0;
  isLive = true;
  readonly answers: string[] = [];

  constructor(job: unknown, change: Partial<Delivery> = {}) {
    const {
      id,
      model = '',
      constraints,
      priority,
      limits,
    }: Partial<JobMessage> = JSON.parse(JSON.stringify(job));
    this.body = Buffer.isBuffer(job) ? job : Buffer.from(JSON.stringify(job));
    this.messageId = id ?? null;
    const pool = constraints === undefined ? model : poolOfJob({ model, constraints });
    this.routingKey = `${pool}.${priority}`;
    this.expiration = String(limits?.wait_ms);
    Object.assign(this, change);
  }

  acknowledge(): void {
    this.answers.push('acknowledge');
  }

  requeue(): void {
    this.answers.push('requeue');
  }
}

/** An arrival of `job` from its pool's queue. */
export function arrivalOf(
  job: unknown,
  change: Partial<Delivery> = {},
  source: Arrival['source'] = 'pool',
): Arrival {
  const room = {
    prefetch: 16,
    hold: () => {},
    heldBy: () => 0,
    isAwaited: () => false,
    placed: () => {},
    left: () => {},
  };
  return {
    delivery: new PaperDelivery(job, change),
    source,
    priority: 'interactive',
    room,
    parsed: null,
    jobId: null,
    resumed: null,
    isPoison: false,
    isRefreshed: false,
    asked: 0,
  };
}

const small: ModelVersion = {
  id: 7,
  model: 'small',
  version: 2,
  inputPriceMicro: 1_000_000n,
  outputPriceMicro: 2_000_000n,
  inputTokensMax: 1_000,
  outputTokensMax: 500,
  timeoutMsMax: 60_000,
};

/** An account without limits of its own. */
export const NO_OWN_LIMITS = { jobsPerSecond: null, burstJobs: null, openLocksMax: null, queuedMax: null };

/** Nothing is ever too much. */
export const NO_LIMITS = {
  ofPublisher: () => null,
  ofAccount: () => null,
  isRefusing: () => false,
  countLock: () => {},
};

/** A directory of one account, two publishers (`idle` may spend for nobody) and two models (`free` has no price). */
export class PaperDirectory implements Directory {
  readonly version = 1;
  refreshes = 0;
  /** What a test puts in. */
  readonly paperNodes: Node[] = [];
  readonly paperPools: Pool[] = [];
  readonly #models = [small, { ...small, id: 8, model: 'free', inputPriceMicro: null }];

  account(name: string) {
    return name === 'acme'
      ? { id: 1, name, namespaces: new Map([['acme/prod', 3]]), limits: NO_OWN_LIMITS }
      : undefined;
  }

  publisher(name: string): Publisher | undefined {
    const bannedUntilMs = Number.NEGATIVE_INFINITY;
    if (name === 'web') return { id: 5, name, accountIds: new Set([1]), bannedUntilMs };
    return name === 'idle' ? { id: 6, name, accountIds: new Set(), bannedUntilMs } : undefined;
  }

  publishers(): Publisher[] {
    return [];
  }

  model(name: string) {
    return this.#models.find((model) => model.model === name);
  }

  modelVersion(id: number) {
    return this.#models.find((model) => model.id === id);
  }

  node(): Node | undefined {
    return undefined;
  }

  models() {
    return this.#models;
  }

  nodes(): Node[] {
    return this.paperNodes;
  }

  pool(name: string): Pool | undefined {
    return this.paperPools.find((pool) => pool.name === name);
  }

  pools(model?: string): Pool[] {
    return this.paperPools.filter((pool) => model === undefined || pool.model === model);
  }

  misfit(wanted: Wanted) {
    return misfitOf(this.paperNodes, wanted);
  }

  async refresh(): Promise<void> {
    this.refreshes += 1;
  }

  onChange() {
    return () => {};
  }
}
