import type { Delivery } from '../src/broker/types.ts';
import type { DispatchMessage } from '../src/contracts/dispatch.ts';
import { controlQueue, EXCHANGE, nodeQueue, nodeUser, RESULT_KEY } from '../src/contracts/names.ts';
import { resultDigest } from '../src/contracts/signed-bytes.ts';
import { StoreError } from '../src/errors.ts';
import { failureOf, type UnsignedResult } from '../src/workers/agent/result.ts';
import { Connection } from './broker.ts';
import { short } from './servers.ts';
import { EPOCH_MS } from './timeline.ts';
import type { World } from './world.ts';

/** How a node behaves. */
export type Manner = 'honest' | 'failing' | 'two_faced' | 'greedy' | 'silent' | 'slow';

interface Attempt {
  readonly dispatch: DispatchMessage;
  delivery: Delivery;
  tokens: number;
  isCancelled: boolean;
}

/**
 * One session of a worker: runs each `job.attempt` once, answers a repeat with the same bytes, acknowledges when its result is
 * confirmed, and speaks up regularly. Its manner says how it misbehaves beside that.
 */
export class SimWorker {
  readonly node: string;
  readonly session: number;
  readonly slots: number;
  readonly #world: World;
  readonly #manner: Manner;
  readonly #connection: Connection;
  readonly #waiting = new Map<string, Attempt>();
  readonly #held = new Map<string, Attempt>();
  readonly #recent = new Map<string, Buffer>();
  #seq = 0;
  #isAlive = true;

  constructor(world: World, node: string, slots: number, manner: Manner) {
    this.#world = world;
    this.node = node;
    this.slots = slots;
    this.#manner = manner;
    this.session = EPOCH_MS + Math.floor(world.timeline.nowMs);
    this.#connection = new Connection(world.broker, nodeUser(node), () => this.#isAlive);
    world.declareNode(node);
    void this.#consume();
    this.#beat();
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  get held(): number {
    return this.#held.size + this.#waiting.size;
  }

  /** Gone without a word. */
  die(): void {
    this.#isAlive = false;
    this.#connection.cut();
  }

  async #consume(): Promise<void> {
    const again = () => {
      this.#waiting.clear();
      this.#world.timeline.at(300, () => this.#isAlive && void this.#consume());
    };
    try {
      const channel = await this.#connection.openChannel(again);
      await channel.consume(nodeQueue(this.node), this.slots, (delivery) => this.#take(delivery));
      await channel.consume(controlQueue(this.node), 10, (delivery) => this.#hear(delivery));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (!this.#connection.isUp) return again();
    }
  }

  #take(delivery: Delivery): void {
    const dispatch: DispatchMessage = JSON.parse(delivery.body.toString());
    const key = `${dispatch.job}.${dispatch.attempt}`;
    const known = this.#held.get(key) ?? this.#waiting.get(key);
    const body = this.#recent.get(key);
    if (dispatch.session !== this.session) {
      const { message, code } = { code: 'TG_WORKER_STALE_SESSION', message: 'an earlier session' } as const;
      void this.#send(bytesOf(failureOf(dispatch, code, message)), () => delivery.acknowledge());
    } else if (known) {
      known.delivery.acknowledge();
      known.delivery = delivery;
    } else if (body) void this.#send(body, () => delivery.acknowledge());
    else {
      this.#waiting.set(key, { dispatch, delivery, tokens: 0, isCancelled: false });
      this.#begin();
    }
  }

  #hear(delivery: Delivery): void {
    const control: { kind: string; session: number; job?: string; attempt?: number } = JSON.parse(
      delivery.body.toString(),
    );
    delivery.acknowledge();
    if (control.session !== this.session) return;
    if (control.kind === 'hello_again') this.#speak();
    if (control.kind !== 'cancel') return;
    const key = `${control.job}.${control.attempt}`;
    this.#waiting.get(key)?.delivery.acknowledge();
    this.#waiting.delete(key);
    const held = this.#held.get(key);
    if (!held) return;
    held.isCancelled = true;
    this.#done(key, held);
  }

  #begin(): void {
    for (const [key, attempt] of this.#waiting) {
      if (this.#held.size >= this.slots) return;
      this.#waiting.delete(key);
      this.#held.set(key, attempt);
      this.#run(key, attempt);
    }
  }

