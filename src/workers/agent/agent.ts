import type { Broker, ConsumerChannel, Consumption, Delivery, PublishOutcome } from '../../broker/types.ts';
import type { Clock } from '../../clock.ts';
import { ControlMessage, DispatchMessage } from '../../contracts/dispatch.ts';
import { controlQueue, nodeQueue } from '../../contracts/names.ts';
import { BODY_BYTES_MAX, parserOf } from '../../contracts/parse.ts';
import { ConfigError, StoreError, TollgateError } from '../../errors.ts';
import type { Log, Service } from '../../ops/types.ts';
import { Attempts, keyOf } from './attempts.ts';
import { FleetVoice } from './fleet-voice.ts';
import { parseNodeKey } from './keys.ts';
import { ModelClient } from './model-client.ts';
import { faultsOf, type WorkerAgentOptions } from './options.ts';
import { ResultOutbox } from './outbox.ts';
import { RecentResults } from './recent-results.ts';
import { WorkLog } from './work-log.ts';

/** What a worker tells whoever listens, so that tests wait for facts and not for time. Listeners must not throw. */
export interface WorkerSignals {
  /** It presented itself to the coordinators, after a connection was made or when asked to. */
  readonly said?: (outcome: PublishOutcome) => void;
  /** A dispatch came, whatever becomes of it; `key` is `<job>.<attempt>`. */
  readonly dispatchReceived?: (key: string) => void;
  readonly dispatchMalformed?: () => void;
  readonly resultPublished?: (key: string, outcome: PublishOutcome) => void;
}

/** Room for a dispatch around an input that came in a job of the greatest size. */
const parseDispatch = parserOf(DispatchMessage, 2 * BODY_BYTES_MAX);
const parseControl = parserOf(ControlMessage);

const CONTROL_PREFETCH = 10;
const RECONNECT_MS_MIN = 50;
const RECONNECT_MS_MAX = 5_000;
/** After `drainMs`, what was cut off has this long to be reported. */
const LAST_WORDS_MS = 2_000;

/**
 * A worker: what runs on a node. It knows RabbitMQ and its model servers, nothing else. States:
 * new → serving ⇄ away (the broker is gone; running attempts go on) → draining → stopped, and never back: a new start is a
 * new session. The queue's prefetch is `slots`, which caps it whatever a coordinator believes.
 */
export class WorkerAgent implements Service {
  readonly session: number;
  /** Resolves when it has stopped: by `stop`, or by itself because a newer session of the node took over. */
  readonly ended: Promise<'stopped' | 'superseded'>;
  readonly #options: WorkerAgentOptions;
  readonly #broker: Broker;
  readonly #log: Log;
  readonly #signals: WorkerSignals;
  readonly #client: ModelClient;
  readonly #workLog: WorkLog | null;
  readonly #outbox: ResultOutbox;
  readonly #attempts: Attempts;
  readonly #voice: FleetVoice;
  readonly #end = Promise.withResolvers<'stopped' | 'superseded'>();
  #channel: ConsumerChannel | null = null;
  #dispatches: Consumption | null = null;
  #serving: Promise<void> | null = null;
  #stopping: Promise<void> | null = null;
  #isStarted = false;
  #isDraining = false;
  #isSuperseded = false;
  #endPause: () => void = () => {};
  #endSubscription: () => void = () => {};

