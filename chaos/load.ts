import { setTimeout as sleep } from 'node:timers/promises';
import { AmqpBroker } from '../src/broker/connection.ts';
import type { OutMessage } from '../src/broker/types.ts';
import { systemClock } from '../src/clock.ts';
import type { JobMessage } from '../src/contracts/job.ts';
import { EXCHANGE, jobKey, publisherUser } from '../src/contracts/names.ts';
import type { ReplyMessage } from '../src/contracts/reply.ts';
import { newUuidV7 } from '../src/ids.ts';
import { createLog } from '../src/ops/log.ts';
import { EvidenceLog } from './evidence.ts';
import { Random } from './random.ts';
import { type ChaosAccount, type ChaosWorld, MODELS, PUBLISHER } from './world.ts';

/** One message in a hundred is poison; about one tick in thirty sends an earlier message again. */
const POISON_SHARE = 0.01;
const REPLAY_SHARE = 0.03;
const COPIES_MAX = 10;
const REPLAYABLE_MAX = 500;
/** The hot account has so much of the load; the others share the rest by Zipf's law. */
const HOT_SHARE = 0.4;
const BATCH_SHARE = 0.2;
/** The model that rogues serve gets this share. */
const WIDE_SHARE = 0.2;

/** A client's patience with a broker that is away. */
const RESEND_MS = 200;
const REPLY_QUEUE_UNUSED_MS = 3_600_000;
const PREFETCH = 500;

/** Ways of being no job. Each is answered, or kept as a dead letter, and leaves no row. */
const POISONS: readonly ((job: JobMessage) => unknown)[] = [
  () => Buffer.from('Please summarise this text for me.'),
  (job) => Buffer.from(JSON.stringify(job).slice(0, -2)),
  () => Buffer.from('{"v":1,"id":"\xff"}', 'latin1'),
  (job) => ({ ...job, limits: { ...job.limits, timeout_ms: '60000' } }),
  (job) => ({ ...job, limits: { ...job.limits, input_tokens_max: -1 } }),
  (job) => ({ ...job, colour: 'blue' }),
  (job) => ({ ...job, account: 'nobody-at-all', namespace: 'nobody-at-all/prod' }),
  (job) => Buffer.from(JSON.stringify(job).replace('{', '{"__proto__":{"isAdmin":true},')),
];

/**
 * Sends jobs at a fixed rate, whatever becomes of them, as a good client does: what was not confirmed is sent again with the
 * same id. Everything that it does and hears goes to its own log.
 */