  #run(key: string, attempt: Attempt): void {
    const { timeline } = this.#world;
    const { dispatch } = attempt;
    timeline.note(`${this.node} runs ${short(dispatch.job)}.${dispatch.attempt}`);
    this.#world.judge.ran(dispatch);
    if (this.#manner === 'silent' && timeline.random.share() < 0.5)
      return timeline.at(dispatch.remaining_ms, () => {
        if (!this.#isAlive) return;
        this.#recent.set(key, bytesOf(failureOf(dispatch, 'deadline', 'its time ran out')));
        this.#done(key, attempt);
      });
    const factor = this.#manner === 'slow' ? 8 : 1;
    const runMs = factor * (20 + timeline.random.share() * timeline.random.pick([100, 1_000, 6_000]));
    timeline.at(Math.min(200, runMs / 2), () => {
      attempt.tokens = 1;
    });
    timeline.at(runMs, () => {
      if (this.#isAlive && !attempt.isCancelled) this.#finish(key, attempt);
    });
  }

  #finish(key: string, attempt: Attempt): void {
    const body = bytesOf(this.#resultOf(attempt.dispatch));
    void this.#send(body, () => {
      this.#recent.set(key, body);
      this.#done(key, attempt);
      if (this.#manner === 'two_faced')
        void this.#send(bytesOf(this.#resultOf(attempt.dispatch)), () => undefined);
    });
  }

  #resultOf(dispatch: DispatchMessage): UnsignedResult {
    const { random } = this.#world.timeline;
    if (this.#manner === 'failing' && random.share() < 0.6) {
      const code = random.pick([
        'model_error',
        'stream_broken',
        'worker_stopped',
        'invalid_request',
      ] as const);
      return failureOf(dispatch, code, 'it went wrong');
    }
    const output_tokens =
      this.#manner === 'greedy' ? 5_000 : random.between(1, dispatch.limits.output_tokens_max);
    return {
      ...failureOf(dispatch, 'model_error', ''),
      status: 'completed',
      output: { text: `t${random.between(0, 1_000_000)}`, finish_reason: 'stop' },
      usage: { input_tokens: random.between(1, dispatch.limits.input_tokens_max), output_tokens },
      error: null,
    };
  }

  #done(key: string, attempt: Attempt): void {
    this.#held.delete(key);
    attempt.delivery.acknowledge();
    this.#begin();
  }

  /** Until it is confirmed, for as long as this session lives. */
  async #send(body: Buffer, onConfirmed: () => void): Promise<void> {
    const { job, attempt }: DispatchMessage = JSON.parse(body.toString());
    const outcome = await this.#connection.publisher.publish({
      exchange: EXCHANGE.results,
      routingKey: RESULT_KEY,
      body,
      messageId: `${job}.${attempt}`,
      mandatory: true,
    });
    if (outcome === 'confirmed') {
      this.#world.judge.returned(body);
      return onConfirmed();
    }
    this.#world.timeline.at(200, () => this.#isAlive && void this.#send(body, onConfirmed));
  }

  #beat(): void {
    if (!this.#isAlive) return;
    this.#speak();
    this.#world.timeline.at(this.#world.config.fleet.heartbeatMs, () => this.#beat());
  }

  #speak(): void {
    this.#seq += 1;
    const pools = [...this.#world.modelsOf(this.node)];
    const message = {
      v: 1,
      kind: 'heartbeat',
      node: this.node,
      session: this.session,
      seq: this.#seq,
      slots_total: this.slots,
      slots_in_use: this.#held.size,
      pools,
      warm_models: pools.slice(0, 1),
      config_version: 0,
      gpu: null,
      leases: [...this.#held.values(), ...this.#waiting.values()]
        .slice(0, this.slots)
        .map(({ dispatch: { job, attempt }, tokens }) => ({ job, attempt, tokens })),
      signature: null,
    };
    void this.#connection.publisher.publish({
      exchange: EXCHANGE.fleet,
      routingKey: 'heartbeat',
      body: Buffer.from(JSON.stringify(message)),
      messageId: `${this.node}.${this.#seq}`,
      mandatory: false,
    });
  }
}

/** A result as it travels. Its signature is nobody's: these nodes are active and the share to check is 0. */
function bytesOf(result: UnsignedResult): Buffer {
  const digest = resultDigest(result).toString('hex');
  return Buffer.from(
    JSON.stringify({ ...result, digest, flush: { digests: [digest], signature: 'c2lnbmVk' } }),
  );
}