  /** Throws ConfigError with all faults of the options. `broker` stays the caller's, who starts it before and stops it after. */
  constructor(
    options: WorkerAgentOptions,
    clock: Clock,
    log: Log,
    broker: Broker,
    signals: WorkerSignals = {},
  ) {
    const faults = faultsOf(options);
    if (faults.length > 0) throw new ConfigError(faults);
    const { node, slots, privateKey: key, gpu = null } = options;
    const privateKey = typeof key === 'string' ? parseNodeKey(key, 'privateKey') : key;
    this.session = options.session ?? clock.nowMs();
    this.ended = this.#end.promise;
    this.#options = options;
    this.#broker = broker;
    this.#log = log.child({ node, session: this.session });
    this.#signals = signals;
    this.#client = new ModelClient(slots, clock);
    this.#workLog = options.logFile === undefined ? null : new WorkLog(options.logFile, this.#log);
    this.#outbox = new ResultOutbox(privateKey, this.#log, broker, (attempt, outcome) =>
      signals.resultPublished?.(attempt, outcome),
    );
    const models = new Map(options.models.map((model) => [model.name, model]));
    this.#attempts = new Attempts(
      { slots, models, gpu, workLog: this.#workLog },
      clock,
      this.#client,
      this.#outbox,
      new RecentResults({
        resultsMax: options.recentResultsMax ?? 1_000,
        bytesMax: options.recentBytesMax ?? 16_777_216,
      }),
    );
    const identity = { node, session: this.session, slots_total: slots, pools: [...models.keys()], gpu };
    this.#voice = new FleetVoice(identity, privateKey, broker, () => {
      const { leases } = this.#attempts;
      return { slots_in_use: leases.length, leases };
    });
  }

  /** Resolves when it consumes its queues and has said hello; waits for as long as the broker or the queues are not there. */
  async start(): Promise<void> {
    if (this.#stopping !== null) return;
    if (!this.#isStarted) {
      this.#isStarted = true;
      this.#endSubscription = this.#broker.onChange((isUp) => this.#noteBroker(isUp));
      this.#voice.start(this.#options.heartbeatMs ?? 5_000);
      this.#serve();
    }
    await this.#serving;
  }

  /**
   * Says drain, hands back what it has not begun, finishes what it holds within `drainMs` (the rest is reported as
   * `worker_stopped`), says bye. Resolves when nothing of it is left.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    if (this.#isStarted) await this.#leave();
    this.#voice.stop();
    this.#endSubscription();
    this.#outbox.close();
    this.#client.close();
    await this.#workLog?.close();
    this.#log.info({ isSuperseded: this.#isSuperseded }, 'stopped');
    this.#end.resolve(this.#isSuperseded ? 'superseded' : 'stopped');
  }

  async #leave(): Promise<void> {
    this.#endPause();
    await this.#drain();
    if (!(await this.#attempts.idle(this.#options.drainMs ?? 20_000))) {
      this.#log.warn({}, 'the drain time is over: what still runs is cut off');
      this.#attempts.stopAll();
      await this.#attempts.idle(LAST_WORDS_MS);
    }
    this.#voice.stop();
    if (!this.#isSuperseded) await this.#voice.say('bye');
    await this.#serving;
    await this.#channel?.close();
  }

  /** Takes no more work, and says so unless a newer session speaks for the node. What it holds goes on. */
  async #drain(): Promise<void> {
    this.#isDraining = true;
    this.#attempts.beginNoMore();
    if (!this.#isSuperseded) void this.#voice.say('drain');
    await this.#dispatches?.cancel();
    this.#dispatches = null;
    // Before, the broker would bring it here again.
    this.#attempts.handBackWaiting();
  }

  #supersede(by: number | null): void {
    if (this.#isSuperseded) return;
    this.#isSuperseded = true;
    this.#log.warn({ by }, 'a newer session of this node is alive: this one stops');
    void this.stop();
  }

  #noteBroker(isUp: boolean): void {
    if (!isUp) return;
    // With the channel gone as well, hello is said once the queues are consumed again.
    if (this.#channel === null) this.#endPause();
    else void this.#sayHello();
  }

  async #sayHello(): Promise<void> {
    if (this.#isSuperseded) return;
    const outcome = await this.#voice.say(this.#isDraining ? 'drain' : 'hello');
    this.#signals.said?.(outcome);
  }

  /** Opens the channel, consumes and says hello, again and again until it worked. One runs at a time. */
  #serve(): void {
    this.#serving ??= this.#openUntilDone().finally(() => {
      this.#serving = null;
      // It may have gone again between the last step and here.
      if (this.#channel === null && this.#stopping === null) this.#serve();
    });
  }

  async #openUntilDone(): Promise<void> {
    let pauseMs = RECONNECT_MS_MIN;
    while (this.#channel === null && this.#stopping === null) {
      try {
        await this.#open();
        await this.#sayHello();
      } catch (error) {
        if (!(error instanceof TollgateError)) throw error;
        // The broker is away, or the queues are not declared yet, or the permissions are not set yet.
        this.#log.warn({ error }, 'cannot serve yet');
        await this.#pause(pauseMs);
        pauseMs = Math.min(pauseMs * 2, RECONNECT_MS_MAX);
      }
    }
  }

  async #open(): Promise<void> {
    const { node, slots } = this.#options;
    let isGone = false;
    const lost = () => {
      if (isGone) return;
      isGone = true;
      if (this.#channel === channel) this.#channelLost();
    };
    const channel = await this.#broker.openChannel(lost);
    // The broker ended a consumer, because its queue was deleted: it will be declared again.
    const cancelled = () => {
      lost();
      void channel.close();
    };
    try {
      const control = controlQueue(node);
      await channel.consume(control, CONTROL_PREFETCH, (delivery) => this.#onControl(delivery), cancelled);
      const dispatches = this.#isDraining
        ? null
        : await channel.consume(nodeQueue(node), slots, (delivery) => this.#onDispatch(delivery), cancelled);
      if (isGone) throw new StoreError('rabbitmq', 'the channel went while it was set up');
      this.#channel = channel;
      this.#dispatches = dispatches;
      // A drain that began meanwhile found no consumer to cancel.
      if (this.#isDraining) await dispatches?.cancel();
    } catch (error) {
      isGone = true;
      await channel.close();
      this.#attempts.dropWaiting();
      throw error;
    }
  }

  #channelLost(): void {
    this.#channel = null;
    this.#dispatches = null;
    this.#attempts.dropWaiting();
    if (this.#stopping === null) this.#serve();
  }

  #onDispatch(delivery: Delivery): void {
    if (this.#isDraining) {
      delivery.requeue();
      return;
    }
    const dispatch = this.#readDispatch(delivery);
    if (dispatch === null) {
      delivery.acknowledge();
      this.#signals.dispatchMalformed?.();
      return;
    }
    if (dispatch.session > this.session) {
      // It is the newer session's, which consumes the same queue: to answer it as stale would end a good job.
      delivery.requeue();
      this.#supersede(dispatch.session);
    } else if (dispatch.session < this.session) {
      this.#attempts.answerStale(dispatch, delivery);
    } else {
      this.#attempts.take(dispatch, delivery);
    }
    this.#signals.dispatchReceived?.(keyOf(dispatch));
  }

  /** Null for what no coordinator of this version sends: nobody could be answered, and a repeat would not help. */
  #readDispatch(delivery: Delivery): DispatchMessage | null {
    const parsed = parseDispatch(delivery.body);
    if (!parsed.ok) {
      this.#log.error({ code: parsed.fault.code, field: parsed.fault.field }, 'a dispatch is malformed');
      return null;
    }
    if (parsed.value.node === this.#options.node) return parsed.value;
    this.#log.error({ for: parsed.value.node }, 'a dispatch is for another node');
    return null;
  }

  #onControl(delivery: Delivery): void {
    const parsed = parseControl(delivery.body);
    if (!parsed.ok) {
      this.#log.error({ code: parsed.fault.code }, 'a control message is malformed');
      delivery.acknowledge();
      return;
    }
    const { session } = parsed.value;
    if (session === this.session) {
      delivery.acknowledge();
      this.#obey(parsed.value);
      return;
    }
    // Another session's, which may consume the same queue: handed on once.
    if (delivery.redelivered) delivery.acknowledge();
    else delivery.requeue();
    if (session > this.session) this.#supersede(session);
  }

  #obey({ kind, job, attempt }: ControlMessage): void {
    switch (kind) {
      case 'cancel':
        if (job !== undefined && attempt !== undefined) this.#attempts.cancel(keyOf({ job, attempt }));
        break;
      case 'drain':
        void this.#drain();
        break;
      case 'superseded':
        this.#supersede(null);
        break;
      case 'hello_again':
        void this.#sayHello();
        break;
      case 'config':
        // Nothing of a worker is configured from afar yet.
        break;
    }
  }

  /** Ends early when the broker comes back or the worker is stopped. */
  #pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    this.#endPause = resolve;
    return promise.finally(() => clearTimeout(timer));
  }
}