export class Load {
  /** Messages that were begun and have no confirm yet. */
  readonly #sending = new Set<Promise<void>>();
  readonly #log: EvidenceLog;
  readonly #random: Random;
  readonly #accounts: readonly (ChaosAccount & { readonly weight: number })[];
  readonly #broker: AmqpBroker;
  readonly #sent: OutMessage[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(world: ChaosWorld, seed: number, logFile: string) {
    this.#log = new EvidenceLog(logFile);
    this.#random = new Random(seed ^ 0x10ad);
    this.#accounts = world.accounts.map((account, i) => ({ ...account, weight: weightOf(i) }));
    const { broker, servers } = world.config;
    const user = publisherUser(PUBLISHER);
    this.#broker = new AmqpBroker({
      ...broker,
      ...servers,
      url: world.publisherUrl,
      name: 'chaos load',
      userId: user,
      bounds: broker,
      setup: (topology) => topology.declareReplyQueue(`reply.${user}`, REPLY_QUEUE_UNUSED_MS),
      log: createLog({ level: 'silent' }),
      clock: systemClock,
    });
  }

  async start(jobsPerSecond: number): Promise<void> {
    await this.#broker.start();
    await this.#listen();
    this.#timer = setInterval(() => this.#tick(), 1_000 / jobsPerSecond);
  }

  /** Sends nothing new; resolves when all that was begun has been confirmed, and goes on listening. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    while (this.#sending.size > 0) await Promise.all(this.#sending);
  }

  /** Ends the connection and the log. */
  async close(): Promise<void> {
    await this.stop();
    await this.#broker.stop();
    this.#log.close();
  }

  #tick(): void {
    const isPoison = this.#random.share() < POISON_SHARE;
    const job = this.#job();
    const body = isPoison ? this.#random.pick(POISONS)(job) : job;
    const message: OutMessage = {
      exchange: EXCHANGE.jobs,
      routingKey: jobKey(job.model, job.priority),
      body: Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body)),
      messageId: job.id,
      correlationId: job.id,
      replyTo: `reply.${publisherUser(PUBLISHER)}`,
      expirationMs: job.limits.wait_ms,
      mandatory: true,
    };
    this.#log.add({ what: 'sent', key: job.id, kind: isPoison ? 'poison' : 'job' });
    this.#begin(this.#send(message, job.id));
    if (!isPoison) this.#remember(message);
    if (this.#random.share() < REPLAY_SHARE) this.#replay();
  }

  #begin(work: Promise<void>): void {
    const sending = work.finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  #remember(message: OutMessage): void {
    if (this.#sent.length >= REPLAYABLE_MAX) this.#sent.shift();
    this.#sent.push(message);
  }

  #job(): JobMessage {
    const random = this.#random;
    const { name } = random.weighted(this.#accounts);
    const isWide = random.share() < WIDE_SHARE;
    return {
      v: 1,
      id: newUuidV7(),
      account: name,
      namespace: `${name}/prod`,
      model: isWide ? 'wide' : random.pick(MODELS.filter((model) => model !== 'wide')),
      kind: 'chat',
      input: {
        messages: [{ role: 'user', content: `Tell me about the sea, ${random.between(1, 1_000)} times.` }],
      },
      limits: {
        input_tokens_max: 100,
        output_tokens_max: random.between(2, 30),
        timeout_ms: random.between(4_000, 8_000),
        wait_ms: random.between(20_000, 40_000),
        attempts_max: 3,
      },
      constraints: { subcloud: null, region: null, vram_gb_min: null },
      priority: random.share() < BATCH_SHARE ? 'batch' : 'interactive',
      stream: false,
    };
  }

  async #send(message: OutMessage, key: string): Promise<void> {
    while ((await this.#broker.publisher.publish(message)) !== 'confirmed') {
      this.#log.add({ what: 'unconfirmed', key });
      await sleep(RESEND_MS);
    }
    this.#log.add({ what: 'confirmed', key });
  }

  /** The same bytes again, some of them long after their job has ended. */
  #replay(): void {
    if (this.#sent.length === 0) return;
    const message = this.#random.pick(this.#sent);
    const copies = this.#random.between(1, COPIES_MAX);
    this.#log.add({ what: 'replayed', key: message.messageId, copies });
    void this.#broker.publisher.publishBatch(Array.from({ length: copies }, () => message));
  }

  async #listen(): Promise<void> {
    const queue = `reply.${publisherUser(PUBLISHER)}`;
    const channel = await this.#broker.openChannel(() => this.#listenAgain());
    await channel.consume(queue, PREFETCH, (delivery) => {
      const reply: ReplyMessage = JSON.parse(delivery.body.toString());
      this.#log.add({
        what: 'replied',
        key: delivery.correlationId ?? '',
        job: reply.job,
        state: reply.state,
        code: reply.error?.code ?? null,
        chargedMicro: reply.charged_micro,
      });
      delivery.acknowledge();
    });
  }

  #listenAgain(): void {
    const end = this.#broker.onChange((isUp) => {
      if (!isUp) return;
      end();
      this.#listen().catch(() => this.#listenAgain());
    });
  }
}

function weightOf(rank: number): number {
  // The first has HOT_SHARE of all; below it the harmonic series of ranks 1 to 59 adds up to 4.66.
  return rank === 0 ? HOT_SHARE : (1 - HOT_SHARE) / 4.66 / rank;
}
