import type { KeyObject } from 'node:crypto';
import type { AmqpBroker } from '../src/broker/connection.ts';
import type { ConsumerChannel, Delivery } from '../src/broker/types.ts';
import { systemClock } from '../src/clock.ts';
import type { DispatchMessage } from '../src/contracts/dispatch.ts';
import { EXCHANGE, nodeQueue, RESULT_KEY } from '../src/contracts/names.ts';
import { newUuidV7 } from '../src/ids.ts';
import type { Log, Service } from '../src/ops/types.ts';
import { FleetVoice } from '../src/workers/agent/fleet-voice.ts';
import { signResults, type UnsignedResult } from '../src/workers/agent/result.ts';
import { WorkLog } from '../src/workers/agent/work-log.ts';

/**
 * How a worker misbehaves: `twice` sends the same result two times; `two_answers` sends two that differ; `late` answers when the
 * job has been given up; `liar` claims more tokens than the job allows; `stall` takes jobs and never answers; `mute` speaks to
 * nobody for a while and works on; `faulty` reports an error.
 */
export const VICES = ['twice', 'two_answers', 'late', 'liar', 'stall', 'mute', 'faulty'] as const;
export type Vice = (typeof VICES)[number];

/** One job in so many meets the vice; of the others, the worker is a good one. */
const VICE_EVERY = 4;
const RUN_MS = 60;
/** Beyond start window, timeout and grace of every job of the load. */
const LATE_MS = 30_000;
/** How long a mute worker speaks, and then does not. */
const SPEAK_MS = 20_000;
const MUTE_MS = 9_000;
const REOPEN_MS = 500;

/** How it presents itself. */
export interface RogueOptions {
  readonly node: string;
  readonly slots: number;
  readonly models: readonly string[];
  readonly heartbeatMs: number;
  readonly logFile: string;
  readonly vice: Vice;
}

/**
 * A worker that keeps no rule: it says hello and heartbeats like any other and signs with its node's key, but answers as its
 * vice has it. It writes the same log as a good one, a line for each `job.attempt` that it ran.
 */
export class RogueWorker implements Service {
  readonly #options: RogueOptions;
  readonly #privateKey: KeyObject;
  readonly #broker: AmqpBroker;
  readonly #log: Log;
  readonly #workLog: WorkLog;
  readonly #session = systemClock.nowMs();
  readonly #voice: FleetVoice;
  /** Held: `job.attempt` → attempt. */
  readonly #held = new Map<string, { readonly job: string; readonly attempt: number }>();
  readonly #seen = new Set<string>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #channel: ConsumerChannel | null = null;
  #taken = 0;
  #isStopped = false;

  constructor(options: RogueOptions, privateKey: KeyObject, broker: AmqpBroker, log: Log) {
    this.#options = options;
    this.#privateKey = privateKey;
    this.#broker = broker;
    this.#log = log;
    this.#workLog = new WorkLog(options.logFile, log);
    const { node, slots, models } = options;
    const identity = { node, session: this.#session, slots_total: slots, pools: [...models], gpu: null };
    this.#voice = new FleetVoice(identity, privateKey, broker, () => {
      const leases = [...this.#held.values()];
      return { slots_in_use: leases.length, leases };
    });
  }

  async start(): Promise<void> {
    await this.#open();
    await this.#voice.say('hello');
    this.#voice.start(this.#options.heartbeatMs);
    if (this.#options.vice === 'mute') this.#speakFor(SPEAK_MS);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#voice.stop();
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#channel?.close();
    await this.#workLog.close();
  }

  async #open(): Promise<void> {
    const { node, slots } = this.#options;
    while (!this.#isStopped) {
      try {
        const channel = await this.#broker.openChannel(() => void this.#open());
        await channel.consume(
          nodeQueue(node),
          slots,
          (delivery) => this.#take(delivery),
          () => void channel.close(),
        );
        this.#channel = channel;
        return;
      } catch (error) {
        this.#log.warn({ node, error: String(error) }, 'a rogue waits');
        await new Promise((resolve) => setTimeout(resolve, REOPEN_MS));
      }
    }
  }

  #speakFor(ms: number): void {
    this.#after(ms, () => {
      this.#voice.stop();
      this.#after(MUTE_MS, () => {
        this.#voice.start(this.#options.heartbeatMs);
        this.#speakFor(SPEAK_MS);
      });
    });
  }

  #take(delivery: Delivery): void {
    const dispatch: DispatchMessage = JSON.parse(delivery.body.toString());
    delivery.acknowledge();
    const key = `${dispatch.job}.${dispatch.attempt}`;
    // Each attempt is run once, and a dispatch of an earlier session not at all: those rules are for good workers, too,
    // and the log is to be believed.
    if (this.#seen.has(key) || dispatch.session !== this.#session) return;
    this.#seen.add(key);
    this.#held.set(key, { job: dispatch.job, attempt: dispatch.attempt });
    const atMs = systemClock.nowMs();
    this.#taken += 1;
    const isBad = this.#taken % VICE_EVERY === 0;
    this.#after(RUN_MS, () => {
      this.#workLog.append({
        received_at_ms: atMs,
        started_at_ms: atMs,
        finished_at_ms: systemClock.nowMs(),
        job: dispatch.job,
        attempt: dispatch.attempt,
        node: this.#options.node,
        session: this.#session,
      });
      this.#answer(dispatch, isBad ? this.#options.vice : null);
    });
  }

  #answer(dispatch: DispatchMessage, vice: Vice | null): void {
    const key = `${dispatch.job}.${dispatch.attempt}`;
    if (vice !== 'stall' && vice !== 'late') this.#held.delete(key);
    if (vice === 'stall') return this.#after(LATE_MS, () => this.#held.delete(key));
    if (vice === 'late')
      return this.#after(LATE_MS, () => {
        this.#held.delete(key);
        this.#send(resultOf(dispatch, {}));
      });
    if (vice === 'faulty')
      return this.#send(
        resultOf(dispatch, {
          status: 'failed',
          output: null,
          error: { code: 'model_unreachable', message: 'no model' },
        }),
      );
    const usage = vice === 'liar' ? { input_tokens: 900_000, output_tokens: 900_000 } : undefined;
    const first = resultOf(dispatch, usage === undefined ? {} : { usage });
    this.#send(first);
    if (vice === 'twice') this.#send(first);
    if (vice === 'two_answers')
      this.#send(resultOf(dispatch, { output: { text: 'another answer', finish_reason: 'stop' } }));
  }

  #send(result: UnsignedResult): void {
    const [signed] = signResults([result], this.#privateKey);
    const body = Buffer.from(JSON.stringify(signed));
    void this.#publish(body);
  }

  /** Unlike its manners, its persistence is good: without it every fault of the broker would be a stall. */
  async #publish(body: Buffer): Promise<void> {
    const outcome = await this.#broker.publisher.publish({
      exchange: EXCHANGE.results,
      routingKey: RESULT_KEY,
      body,
      messageId: newUuidV7(),
      mandatory: true,
    });
    if (outcome !== 'confirmed') this.#after(REOPEN_MS, () => void this.#publish(body));
  }

  #after(ms: number, call: () => void): void {
    if (this.#isStopped) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      call();
    }, ms);
    this.#timers.add(timer);
  }
}

function resultOf(message: DispatchMessage, change: Partial<UnsignedResult>): UnsignedResult {
  const { job, attempt, node, session, model_version } = message;
  return {
    v: 1,
    job,
    attempt,
    node,
    session,
    model_version,
    status: 'completed',
    output: { text: `an answer for ${job}`, finish_reason: 'stop' },
    usage: { input_tokens: 5, output_tokens: 3 },
    timing: { queued_ms: 1, first_token_ms: 2, total_ms: 5 },
    tokens: null,
    gpu: null,
    evaluation: null,
    error: null,
    ...change,
  };
}
